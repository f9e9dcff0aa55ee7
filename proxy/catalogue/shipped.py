"""config/prices.json and what is laid over it, as one catalogue (part of `catalogue`, floor 2)."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import orjson

from proxy.catalogue.corrections import Corrections, Direct, Row, read_corrections
from proxy.catalogue.faults import make_fault, read_text
from proxy.catalogue.live import LiveCatalogue
from proxy.catalogue.refreshed import Refreshed
from proxy.catalogue.rows import OPENROUTER, PRICES_FILE, ProviderRows
from proxy.clock import Clock, SystemClock

MODELS_FILE = "models.yaml"

_NO_ROW: Row = {}


def load_catalogue(
    config_dir: Path | None = None, *, refreshed: Path | None = None, clock: Clock | None = None
) -> LiveCatalogue:
    """Read the shipped facts; raises `ConfigError` naming file, place and remedy when a file is missing or broken.

    `refreshed` is where prices fetched since are kept; they count only once `renew` is told so.
    """
    folder = config_dir or find_config_dir()
    shipped = _read_shipped(folder / PRICES_FILE)
    corrected = read_corrections(folder / MODELS_FILE)

    def build(day: date, fetched: Refreshed | None) -> dict[str, ProviderRows]:
        return build_providers(shipped, corrected, day=day, fetched=fetched)

    return LiveCatalogue(build, shipped_as_of=shipped["as_of"], refreshed=refreshed, clock=clock or SystemClock())


def build_providers(
    shipped: Row, corrected: Corrections, *, day: date, fetched: Refreshed | None = None
) -> dict[str, ProviderRows]:
    """Lay prices fetched since, and what models.yaml says of a day, over what shipped."""
    providers: dict[str, ProviderRows] = {}
    for name in dict.fromkeys((*shipped["providers"], *corrected.rows)):
        section = shipped["providers"].get(name, {})
        corrections = corrected.rows_on(name, day)
        newer = fetched.rows if fetched is not None and name == OPENROUTER else {}
        providers[name] = ProviderRows(
            name=name,
            rows={**dict.fromkeys(corrections, _NO_ROW), **section.get("models", {}), **newer},
            source=section.get("source", shipped["source"]),
            as_of=section.get("as_of", shipped["as_of"]),
            corrections=corrections,
            fallbacks=tuple(section.get("fallbacks", ())),
            families=corrected.families.get(name, ()),
            direct=corrected.direct if name == OPENROUTER else Direct(),
            providers=providers,
        )
    return providers


def find_config_dir() -> Path:
    """Find the shipped config folder: in the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "config"
    return installed if installed.is_dir() else package.parent / "config"


def _read_shipped(path: Path) -> Row:
    """Read prices.json, which is written by a program and only checked for being what it writes."""
    text = read_text(path, "`make prices` writes it")
    try:
        shipped: Row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise make_fault(
            path, f"{error.msg}; `make prices` writes it anew", line=error.lineno, column=error.colno
        ) from error
    providers = shipped.get("providers") if isinstance(shipped, dict) else None
    if not isinstance(providers, dict) or not {"source", "as_of"} <= shipped.keys():
        raise make_fault(path, "not a table of prices; `make prices` writes it anew")
    names = {name for section in providers.values() for name in section.get("fallbacks", ())}
    if unknown := sorted(names - providers.keys()):
        raise make_fault(path, f"fallback {unknown[0]!r} has no section; `make prices` writes it anew")
    return shipped
