"""A `/models` listing becomes rows; what cannot be a price changes nothing, and a damaged file is no file."""

from __future__ import annotations

import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.catalogue import RefreshedError, read_refreshed, take_listing, write_refreshed
from proxy.catalogue import refreshed as module
from proxy.catalogue.refreshed import ROWS_MAX, SOURCE

DAY = date(2026, 11, 25)
PLAIN = {"prompt": "0.0000025", "completion": "0.00001"}


def entry(model: str = "maker/new", **pricing: Any) -> dict[str, Any]:
    """Write one model of a listing."""
    return {"id": model, "context_length": 128_000, "pricing": {**PLAIN, **pricing}}


def nobody(model: str) -> Decimal | None:
    """Know no price."""
    return None


def taken(*entries: Any) -> dict[str, Any]:
    """Give the rows of a listing, without what all of them have."""
    listing = take_listing({"data": [entry("maker/other"), *entries]}, known=nobody, day=DAY)
    assert all((row["source"], row["as_of"]) == (SOURCE, "2026-11-25") for row in listing.rows.values())
    shown = {name: dict(row) for name, row in listing.rows.items() if name != "maker/other"}
    return {
        name: {member: value for member, value in row.items() if member not in ("source", "as_of")}
        for name, row in shown.items()
    }


def test_prices_a_token_become_prices_a_million() -> None:
    """Exactly, and under a lower-case id."""
    assert taken(entry("Maker/New", input_cache_read="0.00000125")) == {
        "maker/new": {"input": "2.5", "output": "10", "cache_read": "1.25", "context": 128_000}
    }


def test_every_column_has_its_place() -> None:
    """openrouter.md 5: by the token, and by the piece; of two for one of ours the dearer counts."""
    row = taken(
        entry(
            request="0.005",
            image="0.0036",
            web_search="0.01",
            input_cache_write="0.000003",
            input_cache_write_1h="0.000005",
            input_audio_cache="0.0000007",
            audio="0.00004",
            audio_output="0.00008",
            image_token="0.000003",
            image_output="0.00003",
            internal_reasoning="0.00002",
            discount=0.5,
            something_new="7",
        )
    )["maker/new"]
    assert row == {
        "input": "2.5",
        "output": "20",
        "cache_write": "3",
        "cache_write_1h": "5",
        "cache_read_audio": "0.7",
        "audio_input": "40",
        "audio_output": "80",
        "image_input": "3",
        "image_output": "30",
        "request": "0.005",
        "image": "0.0036",
        "search": "0.01",
        "context": 128_000,
    }


def test_overrides_become_tiers_and_hours_the_dearest_of_the_day() -> None:
    """A hold must cover the price of any hour; of two prices above one threshold it is the dearer."""
    row = taken(
        entry(
            overrides=[
                {"min_prompt_tokens": 200_000, "prompt": "0.000005"},
                {"min_prompt_tokens": 128_000, "prompt": "0.000004", "completion": "0.00002"},
                {"min_prompt_tokens": 200_000, "prompt": "0.000003", "completion": "0.00003"},
                {"utc_start": "0100", "utc_end": "0400", "prompt": "0.000006", "input_cache_read": "0.000001"},
                {"utc_start": "0400", "utc_end": "0500", "prompt": "0.000001"},
            ]
        )
    )["maker/new"]
    assert (row["input"], row["output"], row["cache_read"]) == ("6", "10", "2.5")
    assert row["tiers"] == [
        {"above": 128_000, "input": "6", "output": "20"},
        {"above": 200_000, "input": "6", "output": "30"},
    ]


@pytest.mark.parametrize(
    ("pricing", "why"),
    [
        ({"prompt": "-1"}, "its price varies"),
        ({"prompt": "-0.001"}, "prompt is no price: '-0.001'"),
        ({"completion": "NaN"}, "completion is no price"),
        ({"completion": "Infinity"}, "completion is no price"),
        ({"completion": "much"}, "completion is no price"),
        ({"completion": 0.00001}, "completion is no price"),
        ({"completion": "0." + "0" * 90 + "1"}, "completion is no price"),
        ({"prompt": "0.02"}, "prompt is no price"),
        ({"request": "11"}, "request is no price"),
        ({"image_output": "11"}, "image_output is no price"),
        ({"completion": None}, "it has no price of tokens"),
        ({"overrides": ["x"]}, "an override is no object"),
        ({"overrides": [{"min_prompt_tokens": "x", "prompt": "0.1"}]}, "prompt is no price"),
        ({"overrides": [{"min_prompt_tokens": "x", "prompt": "0.001"}]}, "an override has no threshold"),
    ],
)
def test_what_is_no_price_is_refused_with_its_row(pricing: dict[str, Any], why: str) -> None:
    """The price there was stays, and the log says why."""
    listing = take_listing({"data": [entry("maker/other"), entry(**pricing)]}, known=nobody, day=DAY)
    assert list(listing.rows) == ["maker/other"]
    assert (len(listing.refused), listing.refused_rows) == (1, 1)
    assert listing.refused[0].startswith(f"maker/new: {why}")


def test_a_model_that_was_paid_for_is_not_free_all_at_once() -> None:
    """A hold of nothing would hold nothing."""
    free = {"prompt": "0", "completion": "0"}
    data = [entry("maker/a", **free), entry("maker/a:free", **free), entry("maker/b", **free), entry("maker/c")]
    known = {"maker/a": Decimal(3), "maker/a:free": Decimal(3), "maker/c": Decimal(3)}
    listing = take_listing({"data": data}, known=known.get, day=DAY)
    assert list(listing.rows) == ["maker/a:free", "maker/b", "maker/c"]
    assert listing.refused == ("maker/a: it was paid for and is said to be free",)


def test_only_the_first_refusals_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing gone mad must not fill the log."""
    monkeypatch.setattr(module, "REFUSED_SHOWN_MAX", 2)
    data = [entry("a/ok"), *(entry(f"a/{number}", prompt="-2") for number in range(5))]
    listing = take_listing({"data": data}, known=nobody, day=DAY)
    assert (len(listing.refused), listing.refused_rows) == (2, 5)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"error": {"message": "no"}},
        {"data": []},
        {"data": "x"},
        {"data": ["x", {"id": 3}]},
        {"data": [{"id": "a/b", "pricing": "free"}]},
        {"data": [{}] * (ROWS_MAX + 1)},
    ],
    ids=str,
)
def test_what_is_no_listing_is_refused_whole(document: object) -> None:
    """An error page does not wipe the prices out."""
    with pytest.raises(RefreshedError):
        take_listing(document, known=nobody, day=DAY)


def test_entries_without_a_context_have_a_price_all_the_same() -> None:
    """Anything but a number of tokens says nothing."""
    for context in (None, 0, "128k", True):
        assert "context" not in taken({**entry(), "context_length": context})["maker/new"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Readable by its owner alone, and nothing else is left lying about."""
    path = tmp_path / "prices.json"
    rows = take_listing(
        {"data": [entry(overrides=[{"min_prompt_tokens": 9, "prompt": "0.000005"}])]}, known=nobody, day=DAY
    ).rows
    assert read_refreshed(path) is None
    for _ in range(2):
        write_refreshed(path, rows, day=DAY)
    found = read_refreshed(path)
    assert found is not None
    assert found.fetched_on == DAY
    assert {name: {**row} for name, row in rows.items()} == {
        name: {member: value for member, value in row.items() if member != "origin"} for name, row in found.rows.items()
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no piece of the new one."""
    path = tmp_path / "prices.json"
    write_refreshed(path, {}, day=DAY)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_refreshed(path, {"a/b": {}}, day=DAY)
    assert orjson.loads(path.read_bytes())["models"] == {}
    assert list(tmp_path.iterdir()) == [path]


GOOD = {"input": "1", "output": "2", "source": SOURCE, "as_of": "2026-11-25"}


SPOILT: list[Any] = [
    [],
    {},
    {**GOOD, "input": 1},
    {**GOOD, "input": "-1"},
    {**GOOD, "input": "NaN"},
    {**GOOD, "input": "x"},
    {**GOOD, "output": "99999999999"},
    {**GOOD, "context": "8k"},
    {**GOOD, "capabilities": {"sampling": 3}},
    {**GOOD, "tiers": [{"input": "1"}]},
    {**GOOD, "tiers": [{"above": "1", "input": "1"}]},
    {**GOOD, "tiers": [{"above": 1, "input": "-1"}]},
    {**GOOD, "tiers": [{"above": 1, "inputs": "1"}]},
    {**GOOD, "tiers": 3},
]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"models": {}}',
        b'{"as_of": "yesterday", "models": {}}',
        b'{"as_of": "2026-11-25", "models": []}',
        *(orjson.dumps({"as_of": "2026-11-25", "models": {"a/b": row}}) for row in SPOILT),
    ],
)
def test_a_damaged_file_is_told_and_never_half_used(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with it; the message names no path."""
    path = tmp_path / "prices.json"
    path.write_bytes(content)
    with pytest.raises(RefreshedError, match="the file of those fetched is damaged"):
        read_refreshed(path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A folder in its place, say."""
    (tmp_path / "prices.json").mkdir()
    with pytest.raises(RefreshedError, match="cannot be read"):
        read_refreshed(tmp_path / "prices.json")
