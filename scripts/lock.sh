#!/bin/sh
# Writes requirements*.lock anew from pyproject.toml, and the test clients' from the .in beside them: every package
# pinned with all its hashes, for Python 3.11 to 3.13 at once, naming no index, no host and no path. Needs uv on the
# PATH, and npm for package-lock.json. `--upgrade` as argument lifts the pins.
set -eu
cd "$(dirname "$0")/.."

compile() {
    out=$1
    shift
    uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --output-file "$out" "$@"
    printf '# Written by scripts/lock.sh from %s: every package with its hashes. Do not edit.\n' "$source" |
        cat - "$out" >"$out.new"
    mv "$out.new" "$out"
}

source=pyproject.toml
compile requirements.lock "$@" pyproject.toml
compile requirements-dev.lock "$@" --group dev --constraint requirements.lock pyproject.toml
compile requirements-pip.lock "$@" --group pyproject.toml:pip
compile requirements-build.lock "$@" --group pyproject.toml:build --constraint requirements-dev.lock \
    --constraint requirements-pip.lock
compile requirements-mutants.lock "$@" --group pyproject.toml:mutants --constraint requirements-dev.lock

for source in tests/clients/requirements-*.in; do
    compile "${source%.in}.lock" "$@" "$source"
done

# The versions of package.json are exact; `npm ci` checks the hashes, and no address is kept.
(cd tests/clients && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund)
