"""YAML and environment to a routing table, and its renewal when they change (floor 2).

The only package that reads routes.yaml, `.env` and config/providers.yaml. It logs nothing and keeps no state besides
`RoutesFile`, which holds one table behind one reference.
"""

from __future__ import annotations

from proxy.files.environment import read_dotenv
from proxy.files.limits import list_zones
from proxy.files.loading import DEFAULT_PATH, DOTENV, config_folder, load_table
from proxy.files.schema import routes_schema
from proxy.files.units import parse_count, parse_duration_s, parse_pause_s, parse_rate
from proxy.files.values import read_params
from proxy.files.watching import RoutesFile

__all__ = [
    "DEFAULT_PATH",
    "DOTENV",
    "RoutesFile",
    "config_folder",
    "list_zones",
    "load_table",
    "parse_count",
    "parse_duration_s",
    "parse_pause_s",
    "parse_rate",
    "read_dotenv",
    "read_params",
    "routes_schema",
]
