#!/bin/sh
# Makes .clients/NAME/ for every tests/clients/requirements-NAME.lock: one environment for each SDK (or generation of
# one) that the tests of this folder run. `make test` calls it after `make setup`, whose Python and pip it uses.
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

build() {
    "$python" -m venv --without-pip "$draft" || return 1
    # The lock is complete, so pip has nothing to resolve; the hashes are checked all the same.
    "$python" -m pip --python "$draft/bin/python" install --quiet --no-input --no-compile --no-deps \
        --require-hashes --requirement "$1"
}

mkdir -p .clients
version=$("$python" -VV)
for lock in tests/clients/requirements-*.lock; do
    name=${lock##*/requirements-}
    name=${name%.lock}
    place=.clients/$name
    key=$({ printf '%s' "$version"; cat "$lock" tests/clients/setup.sh; } | cksum)
    if [ "$(cat "$place/.ready" 2>/dev/null)" = "$key" ] && "$place/bin/python" -c '' 2>/dev/null; then
        continue
    fi
    printf 'turnpike: installing %s into %s/; this takes a moment, once\n' "${lock##*/}" "$place"
    build "$lock" || fail "could not install ${lock##*/}; the reason stands above"
    printf '%s\n' "$key" >"$draft/.ready"
    rm -rf "$place"
    mv "$draft" "$place"
done
