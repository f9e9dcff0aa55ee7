#!/bin/sh
# Writes requirements*.lock anew from pyproject.toml: every package pinned with all its hashes, for Python 3.11 to 3.13
# at once, naming no index, no host and no path. Needs uv on the PATH. `--upgrade` as argument lifts the pins.
set -eu
cd "$(dirname "$0")/.."

compile() {
    out=$1
    shift
    uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --output-file "$out" "$@"
    printf '%s\n' '# Written by scripts/lock.sh from pyproject.toml: every package with its hashes. Do not edit.' |
        cat - "$out" >"$out.new"
    mv "$out.new" "$out"
}

compile requirements.lock "$@" pyproject.toml
compile requirements-dev.lock "$@" --group dev --constraint requirements.lock pyproject.toml
compile requirements-pip.lock "$@" --group pyproject.toml:pip
compile requirements-mutants.lock "$@" --group pyproject.toml:mutants --constraint requirements-dev.lock
