#!/bin/sh
# Makes .venv and installs Toril into it: scripts/setup.sh EXTRAS [GROUP...]
# e.g. `scripts/setup.sh demo dev` installs `.[demo]` and the dependency group `dev`.
# uv is used when it is there. Python 3.11 or newer is all that must exist before.
set -eu

venv=.venv
need='import sys; sys.exit(sys.version_info < (3, 11))'

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

find_python() {
    # A name that was asked for is not silently replaced by another.
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if path=$(command -v "$name" 2>/dev/null) && "$path" -c "$need" >/dev/null 2>&1; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

no_python() {
    found=$("${PYTHON:-python3}" --version 2>/dev/null) || found="no ${PYTHON:-python3} that runs"
    if [ "$(uname -s)" = Darwin ]; then
        hint='brew install python@3.13'
    elif command -v apt-get >/dev/null 2>&1; then
        hint='sudo apt-get install python3 python3-venv   (Ubuntu 22.04: python3.11 python3.11-venv)'
    else
        hint='install Python 3.11 or newer with your package manager'
    fi
    fail "expected Python 3.11 or newer, found $found." "Do: $hint, then run make again (or name one: make PYTHON=/path/to/python3)."
}

# Debian and Ubuntu ship Python without the part that `python3 -m venv` needs.
ensure_venv_module() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 && return 0
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if command -v apt-get >/dev/null 2>&1; then
        as_root=
        [ "$(id -u)" = 0 ] || as_root='sudo -n'
        if [ -z "$as_root" ] || sudo -n true >/dev/null 2>&1; then
            say "installing $package, which this Python lacks"
            $as_root apt-get update -qq </dev/null >/dev/null 2>&1 || true
            $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" </dev/null >/dev/null 2>&1 || true
            "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 && return 0
        fi
        fail "expected $1 to have the venv module, found it without." "Do: sudo apt-get install $package, then run make again."
    fi
    fail "expected $1 to have the venv and ensurepip modules, found it without." \
        "Do: install a complete Python 3.11 or newer (macOS: brew install python@3.13), then run make again."
}

make_venv() {
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c "$need" 2>/dev/null; then
        return 0
    fi
    rm -rf "$venv"
    if [ -n "$uv" ] && "$uv" venv --quiet --python "${PYTHON:->=3.11}" "$venv" </dev/null; then
        return 0
    fi
    python=$(find_python) || no_python
    ensure_venv_module "$python"
    say "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
}

install() {
    target=".[$1]"
    shift
    groups=
    for group in "$@"; do groups="$groups --group $group"; done
    # shellcheck disable=SC2086  # $groups holds several words on purpose
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python "$venv/bin/python" -e "$target" $groups </dev/null
        return
    fi
    # `pip install --group` came with pip 25.1; a fresh venv often has an older one.
    if ! "$venv/bin/python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' 2>/dev/null; then
        "$venv/bin/python" -m ensurepip --upgrade >/dev/null 2>&1 || true
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1' </dev/null
    fi
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --root-user-action=ignore -e "$target" $groups </dev/null
}

cd "$(dirname "$0")/.."
[ $# -ge 1 ] || fail "expected extras and dependency groups, found no argument. Do: scripts/setup.sh demo dev"
uv=$(command -v uv || true)
make_venv
say "installing $* into $venv"
install "$@"
