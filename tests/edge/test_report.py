"""Usage as text: no cell is a formula, and a moment is read in the time zone asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest

from proxy.edge.report import parse_by, parse_moment, write_usage
from proxy.ledger.records import UsageSum

MANY = ",".join(f"tag:{number}" for number in range(40))


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "' x"),
        ("a\r=1+1", "a =1+1"),
        ("\nx", "'\nx"),
        ("＝1", "'＝1"),  # a wide one
        ('"=1', '"=1'),
        ("a,b\n=c", "a,b\n=c"),
        ("plain", "plain"),
        ("'=1", "'=1"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(name: str, cell: str) -> None:
    """Names that clients chose stay text in a spreadsheet, whatever quotes stand around them; numbers stay numbers."""
    one = UsageSum((name,), 1, 0, 0, 3, 4, 0, 0, 5, 0, 0, {"computed": 5})
    (row,) = read_csv(write_usage("csv", ("user",))([one]))
    assert row["user"] == cell
    assert (row["requests"], row["cost_usd"], row["cost_computed_usd"]) == ("1", "0.000000005", "0.000000005")


def read_csv(text: str) -> Sequence[dict[str, str]]:
    """Read as a spreadsheet does."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_head_is_written_once() -> None:
    """Before the first page, also when there is nothing behind it."""
    write = write_usage("csv", ("user",))
    one = UsageSum(("a",), 4, 0, 1, 3, 4, 0, 0, 5, 0, 0, {})
    first, second = write([one]), write([one])
    assert first.splitlines()[0].startswith("user,requests,failed,fallbacks,")
    assert second == first.splitlines()[1] + "\n"
    assert second.endswith(",0.25\n")
    assert len(write_usage("csv", ())([]).splitlines()) == 1


def test_a_head_may_be_what_a_client_chose() -> None:
    """The name of a tag, asked for by whoever makes the link."""
    by = parse_by("tag:=1,tag:job")
    assert by == ("tag:=1", "tag:job")
    assert write_usage("csv", by)([]).startswith("tag:=1,tag:job,")


@pytest.mark.parametrize(
    "text", ["tag:", "tags", "tag:" + "x" * 65, "tag:a\nb", "key,colour", ",".join(f"tag:{n}" for n in range(40))]
)
def test_a_dimension_that_there_is_not_is_named(text: str) -> None:
    """With those there are."""
    with pytest.raises(ValueError, match="usage cannot be summed by"):
        parse_by(text)


@pytest.mark.parametrize(
    ("text", "is_end", "timezone", "expected"),
    [
        ("2026-11-20", False, "UTC", 1_795_132_800),
        ("2026-11-20", True, "UTC", 1_795_219_200),
        ("2026-11-20", False, "Europe/Berlin", 1_795_129_200),
        # Berlin's clocks go back that day: it has 25 hours.
        ("2026-10-25", False, "Europe/Berlin", 1_792_879_200),
        ("2026-10-25", True, "Europe/Berlin", 1_792_879_200 + 25 * 3600),
        ("2026-11-20T12:00:00", False, "America/New_York", 1_795_194_000),
        ("2026-11-20T12:00:00+01:00", False, "America/New_York", 1_795_172_400),
    ],
)
def test_a_moment_is_of_the_time_zone_unless_it_says(text: str, is_end: bool, timezone: str, expected: int) -> None:
    """Dates are whole days of it."""
    assert parse_moment(text, is_end=is_end, timezone=timezone) == expected
