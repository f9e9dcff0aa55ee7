"""The `turnpike` command (floor 7): reads flags, asks the lower floors, prints; it decides nothing itself.

Modules of commands are imported when their command runs: `turnpike --help` loads no server, `serve` no tables.
"""
