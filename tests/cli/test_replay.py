"""`replay`: past requests against another table, side by side, from the books alone."""

from __future__ import annotations

import pytest

from proxy.cli import replay
from proxy.cli.replay import Gatherer, make_past
from proxy.clock import ManualClock
from proxy.ledger.memory import MemoryLedger
from proxy.usage import Usage
from tests.cli.conftest import Shell
from tests.ledger.entries import NOON_S, ask, key, onward, over, posted, start, voided

OTHER = """\
providers:
  sim: {dialect: simulated, price: {input: $10/M, output: $20/M}}
  local: {dialect: openai, base_url: "http://127.0.0.1:1/v1"}
models:
  chat: sim/large
keys: [{name: mobile, key: sk-mobile-1, budget: $0.002/day}]
"""


def test_cost_and_budgets_are_side_by_side(shell: Shell) -> None:
    """By key and model, with the target that each would go to."""
    for name in ("mobile", "mobile", "other"):
        shell.book(key=name)
    other = shell.folder / "other.yaml"
    other.write_text(OTHER)
    lines = shell.here("replay", "--routes", str(other), "--since", "2026-11-01").out.splitlines()
    assert [line.split() for line in lines] == [
        ["KEY", "MODEL", "TARGET", "REQUESTS", "SPENT", "USD", "COST", "USD", "DIFFERENCE", "USD", "REFUSED"],
        ["mobile", "chat", "sim/large", "2", "0.003000000", "0.001400000", "-0.001600000", "1"],
        ["other", "chat", "sim/large", "1", "0.001500000", "0.001400000", "-0.000100000", "0"],
        ["total", "3", "0.004500000", "0.002800000", "-0.001700000", "1"],
        ["budget:", "key:mobile,", "0.002000000", "USD/day:", "no", "room", "for", "1", "of", "them"],
    ]


def test_a_program_gets_all_of_it(shell: Shell) -> None:
    """What cannot be told is counted, never nothing."""
    shell.book(cost=None)
    other = shell.folder / "other.yaml"
    other.write_text(OTHER.replace("chat: sim/large", "chat: local/llama").replace("budget: $0.002/day", ""))
    found = shell.here("replay", "--routes", str(other), "--since", "2026-11-01", "--json").json
    assert found["since"] == "2026-11-01T00:00:00Z"
    assert found["data"] == [
        {
            "key": "mobile",
            "model": "chat",
            "requests": 1,
            "spent_usd": "0.000000000",
            "cost_usd": "0.000000000",
            "difference_usd": "0.000000000",
            "refused": 0,
            "spent_unknown": 1,
            "redirected": 0,
            "unpriced": 1,
            "uncounted": 0,
            "unrouted": 0,
            "targets": {"local/llama": True},
        }
    ]
    assert (found["budgets"], found["total"]["unpriced"]) == ([], 1)
    said = shell.here("replay", "--routes", str(other), "--since", "2026-11-01").out
    assert "note: 1 of 1 requests: go to a target whose price is not known, and are in no sum" in said


def test_only_what_was_asked_for_is_played(shell: Shell) -> None:
    """By time, key and tenant; a table that cannot be read is told as ever."""
    for name in ("mobile", "other"):
        shell.book(key=name)
    other = shell.folder / "other.yaml"
    other.write_text(OTHER)

    def count(*words: str) -> int:
        found = shell.here("replay", "--routes", str(other), "--json", *words).json
        assert isinstance(found["total"]["requests"], int)
        return int(found["total"]["requests"])

    assert count("--since", "2026-11-01", "--key", "other") == 1
    assert count("--since", "2026-11-01", "--tenant", "acme") == 0
    assert count("--since", "2026-11-19") == 0
    other.write_text("models: {chat: nobody/x}\n")
    assert shell.here("replay", "--routes", str(other)).code == 2


async def test_attempts_become_requests_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However their attempts lie between one another, and however few are waited for."""
    ledger = MemoryLedger(clock=ManualClock())
    await ledger.declare_keys([key("app", None)])
    for name in ("a", "b", "c"):
        await ledger.admit(ask(name, 50))
    await ledger.advance(onward("a", voided(1), start(2, 50)))
    await ledger.settle(over("b", posted(1, 5)))
    await ledger.settle(over("c", voided(1)))
    partial = posted(2, 7, usage=Usage(9, 9), error="broken_stream")
    await ledger.advance(onward("a", partial, start(3, 50)))
    await ledger.settle(over("a", posted(3, 11, usage=Usage(1, 1))))
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=99)
    gatherer = Gatherer()
    assert list(gatherer.take(rows)) == []
    found = list(gatherer.end())
    assert [(one.cost_nano_usd, one.usage, one.is_free) for one in found] == [
        (18, Usage(1, 1), False),
        (5, Usage(3, 4), False),
        (0, None, True),
    ]
    assert found[0].at_s == NOON_S
    monkeypatch.setattr(replay, "OPEN_MAX", 2)
    assert len(list(Gatherer().take(rows))) == 1 + 1


async def test_a_request_of_unknown_cost_or_from_the_cache_is_known_as_such() -> None:
    """Unknown is never 0, and a hit is never anything else."""
    ledger = MemoryLedger(clock=ManualClock())
    await ledger.declare_keys([key("app", None)])
    for name, end in (("unknown", posted(1, None)), ("hit", posted(1, 0)._replace(saved_nano_usd=9))):
        await ledger.admit(ask(name, 50))
        await ledger.settle(over(name, end))
    unknown, hit = [make_past(await ledger.find_request(name)) for name in ("unknown", "hit")]
    assert (unknown.cost_nano_usd, unknown.is_free) == (None, False)
    assert (hit.cost_nano_usd, hit.is_free) == (0, True)
