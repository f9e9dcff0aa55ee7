"""`keys create`, `list`, `revoke`: on the files, whether or not a server runs."""

from __future__ import annotations

import asyncio
import re
import stat

import pytest

from proxy.app import open_ledger
from proxy.ledger.folder import digest_key, load_pepper
from proxy.ledger.records import KeyRecord
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS
from tests.cli.conftest import Shell


def find(shell: Shell, key: str) -> KeyRecord | None:
    """Look a key up as a server would."""

    async def look() -> KeyRecord | None:
        ledger = await open_ledger(shell.data)
        try:
            return await ledger.find_key(digest_key(load_pepper(shell.data), key))
        finally:
            await ledger.close()

    return asyncio.run(look())


def test_a_key_stands_alone_on_stdout_and_works(shell: Shell) -> None:
    """What is said about it goes to stderr; the data folder is private from the first moment."""
    result = shell.here("keys", "create", "mobile")
    assert result.code == 0
    assert re.fullmatch(r"sk-tp-[A-Za-z0-9_-]{43}\n", result.out)
    assert "mobile" in result.err
    record = find(shell, result.out.strip())
    assert record is not None
    assert (record.name, record.limits, record.models, record.expires_at_s) == ("mobile", NO_LIMITS, None, None)
    assert stat.S_IMODE(shell.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((shell.data / "pepper").stat().st_mode) == 0o600
    for path in shell.data.rglob("*"):
        assert path.is_dir() or result.out.strip().encode() not in path.read_bytes()


def test_a_key_has_the_limits_it_was_given(shell: Shell) -> None:
    """Budget, models, life."""
    result = shell.here(
        "keys", "create", "mobile", "--budget", "$5/day", "--models", "chat, or/*,chat", "--expires", "30d"
    )
    assert "$5/day" in result.err
    record = find(shell, result.out.strip())
    assert record is not None
    assert record.limits.budgets == (Budget(5_000_000_000, Period.DAY),)
    assert record.models == ("chat", "or/*")
    assert record.expires_at_s is not None
    assert record.expires_at_s - record.created_at_s == 30 * 86_400


def test_a_new_key_can_be_read_by_a_program(shell: Shell) -> None:
    """As one object."""
    made = shell.here("keys", "create", "mobile", "--budget", "$0.25", "--json").json
    assert made["key"].startswith("sk-tp-")
    assert (made["name"], made["budget"], made["models"], made["expires_at"]) == ("mobile", "$0.25", None, None)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["mobile", "--budget", "5"], "--budget"),
        (["mobile", "--budget", "$5/fortnight"], "--budget"),
        (["mobile", "--budget", ""], "in single quotes"),
        (["mobile", "--budget", "/day"], "in single quotes"),
        (["mobile", "--expires", "soon"], "--expires"),
        (["mobile", "--expires", ""], "--expires"),
        (["mobile", "--models", "a**b"], "--models"),
        (["mobile", "--models", " , "], "--models"),
        ([" mobile"], "NAME"),
        (["m\x1bobile"], "NAME"),
        (["m" * 65], "NAME"),
        ([""], "NAME"),
    ],
)
def test_a_wish_that_cannot_be_read_is_named(shell: Shell, arguments: list[str], flag: str) -> None:
    """2, and no key made."""
    result = shell.here("keys", "create", *arguments)
    assert (result.code, result.out) == (2, "")
    assert flag in result.err
    assert not shell.data.exists()


def test_a_name_is_given_once(shell: Shell) -> None:
    """2; the key of that name is left alone."""
    key = shell.here("keys", "create", "mobile").out.strip()
    result = shell.here("keys", "create", "mobile")
    assert (result.code, result.out) == (2, "")
    assert "exists already" in result.err
    assert find(shell, key) is not None


def test_keys_are_listed_without_their_values(shell: Shell) -> None:
    """State, limits, what is left."""
    made = [
        shell.here("keys", "create", "a", "--budget", "$0.01", "--models", "chat").out.strip(),
        shell.here("keys", "create", "b").out.strip(),
        shell.here("keys", "create", "c", "--expires", "1ms").out.strip(),
    ]
    shell.book(key="a", cost=4_000_000)
    assert shell.here("keys", "revoke", "b").code == 0
    result = shell.here("keys", "list")
    assert result.code == 0
    lines = [re.split(r" {2,}", line.strip()) for line in result.out.splitlines()]
    assert lines[1][:7] == ["a", "active", "minted", "-", "$0.01", "$0.006", "chat"]
    assert [line[1] for line in lines[1:]] == ["active", "revoked", "expired"]
    for key in made:
        assert key not in result.out


def test_a_list_can_be_read_by_a_program(shell: Shell) -> None:
    """With how each budget stands."""
    shell.here("keys", "create", "a", "--budget", "$0.01/month")
    (key,) = shell.here("keys", "list", "--json").json["keys"]
    assert (key["name"], key["state"], key["declared"], key["budget"]) == ("a", "active", False, "$0.01/month")
    assert key["budgets"][0]["limit_usd"] == "0.010000000"


def test_a_revoked_key_is_disabled(shell: Shell) -> None:
    """It stays in the books."""
    key = shell.here("keys", "create", "a").out.strip()
    result = shell.here("keys", "revoke", "a")
    assert (result.code, result.out) == (0, "")
    record = find(shell, key)
    assert record is not None
    assert not record.is_enabled


def test_an_unknown_key_cannot_be_revoked(shell: Shell) -> None:
    """1, in both forms."""
    shell.here("keys", "create", "a")
    assert shell.here("keys", "revoke", "b").code == 1
    result = shell.here("keys", "revoke", "b", "--json")
    assert (result.code, result.json) == (1, {"name": "b", "revoked": False})


def test_revoking_a_declared_key_tells_where_it_comes_from(shell: Shell) -> None:
    """The next load of the routes file would enable it again."""

    async def declare() -> None:
        ledger = await open_ledger(shell.data)
        await ledger.declare_keys([KeyRecord("app", digest="d", is_declared=True)])
        await ledger.close()

    asyncio.run(declare())
    assert "routes file" in shell.here("keys", "list").out
    result = shell.here("keys", "revoke", "app", "--json")
    assert result.json == {"name": "app", "revoked": True}
    assert "take it out there" in result.err
