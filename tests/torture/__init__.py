"""Promises of reliability held against the real server under load: `python -m tests.torture [RUN ...] [--json]`.

Each run starts `turnpike serve`, does it harm, and judges from outside: by what clients and upstreams saw and by
reading the data folder with SQLite alone. Only `machine`, `holds`, `power` and `upgrade` import `proxy`. Short forms of
the runs are ordinary tests, most in tests/behaviours; what they measure is written down in docs/torture.md.
"""
