"""The catalogue as of today: dated rows come into force, fetched prices lie over the shipped ones, or do not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.catalogue import LiveCatalogue, load_catalogue, write_refreshed
from proxy.catalogue.refreshed import SOURCE
from proxy.clock import ManualClock
from proxy.errors import ConfigError
from proxy.pricing import Origin
from tests.catalogue.made import CORRECTIONS, input_price, write

DAY = date(2026, 11, 25)
ROW = {"input": "8", "output": "9", "source": SOURCE, "as_of": "2026-11-25"}
DATED = """\
providers:
  maker:
    source: https://maker.example
    as_of: "2026-10-01"
    models:
      one:
        - {from: 2026-11-27, input: "5", output: "6"}
        - {output_max: 500}
        - {from: "2026-11-26", input: "4"}
      two: {from: 2030-01-01, input: "99"}
  openrouter:
    models:
      maker/two: {input: "7"}
"""


def clock_on(day: date) -> ManualClock:
    """Give a clock that shows noon of a day, UTC."""
    return ManualClock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())


def catalogue_in(folder: Path, clock: ManualClock, corrections: str = CORRECTIONS) -> LiveCatalogue:
    """Give the small catalogue, which looks for fetched prices beside its files."""
    return load_catalogue(write(folder, corrections=corrections), refreshed=folder / "fetched.json", clock=clock)


def input_of(catalogue: LiveCatalogue, model: str, provider: str = "openrouter") -> Decimal | None:
    """Give an input price."""
    return input_price(catalogue.find(provider, model))


def test_a_dated_row_holds_from_its_day_on(tmp_path: Path) -> None:
    """At midnight UTC, once the table is loaded anew; the stamp says when that is."""
    clock = clock_on(date(2026, 11, 25))
    catalogue = catalogue_in(tmp_path, clock, DATED)
    seen = []
    for _ in range(4):
        seen.append(input_of(catalogue, "one", "maker"))
        before = catalogue.stamp()
        clock.advance(86_400)
        assert catalogue.stamp() != before
        catalogue.renew(is_live=False)
    assert seen == [Decimal(3), Decimal(4), Decimal(5), Decimal(5)]
    facts = catalogue.find("maker", "one")
    assert facts.prices is not None
    assert (facts.prices.source, facts.prices.as_of) == ("https://maker.example", "2026-11-27")
    assert facts.prices.origin is Origin.CORRECTED
    assert facts.output_tokens_max == 500
    assert input_of(catalogue, "two", "maker") == Decimal(1)


def test_what_was_found_before_a_renewal_stays_as_it_was(tmp_path: Path) -> None:
    """A request keeps the price it was admitted under."""
    clock = clock_on(date(2026, 11, 26))
    catalogue = catalogue_in(tmp_path, clock, DATED)
    held = catalogue.find("maker", "one")
    clock.advance(86_400)
    catalogue.renew(is_live=False)
    assert (input_price(held), input_of(catalogue, "one", "maker")) == (Decimal(4), Decimal(5))


@pytest.mark.parametrize("given", ["soon", "2026-13-01", "[1]"])
def test_a_day_that_is_none_is_named(tmp_path: Path, given: str) -> None:
    """With the form wanted."""
    text = f"providers: {{maker: {{models: {{one: {{from: {given}, input: '5'}}}}}}}}\n"
    with pytest.raises(ConfigError, match=r"models\.yaml:.*2027-01-31"):
        catalogue_in(tmp_path, clock_on(DAY), text)


def test_fetched_prices_lie_over_the_shipped_ones_when_wanted(tmp_path: Path) -> None:
    """Models nobody shipped are there too; a correction still wins, column by column."""
    catalogue = catalogue_in(tmp_path, clock_on(DAY), DATED)
    write_refreshed(tmp_path / "fetched.json", {"maker/one": ROW, "maker/two": ROW, "maker/brand-new": ROW}, day=DAY)
    assert catalogue.renew(is_live=False) == ()
    assert input_of(catalogue, "maker/one") == Decimal(1)
    assert catalogue.renew(is_live=True) == ()
    fetched = catalogue.find("openrouter", "maker/one").prices
    assert fetched is not None
    assert (fetched.input, fetched.source, fetched.as_of) == (Decimal(8), SOURCE, "2026-11-25")
    assert fetched.origin is Origin.FETCHED
    assert input_of(catalogue, "maker/brand-new:nitro") == Decimal(8)
    corrected = catalogue.find("openrouter", "maker/two").prices
    assert corrected is not None
    assert (corrected.input, corrected.output, corrected.origin) == (Decimal(7), Decimal(9), Origin.CORRECTED)
    assert input_of(catalogue, "one", "maker") == Decimal(3)
    catalogue.renew(is_live=False)
    assert input_of(catalogue, "maker/one") == Decimal(1)


def test_what_openrouter_says_of_a_model_goes_on_to_be_known(tmp_path: Path) -> None:
    """A fetched row has a price; where else the model is to be had stands elsewhere."""
    catalogue = catalogue_in(tmp_path, clock_on(DAY))
    before = catalogue.find("openrouter", "maker/one")
    write_refreshed(tmp_path / "fetched.json", {"maker/one": {**ROW, "context": 77}}, day=DAY)
    catalogue.renew(is_live=True)
    after = catalogue.find("openrouter", "maker/one")
    assert after.capabilities == before.capabilities
    assert (after.context_tokens, after.output_tokens_max) == (77, before.output_tokens_max)


@pytest.mark.parametrize(
    ("fetched_on", "today", "told"),
    [
        (date(2026, 11, 19), DAY, None),
        (date(2026, 11, 20), DAY, None),
        (date(2026, 11, 20), date(2026, 12, 20), None),
        (date(2026, 11, 20), date(2026, 12, 21), "31 days old"),
    ],
)
def test_old_prices_are_not_used(tmp_path: Path, fetched_on: date, today: date, told: str | None) -> None:
    """Older than those that shipped is no news; a month without a fetch is told."""
    catalogue = catalogue_in(tmp_path, clock_on(today))
    write_refreshed(tmp_path / "fetched.json", {"maker/one": ROW}, day=fetched_on)
    notes = catalogue.renew(is_live=True)
    is_used = told is None and fetched_on >= date(2026, 11, 20)
    assert input_of(catalogue, "maker/one") == Decimal(8 if is_used else 1)
    assert len(notes) == (told is not None)
    assert all(str(told) in note for note in notes)


def test_a_damaged_file_is_told_and_the_shipped_prices_used(tmp_path: Path) -> None:
    """A start never depends on it."""
    catalogue = catalogue_in(tmp_path, clock_on(DAY))
    (tmp_path / "fetched.json").write_text("{")
    (note,) = catalogue.renew(is_live=True)
    assert "damaged" in note
    assert str(tmp_path) not in note
    assert input_of(catalogue, "maker/one") == Decimal(1)


def test_without_a_place_nothing_is_looked_for(tmp_path: Path) -> None:
    """As in a command that has no data folder."""
    catalogue = load_catalogue(write(tmp_path), clock=clock_on(DAY))
    assert catalogue.renew(is_live=True) == ()
    assert catalogue.stamp() == (DAY, None)


def test_the_stamp_changes_with_the_file(tmp_path: Path) -> None:
    """Also when it appears and when it goes."""
    catalogue = catalogue_in(tmp_path, clock_on(DAY))
    stamps = [catalogue.stamp()]
    for rows in ({}, {"maker/one": ROW}):
        write_refreshed(tmp_path / "fetched.json", rows, day=DAY)
        stamps.append(catalogue.stamp())
    (tmp_path / "fetched.json").unlink()
    assert len(set(stamps)) == 3
    assert catalogue.stamp() == stamps[0]


SERVICES = """\
providers:
  maker:
    source: https://maker.example
    as_of: "2026-10-01"
    service_tiers:
      source: https://list.example
      models:
        one: {flex: {input: "1.5", output: "2", tiers: [{above: 200, input: "3"}]}, priority: {input: "6", output: "8"}}
    models:
      one: {context: 2000}
"""


def test_services_have_prices_of_their_own(tmp_path: Path) -> None:
    """Whole rows with the fees of the usual one; who resells the model sells the usual service only."""
    catalogue = catalogue_in(tmp_path, clock_on(DAY), SERVICES)
    facts = catalogue.find("maker", "one")
    assert facts.prices is not None
    assert (facts.prices.input, facts.context_tokens) == (Decimal(3), 2_000)
    flex, priority = facts.prices.service_tiers
    assert (flex.name, flex.prices.input, flex.prices.request) == ("flex", Decimal("1.5"), Decimal("0.01"))
    assert [(tier.above_input_tokens, tier.prices.input) for tier in flex.prices.tiers] == [(200, Decimal(3))]
    assert (priority.name, priority.prices.tiers) == ("priority", ())
    assert (flex.prices.source, flex.prices.as_of) == ("https://list.example", "2026-10-01")
    resold = catalogue.find("reseller", "one").prices
    assert resold is not None
    assert (resold.input, resold.service_tiers) == (Decimal(3), ())


@pytest.mark.parametrize(
    "part",
    ["{modles: {}}", "{models: {one: {flex: {inputt: '1'}}}}", "{models: {one: [flex]}}", "{models: {one: {flex: 3}}}"],
)
def test_a_fault_in_the_prices_of_services_is_named(tmp_path: Path, part: str) -> None:
    """People edit that file."""
    with pytest.raises(ConfigError):
        catalogue_in(tmp_path, clock_on(DAY), f"providers: {{maker: {{service_tiers: {part}}}}}\n")
