"""`reconcile` and `credits`: what was read of accounts, and a bill on demand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from proxy.app import open_ledger
from proxy.ledger.bills import Bill
from tests.cli.conftest import AT_S, Shell
from tests.outbound.openrouter import Accounts, speaking

USD = 1_000_000_000


def keep(shell: Shell, *bills: Bill) -> None:
    """Put bills into the books."""

    async def add() -> None:
        ledger = await open_ledger(shell.data)
        for bill in bills:
            await ledger.bills.add(bill)
        await ledger.close()

    asyncio.run(add())


def bill(hours: int, billed: int, booked: int, left: int | None = None) -> Bill:
    """One look at OpenRouter's account."""
    return Bill("openrouter", "", AT_S + hours * 3600, "f", billed, booked, left)


def test_books_that_agree_are_good(shell: Shell) -> None:
    """0, with both amounts since the first bill."""
    keep(shell, bill(0, 50 * USD, 0), bill(1, 54 * USD, 4 * USD))
    result = shell.here("reconcile")
    assert result.code == 0
    head, row = [line.split() for line in result.out.splitlines()]
    assert head[:4] == ["PROVIDER", "KEY", "SINCE", "BOOKED"]
    assert row == ["openrouter", "-", "2026-11-18T11:06:40Z", "4.000000000", "4.000000000", "0.000000000", "agrees"]


def test_books_that_do_not_are_bad(shell: Shell) -> None:
    """1."""
    keep(shell, bill(0, 50 * USD, 0), bill(1, 56 * USD, 4 * USD))
    result = shell.here("reconcile", "--json")
    assert result.code == 1
    assert result.json["data"] == [
        {
            "provider": "openrouter",
            "upstream_key": None,
            "since": "2026-11-18T11:06:40Z",
            "until": "2026-11-18T12:06:40Z",
            "booked_usd": "4.000000000",
            "billed_usd": "6.000000000",
            "difference_usd": "2.000000000",
            "notable": True,
        }
    ]
    assert shell.here("reconcile").out.splitlines()[1].endswith("differs")


def test_credits_are_those_last_read(shell: Shell) -> None:
    """What is not told is not 0."""
    keep(shell, bill(0, 50 * USD, 0, 9 * USD), bill(1, 54 * USD, 4 * USD, 5 * USD))
    assert shell.here("credits", "--json").json["data"] == [
        {
            "provider": "openrouter",
            "upstream_key": None,
            "read": "2026-11-18T12:06:40Z",
            "left_usd": "5.000000000",
            "billed_usd": "54.000000000",
        }
    ]
    assert shell.here("credits").out.splitlines()[1].split()[3] == "5.000000000"
    keep(shell, bill(2, 54 * USD, 4 * USD))
    assert "not told" in shell.here("credits").out


def test_without_a_reading_it_is_said_how_to_get_one(shell: Shell) -> None:
    """No table of nothing."""
    shell.book()
    assert "--read" in shell.here("reconcile").out
    assert "--read" in shell.here("credits").out


@pytest.fixture
def accounts() -> Iterator[Accounts]:
    """OpenRouter's accounts beside the command, which has a loop of its own."""
    ready, done, found = threading.Event(), threading.Event(), []

    async def serve() -> None:
        async with speaking() as served:
            found.append(served)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    yield found[0]
    done.set()
    thread.join()


def test_a_reading_can_be_had_now(shell: Shell, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before there are any books; what cannot be read is said beside the result."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-1")
    shell.routes.write_text(
        f"providers: {{openrouter: {{base_url: '{accounts.base_url}'}}}}\nmodels: {{'*': openrouter/*}}\n"
    )
    accounts.tell_key(5, limit_remaining=2.5)
    result = shell.here("credits", "--read", "--json")
    assert [(one["left_usd"], one["billed_usd"]) for one in result.json["data"]] == [("2.500000000", "5.000000000")]
    accounts.answers.clear()
    result = shell.here("reconcile", "--read")
    assert result.err == "openrouter: not read, the credential was refused\n"


def test_who_reads_with_no_account_is_told_so(shell: Shell) -> None:
    """Not that `--read` would help."""
    shell.here("keys", "create", "app")
    for command in ("reconcile", "credits"):
        assert "no account can be read" in shell.here(command, "--read").err
        assert "no account can be read" not in shell.here(command).err
