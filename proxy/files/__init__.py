"""YAML and environment to a routing table, and its renewal when they change (floor 2).

The only package that reads routes.yaml, `.env` and config/providers.yaml. It logs nothing and keeps no state besides
`RoutesFile`, which holds one table behind one reference.
"""

from __future__ import annotations

from proxy.files.loading import DEFAULT_PATH, config_folder, load_table
from proxy.files.schema import routes_schema
from proxy.files.units import parse_count, parse_duration_s
from proxy.files.watching import RoutesFile

__all__ = [
    "DEFAULT_PATH",
    "RoutesFile",
    "config_folder",
    "load_table",
    "parse_count",
    "parse_duration_s",
    "routes_schema",
]
