#!/bin/sh
# Sees to it that a redis-server is on the PATH for the tests, which start their own on free ports: scripts/redis.sh
# On Debian and Ubuntu it is installed when that needs no password. Without one the tests that need it are skipped, and
# say so; with CI=true they fail instead.
set -eu

say() { printf 'redis: %s\n' "$*" >&2; }

! command -v redis-server >/dev/null 2>&1 || exit 0
if command -v apt-get >/dev/null 2>&1; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    if [ -z "$as_root" ] || sudo -n true >/dev/null 2>&1; then
        say 'installing redis-server, which the tests of the Redis engine start'
        # Where services are started by Debian's scripts, RUNLEVEL=1 keeps this one from being: the tests bring their own.
        $as_root apt-get update -qq </dev/null >/dev/null 2>&1 || true
        $as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends redis-server </dev/null >/dev/null 2>&1 || true
    fi
fi
command -v redis-server >/dev/null 2>&1 && exit 0
say 'expected redis-server on the PATH, found none: the tests of the Redis engine cannot run.'
if [ "$(uname -s)" = Darwin ]; then
    say 'Do: brew install redis, then run make again.'
else
    say 'Do: sudo apt-get install redis-server (or your package manager), then run make again.'
fi
[ "${CI:-}" != true ] || exit 1
