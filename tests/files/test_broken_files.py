"""Broken files (broken.txt holds the table of them): where a finding stands and what it must say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.files import validation
from proxy.files.problems import MESSAGE_CHARACTERS_MAX, PROBLEMS_MAX
from tests.files.tables import find_problems

CHAT = "models:\n  chat: openai/gpt-4o\n"


def read_cases() -> dict[str, tuple[str, str, str]]:
    """Read broken.txt: text with its mark, path and remedy by name."""
    cases: dict[str, tuple[str, str, str]] = {}
    for case in (Path(__file__).parent / "broken.txt").read_text().split("\n=== ")[1:]:
        head, _, text = case.partition("\n")
        name, path, remedy = head.split(" | ")
        assert name not in cases
        cases[name] = (text + "\n", path, remedy)
    return cases


CASES = read_cases()


@pytest.mark.parametrize("name", CASES)
def test_a_broken_file_is_told_by_line_column_and_remedy(tmp_path: Path, name: str) -> None:
    """One finding, at the bad member, with words that help; a word of a later release is refused by name."""
    text, path, remedy = CASES[name]
    before, _, after = text.partition("\N{BROKEN BAR}")
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    (problem,) = find_problems(tmp_path, before + after)
    assert str(problem).startswith(f"{tmp_path}/routes.yaml:{line}:{column}: ")
    assert problem.path.endswith(path)
    assert remedy in problem.message


def test_all_findings_of_a_file_come_together(tmp_path: Path) -> None:
    """A bad unit, a cycle and an unknown provider are found in one reading, in the order of the file."""
    text = """\
providers:
  slow: {dialect: simulated, speed: fast}
models:
  a: [b]
  b: [a]
  c: {targets: [opnai/x, slow/x], max_cost: 5}
keys:
  - {name: x, key: abcdefgh, tenant: acme, rate: 5}
"""
    found = find_problems(tmp_path, text)
    assert [problem.line for problem in found] == [2, 5, 6, 6, 8, 8]


def test_nothing_is_said_about_what_only_follows_from_a_finding(tmp_path: Path) -> None:
    """A broken provider, model or tenant is still a known name, and a key whose value is bad does not lack one."""
    text = """\
providers:
  x: {dialect: opnai}
  y: {dialect: openai, base_url: nowhere}
models:
  a: {targets: [x/m, y/m], max_cost: 5}
  b: {targets: 7.5}
  c: [b, a]
tenants:
  acme: {params: 5}
keys:
  - {name: k, key: short, tenant: acme, models: [a, b, c]}
  - {name: 0.5, key: abcdefgh}
defaults: {default_model: b}
"""
    assert [problem.line for problem in find_problems(tmp_path, text)] == [2, 3, 5, 6, 9, 11, 12]


SECRET = "sk-verysecret-0123456789"
LEAKS = [
    f"{CHAT}keys: [{{name: x, key: '{SECRET}', key_sha256: '{SECRET}'}}]\n",
    f"{CHAT}keys: ['{SECRET}']\n",
    f"{CHAT}keys: [{{name: x, key: '{SECRET} with blanks'}}]\n",
    f"{CHAT}{SECRET}: x\n",
    f"{CHAT}keys: [{{name: x, key: abcdefgh, budget: '{SECRET}'}}]\n",
    f"providers: {{openai: {{api_key: [{SECRET}]}}}}\n{CHAT}",
    f"providers: {{openai: {{base_url: 'http://user:{SECRET}@h/v1'}}}}\n{CHAT}",
    f"providers: {{openai: {{base_url: '${{KEY}}'}}}}\n{CHAT}",
    f'providers: {{openai: {{headers: {{a: "{SECRET}\\n"}}, dialect: {SECRET}}}}}\n{CHAT}',
    f"models: {{x: [{SECRET}]}}\n",
    f"models: {{x: [{SECRET}/y]}}\n",
    "models: {x: ['${KEY}']}\n",
    f"models: {{x: [{SECRET}\n",
    "providers: {x: {dialect: 5, api_key: hunter2hunter2}}\nmodels: {a: hunter2hunter2}\n",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_finding_shows_a_secret(tmp_path: Path, text: str) -> None:
    """Neither one written in the file, wherever it stands, nor one that came in through a variable."""
    shown = "\n".join(map(str, find_problems(tmp_path, text, {"KEY": SECRET})))
    assert SECRET not in shown
    assert "hunter2" not in shown


def test_a_flood_of_findings_is_counted(tmp_path: Path) -> None:
    """The first hundred are shown in full, the rest as a number."""
    text = "models:\n" + "".join(f"  m{number}: nowhere/x\n" for number in range(PROBLEMS_MAX + 20))
    found = find_problems(tmp_path, text)
    assert len(found) == PROBLEMS_MAX + 1
    assert found[-1].message == "and 20 more problems from here on"


def test_a_finding_stays_readable_however_long_its_text(tmp_path: Path) -> None:
    """A value of a megabyte is not printed."""
    (problem,) = find_problems(tmp_path, f"models: {{c: {{targets: [openai/x], max_cost: {'9' * 100_000}}}}}\n")
    assert len(problem.message) <= MESSAGE_CHARACTERS_MAX + 3


def test_what_cannot_be_cut_out_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of cutting out are limited; what was found by then is told."""
    monkeypatch.setattr(validation, "CUTS_MAX", 1)
    assert len(find_problems(tmp_path, "models: {a: [nowhere/x], b: {max_cost: 5, targets: openai/x}}")) == 1


FLOODS = {
    "unknown words": "models: {a: openai/x}\n" + "".join(f"w{number}: 1\n" for number in range(8_000)),
    "unknown options": "models:\n" + "".join(f"  m{number}: {{wrong: 1}}\n" for number in range(8_000)),
    "unknown models": "models:\n" + "".join(f"  m{number}: [n{number}]\n" for number in range(8_000)),
    "keys of one name": "models: {a: openai/x}\nkeys:\n" + "- {name: x, key: abcdefgh}\n" * 8_000,
    "globs that meet nothing": "models:\n"
    + "".join(f"  m{number}: openai/x\n" for number in range(3_000))
    + "keys:\n"
    + "".join(f"- {{name: n{number}, key: abcdefg{number}, models: [x{number}*]}}\n" for number in range(2_000)),
}


@pytest.mark.parametrize("text", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_findings_is_told_in_no_time(tmp_path: Path, text: str) -> None:
    """Tens of thousands of findings take seconds at most: nothing is quadratic in them."""
    started = time.monotonic()
    assert len(find_problems(tmp_path, text)) == PROBLEMS_MAX + 1
    assert time.monotonic() - started < 20
