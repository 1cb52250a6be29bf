#!/bin/sh
# Sees to it that PostgreSQL's server programs are there for the tests of the outbox, which start their own on free ports:
# scripts/postgresql.sh. On Debian and Ubuntu they are installed when that needs no password. Without them the tests that
# need them are skipped, and say so; with CI=true they fail instead.
set -eu

say() { printf 'postgresql: %s\n' "$*" >&2; }
found() { command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }

! found || exit 0
if command -v apt-get >/dev/null 2>&1; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    if [ -z "$as_root" ] || sudo -n true >/dev/null 2>&1; then
        say 'installing postgresql, which the tests of the outbox start'
        $as_root apt-get update -qq </dev/null >/dev/null 2>&1 || true
        # Where services are started by Debian's scripts, RUNLEVEL=1 keeps this one from being: the tests bring their own.
        $as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends postgresql </dev/null >/dev/null 2>&1 || true
    fi
fi
! found || exit 0
say 'expected initdb on the PATH or under /usr/lib/postgresql, found none: tests of the outbox cannot run.'
if [ "$(uname -s)" = Darwin ]; then
    say 'Do: brew install postgresql, then run make again.'
else
    say 'Do: sudo apt-get install postgresql (or your package manager), then run make again.'
fi
[ "${CI:-}" != true ] || exit 1
