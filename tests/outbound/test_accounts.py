"""What is believed of an account, and what is not."""

from __future__ import annotations

import pytest

from proxy.outbound.accounts import ANSWER_BYTES_MAX, AccountReader
from proxy.outbound.figures import AccountFigures, AccountUnreadable
from proxy.routing.table import Secret
from tests.outbound.openrouter import Accounts, reply, speaking


async def read(accounts: Accounts, total_s_max: float = 5.0) -> AccountFigures:
    """Ask once."""
    reader = AccountReader(total_s_max=total_s_max)
    try:
        return await reader.read(accounts.base_url, Secret("sk-or-1"))
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("usage", "byok", "limit_left", "credit", "figures"),
    [
        (1.5, 0, None, None, AccountFigures(1_500_000_000, None)),
        (0.000000001, 0, 3, None, AccountFigures(1, 3_000_000_000)),
        (25.000000000000004, 0, None, (100, 60.5), AccountFigures(25_000_000_001, 39_500_000_000)),
        (1, 0.25, 7, (10, 4), AccountFigures(1_250_000_000, 6_000_000_000)),
        (1, None, 2, (10, 4), AccountFigures(1_000_000_000, 2_000_000_000)),
        (1, 0, -0.5, (10, 12), AccountFigures(1_000_000_000, -2_000_000_000)),
    ],
)
async def test_an_account_is_read(
    usage: object, byok: object, limit_left: object, credit: tuple[object, object] | None, figures: AccountFigures
) -> None:
    """Exactly, with what its own keys were charged elsewhere; of two limits the lower counts."""
    async with speaking() as accounts:
        accounts.tell_key(usage, byok_usage=byok, limit_remaining=limit_left)
        if credit is not None:
            accounts.tell_credits(*credit)
        assert await read(accounts) == figures
        assert accounts.asked == [("/api/v1/key", "sk-or-1"), ("/api/v1/credits", "sk-or-1")]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(b"{}", status=401), "refused"),
        (reply(b"{}", status=500), "HTTP 500"),
        (reply(b"", status=302, headers="location: http://127.0.0.1:1/\r\n"), "HTTP 302"),
        (reply(b"<html>"), "no JSON"),
        (reply(b"[" * 30_000), "no JSON"),
        (reply(b'{"data": {"usage": NaN}}'), "no JSON"),
        (reply(b"[]"), "no `data`"),
        (reply(b'{"data": 5}'), "no `data`"),
        (reply(b'{"data": {"usage": "5"}}'), "`usage` is no number"),
        (reply(b'{"data": {"usage": true}}'), "`usage` is no number"),
        (reply(b'{"data": {"usage": 1e300}}'), "more than the books can hold"),
        (reply(b'{"data": {"usage": -1e300}}'), "more than the books can hold"),
        (reply(b" " * (ANSWER_BYTES_MAX + 1)), "too long"),
        (b"SSH-2.0\r\n\r\n", "not valid HTTP"),
    ],
)
async def test_what_cannot_be_believed_is_told_and_not_taken(answer: bytes, why: str) -> None:
    """In our words, without the host or the credential."""
    async with speaking() as accounts:
        accounts.answers["/api/v1/key"] = answer
        with pytest.raises(AccountUnreadable, match=why) as caught:
            await read(accounts)
    assert "127.0.0.1" not in str(caught.value)
    assert "sk-or" not in str(caught.value)


async def test_a_provider_that_does_not_answer_is_not_waited_for() -> None:
    """Nor one that is not there."""
    async with speaking() as accounts:
        accounts.is_silent = True
        with pytest.raises(AccountUnreadable, match=r"no answer in 0\.1 s"):
            await read(accounts, total_s_max=0.1)
    with pytest.raises(AccountUnreadable, match="connection failed"):
        await read(Accounts(port=1))
