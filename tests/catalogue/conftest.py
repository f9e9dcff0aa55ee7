"""The catalogues the tests look into."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.catalogue import load_catalogue
from proxy.routing.table import Catalogue
from tests.catalogue.made import write


@pytest.fixture
def small(tmp_path: Path) -> Catalogue:
    """A catalogue of a few rows, one of each kind."""
    return load_catalogue(write(tmp_path))


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    """The catalogue as it is in the repository."""
    return load_catalogue()
