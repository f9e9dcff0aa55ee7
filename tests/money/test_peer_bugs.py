"""The list of other gateways' money bugs: each has a test that exists, or says what it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests import tidy
from tests.money.table import FOLDER, names

TESTS: Final = Path(__file__).resolve().parents[1]
LIST: Final = Path(__file__).with_name("peer_bugs.txt")
SPECS: Final = TESTS.parent.parent / "shared" / "specs"
TEST: Final = re.compile(r"(?P<file>[\w/]+\.py)::(?P<name>\w+)(?:\[(?P<row>[^\]]+)\])?(?:, |$)")
NUMBER: Final = re.compile(r"(?:#|PR )([0-9]{3,})(?:-#([0-9]{3,}))?")
NOT_ABOUT_MONEY: Final = frozenset({24512, 24518, 23267})
"""In the list of reliability.md 5: a supply chain, and limits of headers."""


class Bug(NamedTuple):
    """One line of the list."""

    number: str
    what: str
    tests: str
    needs: str


def bugs() -> list[Bug]:
    """Read the list."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith(("#", "["))]
    return [Bug(*(part.strip() for part in line.split("|"))) for line in lines]


def problems(bug: Bug) -> Iterator[str]:
    """Say what is wrong with a line: a test nobody wrote, a row nobody has, or neither a test nor a reason."""
    if not (bug.tests or bug.needs):
        yield f"{bug.number}: neither a test nor what it needs"
    found = list(TEST.finditer(bug.tests))
    if "".join(match[0] for match in found) != bug.tests:
        yield f"{bug.number}: {bug.tests!r} does not name tests"
    for match in found:
        if match["name"] not in written(match["file"]):
            yield f"{bug.number}: there is no {match['file']}::{match['name']}"
        if match["row"] is not None and match["row"] not in names():
            yield f"{bug.number}: the golden table has no row {match['row']!r}"


@cache
def written(file: str) -> frozenset[str]:
    """Give the names of the tests in a file; none when there is no such file."""
    path = TESTS / file
    text = path.read_text() if path.is_file() else ""
    return frozenset(function.name for function in tidy.functions(text) if function.name.startswith("test_"))


def numbers(text: str) -> set[int]:
    """Find the numbers of issues and pull requests, spans too."""
    spans = [(int(first), int(last or first)) for first, last in NUMBER.findall(text)]
    return {number for first, last in spans for number in range(first, last + 1)}


def section(file: str, begins: str, ends: str) -> str:
    """Give a part of a paper, from one heading to another."""
    text = (SPECS / file).read_text()
    start = text.index(begins)
    return text[start : text.index(ends, start)]


@pytest.mark.parametrize("bug", bugs(), ids=lambda bug: bug.number)
def test_a_bug_of_another_gateway_has_its_test(bug: Bug) -> None:
    """Every test and every row it names exists; what has no test says why."""
    assert list(problems(bug)) == []


@pytest.mark.parametrize(
    "line",
    [
        Bug("1", "nothing", "", ""),
        Bug("2", "a test nobody wrote", "money/test_golden.py::test_nothing", ""),
        Bug("3", "a file nobody has", "money/test_nothing.py::test_the_table_is_whole", ""),
        Bug("4", "a row nobody has", "money/test_golden.py::test_the_table_is_whole[openai: nothing]", ""),
        Bug("5", "no name of a test", "test_golden", ""),
        Bug("6", "a remark behind a test", "money/test_golden.py::test_the_table_is_whole and so on", ""),
    ],
    ids=lambda line: line.what,
)
def test_a_line_that_names_nothing_is_found(line: Bug) -> None:
    """The check above can fail."""
    assert list(problems(line)) != []


def test_each_bug_stands_once() -> None:
    """By its number."""
    listed = [bug.number for bug in bugs()]
    assert sorted(listed) == sorted(set(listed))


@pytest.mark.skipif(not SPECS.is_dir(), reason="the papers are not beside this checkout")
def test_no_bug_of_the_papers_is_left_out() -> None:
    """Every number of peers.md A to D and of reliability.md 5 that is about money, and the double counts."""
    told = numbers(section("peers.md", "### A. Money", "### E. Fallback"))
    told |= numbers(section("reliability.md", "## 5. What broke elsewhere", "## 6."))
    told |= numbers(section("openrouter.md", "Double-count bugs", "### 7.3"))
    listed = {int(number) for bug in bugs() for number in re.findall(r"[0-9]{3,}", bug.number)}
    assert len(told) > 80
    assert told - listed - NOT_ABOUT_MONEY == set()


def test_the_golden_table_is_where_it_is_looked_for() -> None:
    """Rows are found by their names in the files, with recordings or without."""
    assert len(list(FOLDER.glob("*.yaml"))) == 5
    assert len(names()) > 100
