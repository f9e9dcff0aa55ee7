"""`usage` and `export`: sums of the books, and the books."""

from __future__ import annotations

import csv
import io
import json

import pytest

from proxy.cli import figures
from tests.cli.conftest import Shell


def test_usage_is_a_table_with_a_total(shell: Shell) -> None:
    """By key and model unless told otherwise; what is not known is counted beside the cost."""
    shell.book()
    shell.book(key="other", cost=None)
    result = shell.here("usage")
    assert result.code == 0
    head, *rows = [line.split() for line in result.out.splitlines()]
    assert head == ["KEY", "MODEL", "REQUESTS", "FAILED", "FALLBACKS", "INPUT", "OUTPUT", "COST", "USD", "HELD", "USD"]
    assert rows[0] == ["mobile", "echo", "1", "0", "0", "100", "20", "0.001500000", "0.000000000"]
    assert rows[1][-4:] == ["+", "1", "unknown", "0.000000000"]
    assert rows[2][:2] == ["total", "2"]


def test_usage_by_nothing_is_the_total(shell: Shell) -> None:
    """One line of figures."""
    shell.book()
    lines = shell.here("usage", "--by", "").out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[0] == "1"


def test_usage_can_be_read_by_a_program(shell: Shell) -> None:
    """In the shape of GET /v1/usage."""
    shell.book()
    found = shell.here("usage", "--by", "day", "--from", "2026-11-18", "--to", "2026-11-18", "--json").json
    assert (found["object"], found["by"]) == ("list", ["day"])
    assert (found["from"], found["to"]) == ("2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z")
    assert found["data"][0]["cost_usd"] == "0.001500000"
    assert found["total"]["requests"] == 1
    assert shell.here("usage", "--from", "2026-11-19", "--json").json["total"]["requests"] == 0


def test_usage_can_be_read_by_a_spreadsheet(shell: Shell) -> None:
    """Without formulas."""
    shell.book(app="=1+1")
    rows = list(csv.DictReader(io.StringIO(shell.here("usage", "--by", "app", "--csv").out)))
    assert (rows[0]["app"], rows[0]["cost_usd"]) == ("'=1+1", "0.001500000")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["usage", "--by", "colour"], "--by"),
        (["usage", "--from", "yesterday"], "--from"),
        (["usage", "--to", "2026-99-99"], "--to"),
        (["export", "--since", "yesterday"], "--since"),
        (["export", "--until", "yesterday"], "--until"),
        (["usage", "--timezone", "Mars"], "--timezone"),
    ],
)
def test_a_question_that_cannot_be_read_is_named(shell: Shell, arguments: list[str], flag: str) -> None:
    """2."""
    shell.book()
    result = shell.here(*arguments)
    assert (result.code, result.out) == (2, "")
    assert flag in result.err


def test_every_attempt_is_exported(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object a line, oldest first, page after page."""
    monkeypatch.setattr(figures, "PAGE_ROWS", 2)
    for _ in range(5):
        shell.book()
    rows = [json.loads(line) for line in shell.here("export").out.splitlines()]
    for arguments in (["export", "--json"], ["export", "--format", "jsonl", "--since", "2026-11-18"]):
        assert [json.loads(line) for line in shell.here(*arguments).out.splitlines()] == rows
    assert [row["request_id"] for row in rows] == ["req", "req-2", "req-3", "req-4", "req-5"]
    assert rows[0] == {
        "request_id": "req",
        "attempt": 1,
        "state": "posted",
        "time": "2026-11-18T11:06:40.000Z",
        "key": "mobile",
        "tenant": None,
        "app": None,
        "route": "chat",
        "provider": "sim",
        "model": "echo",
        "stream": True,
        "status": 200,
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 40,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "audio_input_tokens": 0,
        "reasoning_tokens": 5,
        "audio_output_tokens": 0,
        "cached_audio_tokens": 0,
        "image_input_tokens": 0,
        "image_output_tokens": 0,
        "images": 0,
        "web_searches": 0,
        "service_tier": None,
        "hold_nano_usd": 10_000_000,
        "cost_nano_usd": 1_500_000,
        "cost_source": "computed",
        "latency_ms": 900,
        "first_token_ms": 150,
        "generation_id": None,
        "overrun": False,
        "error": None,
        "user": None,
        "tags": {},
        "upstream_key": None,
        "payer": "gateway",
        "saved_nano_usd": None,
    }


def test_an_export_begins_where_it_is_told(shell: Shell) -> None:
    """At a date, a time, or so far back from now."""
    shell.book()
    assert shell.here("export", "--since", "2026-11-18T11:06:40Z").out
    assert not shell.here("export", "--since", "2026-11-18T11:06:41Z").out
    assert not shell.here("export", "--since", "1ms").out


def test_an_export_can_be_of_one_key_and_end_somewhere(shell: Shell) -> None:
    """Each word leaves out what it says."""
    shell.book()
    shell.book(key="other")
    assert json.loads(shell.here("export", "--key", "other").out)["key"] == "other"
    assert not shell.here("export", "--tenant", "acme").out
    assert not shell.here("export", "--until", "2026-11-17").out
    assert len(shell.here("export", "--until", "2026-11-18").out.splitlines()) == 2
    assert shell.here("usage", "--key", "other", "--json").json["total"]["requests"] == 1
    assert shell.here("usage", "--tenant", "acme", "--json").json["total"]["requests"] == 0


def test_an_export_can_be_read_by_a_spreadsheet(shell: Shell) -> None:
    """One head, a line per attempt, no formulas."""
    shell.book(app="=1+1")
    shell.book(app="@x")
    rows = list(csv.DictReader(io.StringIO(shell.here("export", "--format", "csv").out)))
    assert [row["app"] for row in rows] == ["'=1+1", "'@x"]
    assert rows[0]["cost_nano_usd"] == "1500000"
