"""Facts about models (floor 2, adapter): config/prices.json with config/models.yaml and fetched prices laid over it.

Reads files when it is loaded or renewed, never for a request. Rows stay as they were parsed until somebody asks for
one, because there are two thousand of them and a gateway uses a handful. Which price beats which (routes.yaml over the
catalogue) is not decided here.
"""

from __future__ import annotations

from proxy.catalogue.corrections import read_corrections
from proxy.catalogue.live import LiveCatalogue
from proxy.catalogue.refreshed import (
    REFRESHED_FILE,
    Listing,
    RefreshedError,
    read_refreshed,
    take_listing,
    write_refreshed,
)
from proxy.catalogue.rows import ProviderRows
from proxy.catalogue.shipped import find_config_dir, load_catalogue

__all__ = [
    "REFRESHED_FILE",
    "Listing",
    "LiveCatalogue",
    "ProviderRows",
    "RefreshedError",
    "find_config_dir",
    "load_catalogue",
    "read_corrections",
    "read_refreshed",
    "take_listing",
    "write_refreshed",
]
