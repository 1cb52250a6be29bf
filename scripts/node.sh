#!/bin/sh
# Sees to it that node and npm are on the PATH for the tests with real BullMQ peers: scripts/node.sh
# On Debian and Ubuntu they are installed when that needs no password. Without them the tests that need them are
# skipped, and say so; with CI=true they fail instead. The packages themselves are installed by the tests.
set -eu

say() { printf 'node: %s\n' "$*" >&2; }
found() { command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; }

! found || exit 0
if command -v apt-get >/dev/null 2>&1; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    if [ -z "$as_root" ] || sudo -n true >/dev/null 2>&1; then
        say 'installing nodejs and npm, which the tests with real BullMQ peers run'
        $as_root apt-get update -qq </dev/null >/dev/null 2>&1 || true
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends nodejs npm </dev/null >/dev/null 2>&1 || true
    fi
fi
! found || exit 0
say 'expected node and npm on the PATH, found none: the tests with real BullMQ peers cannot run.'
if [ "$(uname -s)" = Darwin ]; then
    say 'Do: brew install node, then run make again.'
else
    say 'Do: sudo apt-get install nodejs npm (or your package manager), then run make again.'
fi
[ "${CI:-}" != true ] || exit 1
