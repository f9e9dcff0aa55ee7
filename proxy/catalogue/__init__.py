"""The shipped facts about models (floor 2, adapter): config/prices.json with config/models.yaml laid over it.

Reads two files at a start and nothing afterwards. Rows stay as they were parsed until somebody asks for one, because
there are two thousand of them and a gateway uses a handful. Which price beats which (routes.yaml over the catalogue) is
not decided here.
"""

from __future__ import annotations

from proxy.catalogue.corrections import read_corrections
from proxy.catalogue.rows import ProviderRows
from proxy.catalogue.shipped import find_config_dir, load_catalogue

__all__ = ["ProviderRows", "find_config_dir", "load_catalogue", "read_corrections"]
