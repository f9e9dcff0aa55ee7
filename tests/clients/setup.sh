#!/bin/sh
# Makes .clients/NAME/ for every tests/clients/requirements-NAME.lock: one environment for clients whose pins agree, that
# the tests of this folder run; and .clients/node/ from package-lock.json, for which node and npm must be there. `make
# test` calls it after `make setup`, whose Python and pip it uses.
#
# Writes .clients/ of this checkout, and pip's own cache where it may. A finished environment holds the checksum of what
# it was made from; it is made anew only when that changes.
set -eu
cd "$(dirname "$0")/../.."
python=.venv/bin/python

fail() {
    printf 'turnpike: %s\n' "$1" >&2
    exit 2
}

[ -x "$python" ] || fail 'the test clients need .venv/ first: make setup'

# Settings of the user's pip that would put packages elsewhere, or refuse hashed locks; as in scripts/build_venv.py.
unset PIP_CONSTRAINT PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_ROOT PIP_TARGET PYTHONHOME PYTHONPATH
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Built beside its place and moved there whole, so that nobody meets half an environment; only its bin/python is ever
# run, and that one does not mind being moved.
draft=.clients/.draft-$$
trap 'rm -rf "$draft"' EXIT
trap 'exit 1' HUP INT TERM

build_python() {
    "$python" -m venv --without-pip "$draft" || return 1
    # The lock is complete, so pip has nothing to resolve; the hashes are checked all the same.
    "$python" -m pip --python "$draft/bin/python" install --quiet --no-input --no-compile --no-deps \
        --require-hashes --requirement "$1"
}

build_node() {
    mkdir "$draft" && cp tests/clients/package.json "$1" "$draft" || return 1
    # Installs exactly what the lock says, checks its hashes and runs no script of any package.
    (cd "$draft" && npm ci --loglevel=error --no-audit --no-fund --no-update-notifier --ignore-scripts >/dev/null)
}

# make_place NAME LOCK KEY PROBE COMMAND: have COMMAND make the environment, unless one of that key is there and works.
make_place() {
    place=.clients/$1
    if [ "$(cat "$place/.ready" 2>/dev/null)" = "$3" ] && [ -e "$place/$4" ]; then
        return
    fi
    printf 'turnpike: installing %s into %s/; this takes a moment, once\n' "${2##*/}" "$place"
    "$5" "$2" || fail "could not install ${2##*/}; the reason stands above"
    printf '%s\n' "$3" >"$draft/.ready"
    rm -rf "$place"
    mv "$draft" "$place"
}

mkdir -p .clients
version=$("$python" -VV)
for lock in tests/clients/requirements-*.lock; do
    name=${lock##*/requirements-}
    key=$({ printf '%s' "$version"; cat "$lock" tests/clients/setup.sh; } | cksum)
    make_place "${name%.lock}" "$lock" "$key" bin/python build_python
done

lock=tests/clients/package-lock.json
[ -f "$lock" ] || exit 0
if command -v node >/dev/null && command -v npm >/dev/null; then
    key=$({ node --version; cat "$lock" tests/clients/package.json tests/clients/setup.sh; } | cksum)
    make_place node "$lock" "$key" node_modules build_node
else
    printf 'turnpike: node and npm are not installed: the tests of JavaScript clients are skipped\n' >&2
fi
