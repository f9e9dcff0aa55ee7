#!/bin/sh
# Makes .venv/ from requirements-dev.lock, or, given the name of another lock, adds that lock's packages to it.
#
# Needs a Python with the venv module and an index (or find-links, or a cache) that pip can reach; nothing else: no git,
# no compiler. Downloads no Python. Writes .venv/ and .cache/ of this checkout, and pip's own cache where it may.
# PYTHON=... chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
lock=${1:-requirements-dev.lock}
stamp=.venv/.ready-$lock

fail() {
    printf 'turnpike: %s\n' "$1" >&2
    exit 2
}

# What .venv/ is made of: another lock, another project table, or another place of the checkout needs another .venv/.
key=$({ pwd; cat "$lock" requirements-pip.lock scripts/setup.sh scripts/build_venv.py; sed '/^\[tool/,$d' pyproject.toml; } | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

# The first that runs, is new enough and can make an environment. A name may be a shim that leads nowhere: try the next.
python='' old='' bare=''
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    version=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        old="$old $candidate is $version;"
    elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        bare=${bare:-$version}
    else
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    if [ -n "$bare" ]; then
        fail "Python $bare lacks its venv module; on Debian and Ubuntu: apt install python${bare%.*}-venv"
    elif [ -n "$old" ]; then
        fail "Python 3.11 or newer is needed, but$old install a newer one, or name it: make setup PYTHON=/path/to/python3"
    else
        fail "Python 3.11 or newer is needed, and none of ${PYTHON:-python3 python3.13 python3.12 python3.11} runs here"
    fi
fi
exec "$python" scripts/build_venv.py "$lock" "$stamp" "$key"
