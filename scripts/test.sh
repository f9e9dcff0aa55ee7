#!/bin/sh
# All tests, on every core. Real clients need minutes to be installed once and then mostly wait for servers, so they go beside the rest;
# what they said follows behind it. With arguments: pytest with these. COVERAGE=1 measures what is taken.
set -u
python=.venv/bin/python
clients_setup=tests/clients/setup.sh
log=.cache/clients.log
cover=${COVERAGE:+--cov --cov-report=}

if [ $# -gt 0 ]; then
    [ ! -f "$clients_setup" ] || sh "$clients_setup" || exit 1
    exec "$python" -m pytest $cover "$@"
fi

mkdir -p .cache
{ sh "$clients_setup" && exec "$python" -m pytest tests/clients; } >"$log" 2>&1 &
clients=$!
trap 'kill "$clients" 2>/dev/null; exit 130' INT TERM
"$python" -m pytest -n auto --maxprocesses 8 --dist worksteal $cover --ignore=tests/clients
status=$?
wait "$clients" || status=1
cat "$log"
exit "$status"
