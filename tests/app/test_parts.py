"""What a gateway is made of: opened whole or not at all, with keys declared and secrets hidden."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.app import open_gateway, open_ledger
from proxy.app.parts import Lines, hide_secrets, put_in_force, put_in_force_at_last
from proxy.codecs.wire import Upstream
from proxy.errors import ConfigError, LedgerUnavailable
from proxy.files import load_table
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Rate
from proxy.routing.table import Catalogue, Dialect, Provider, ProviderFlags, Table
from proxy.simulated import SimulatedUpstream
from proxy.telemetry import Telemetry
from tests.app.house import KEY, opened, settle_in
from tests.gateway.stage import FakeUpstream, a_provider, streamed

# ---------------------------------------------------------------- how a provider is reached


def a_finder() -> tuple[Lines, Upstream[Provider], Upstream[Provider]]:
    """Make the finder over a network that is none."""
    http, simulated = FakeUpstream(streamed()), SimulatedUpstream()
    return Lines(http=http, simulated=simulated), http, simulated


def sent(lines: Lines, provider: Provider, **fields: Any) -> dict[str, Any]:
    """Give what a provider would be sent."""
    body = {"messages": [], "stream": True, **fields}
    call = lines.find(provider).codec.encode(body, model="m", output_tokens_max=64)
    written: dict[str, Any] = orjson.loads(call.body)
    return written


def test_only_the_simulated_provider_needs_no_network() -> None:
    """All other dialects are called."""
    lines, http, simulated = a_finder()
    assert lines.find(a_provider("sim", dialect=Dialect.SIMULATED)).upstream is simulated
    assert lines.find(a_provider("one")).upstream is http
    assert lines.find(a_provider("router", dialect=Dialect.OPENROUTER)).upstream is http


def test_a_codec_is_made_once_for_a_provider_of_a_table() -> None:
    """An edit makes another one, even under the same name and with the same words."""
    lines, _, _ = a_finder()
    provider = a_provider("one")
    line = lines.find(provider)
    assert lines.find(provider) is line
    edited = replace(provider)
    assert lines.find(edited) is not line
    assert lines.find(edited) is lines.find(edited)


def test_a_providers_flags_reach_its_codec() -> None:
    """Who may be asked for usage, where a cap goes, and who knows OpenRouter's fields."""
    lines, _, _ = a_finder()
    assert sent(lines, a_provider("one"), transforms=[]).keys() == {
        "messages",
        "stream",
        "model",
        "stream_options",
        "max_tokens",
    }
    assert "transforms" in sent(lines, a_provider("router", dialect=Dialect.OPENROUTER), transforms=[])
    flags = ProviderFlags(stream_usage=False, max_tokens_field="max_completion_tokens")
    odd = sent(lines, a_provider("odd", flags=flags))
    assert "stream_options" not in odd
    assert odd["max_completion_tokens"] == 64
    asked = [{"role": "tool", "tool_call_id": "call_1", "content": "4"}]
    assert sent(lines, a_provider("free"), messages=asked)["messages"] == asked
    short = sent(lines, a_provider("short", flags=ProviderFlags(call_id_chars=9)), messages=asked)
    assert len(short["messages"][0]["tool_call_id"]) == 9


# ---------------------------------------------------------------- opening and closing


async def test_declared_keys_are_in_force(tmp_path: Path) -> None:
    """With their limits, under the digest only this folder's pepper makes."""
    async with opened(tmp_path) as gateway:
        (key,) = await gateway.ledger.list_keys()
        assert (key.name, key.is_declared, key.is_enabled) == ("app", True, True)
        assert key.limits.budgets == (Budget(5_000_000_000, Period.DAY),)
        assert key.digest == digest_key(gateway.pepper, KEY)
        assert await gateway.ledger.find_key(key.digest) == key


async def test_declared_limits_are_in_force(tmp_path: Path) -> None:
    """Of every place; those that leave the file are gone."""
    plain = "providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n"
    async with opened(tmp_path, f"{plain}rate: 60/min\ntenants: {{acme: {{parallel: 2}}}}\n") as gateway:
        assert await gateway.ledger.find_limits("global") == Limits(rates=(Rate(Measure.REQUESTS, 60, 60),))
        assert await gateway.ledger.find_limits("tenant:acme") == Limits(parallel=2)
    async with opened(tmp_path, plain) as gateway:
        assert await gateway.ledger.find_limits("global") == NO_LIMITS
        assert await gateway.ledger.find_limits("target:openrouter/*:free") != NO_LIMITS


async def test_a_key_that_left_the_file_is_disabled(tmp_path: Path) -> None:
    """A minted one stays."""
    async with opened(tmp_path) as gateway:
        await gateway.ledger.create_key(KeyRecord("minted", digest="d"))
    async with opened(tmp_path, "providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n") as gateway:
        found = {key.name: key.is_enabled for key in await gateway.ledger.list_keys()}
    assert found == {"app": False, "minted": True}


async def test_a_trial_beside_a_server_changes_no_key(tmp_path: Path) -> None:
    """Whatever its file says, the running one's keys are let in as before."""
    async with opened(tmp_path):
        pass
    settings = settle_in(tmp_path, "providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n")
    async with open_gateway(settings, {}) as gateway:
        (key,) = await gateway.ledger.list_keys()
    assert key.is_enabled


async def test_what_was_opened_is_closed(tmp_path: Path) -> None:
    """Books, network and log; a second gateway then opens on the same folder."""
    handlers = list(logging.getLogger().handlers)
    async with opened(tmp_path) as gateway:
        assert len(logging.getLogger().handlers) == len(handlers) + 1
    with pytest.raises(LedgerUnavailable):
        await gateway.ledger.list_keys()
    assert logging.getLogger().handlers == handlers
    async with opened(tmp_path) as gateway:
        assert await gateway.ledger.list_keys()


async def test_a_table_that_cannot_be_used_opens_nothing(tmp_path: Path) -> None:
    """No file is made."""
    with pytest.raises(ConfigError):
        await opened(tmp_path, "models: {chat: nowhere/x}\n").__aenter__()
    assert not (tmp_path / "data").exists()


async def test_a_data_folder_that_cannot_be_used_leaves_no_log_behind(tmp_path: Path) -> None:
    """What was opened before it is closed again."""
    handlers = list(logging.getLogger().handlers)
    (tmp_path / "data").write_text("a file")
    with pytest.raises(LedgerUnavailable):
        await opened(tmp_path).__aenter__()
    assert logging.getLogger().handlers == handlers


async def test_an_empty_environment_is_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has set is seen only by who asks for nothing else."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-machine")
    routes = "models: {chat: openai/gpt-4o}\n"
    async with opened(tmp_path, routes, environ={}) as gateway:
        (target,) = gateway.routes.current.routes["chat"].targets
        assert target.provider.not_ready == "OPENAI_API_KEY is not set"
    async with open_gateway(settle_in(tmp_path, routes)) as gateway:
        (target,) = gateway.routes.current.routes["chat"].targets
        assert target.provider.not_ready is None


async def test_the_books_can_be_opened_alone(tmp_path: Path) -> None:
    """For a command that asks them something, beside a gateway too."""
    async with opened(tmp_path):
        ledger = await open_ledger(tmp_path / "data")
        assert [key.name for key in await ledger.list_keys()] == ["app"]
        await ledger.close()


async def test_the_catalogue_answers_for_facts_and_ids(tmp_path: Path) -> None:
    """The shipped one."""
    async with opened(tmp_path) as gateway:
        assert gateway.service.facts("openai", "gpt-4o").prices is not None
        assert "gpt-4o" in gateway.catalogue.list_models("openai")


# ---------------------------------------------------------------- secrets


SECRETIVE = """
providers:
  openai: {api_key: "${A_KEY}"}
  own:
    dialect: openai
    base_url: https://own.example/v1
    headers: {Authorization: "Bearer ${A_HEADER}", X-Team: plain-team}
models: {chat: openai/gpt-4o, mine: own/m}
"""
ENVIRON = {"A_KEY": "provider-key-value", "A_HEADER": "header-key-value"}


def secretive_table(folder: Path) -> Table:
    """Load a table that holds secrets."""
    file = folder / "routes.yaml"
    file.write_text(SECRETIVE)
    return load_table(file, environ=ENVIRON, catalogue=Catalogue())


def test_a_tables_secrets_are_hidden_from_the_log(tmp_path: Path) -> None:
    """By their values, wherever they turn up; what is no secret stays readable."""
    stream = io.BytesIO()
    telemetry = Telemetry(stream=stream)
    hide_secrets(telemetry, secretive_table(tmp_path))
    telemetry.warn("odd", text="provider-key-value header-key-value plain-team")
    telemetry.close()
    assert orjson.loads(stream.getvalue())["text"] == "*** *** plain-team"


async def test_a_new_tables_secrets_are_hidden_before_it_is_in_force(tmp_path: Path) -> None:
    """Its keys are in the log's mask even when the ledger does not take the table."""
    hidden: list[str] = []

    class Listening(Telemetry):
        def register_secret(self, value: str) -> None:
            hidden.append(value)

    async with opened(tmp_path) as gateway:
        telemetry = Listening(stream=io.BytesIO())
        await gateway.ledger.close()
        with pytest.raises(LedgerUnavailable):
            await put_in_force(replace(gateway, telemetry=telemetry), secretive_table(tmp_path))
        telemetry.close()
    assert hidden == ["provider-key-value", "header-key-value"]


async def test_a_table_waits_for_a_busy_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put in force when the ledger takes it, and the log says that its keys wait."""
    monkeypatch.setattr("proxy.app.parts.DECLARE_AGAIN_S", 0.001)
    stream = io.BytesIO()
    async with opened(tmp_path) as gateway:
        declare, refusals = gateway.ledger.declare_keys, [LedgerUnavailable("the disk is full")] * 2

        async def declare_at_last(keys: Any) -> None:
            if refusals:
                raise refusals.pop()
            await declare(keys)

        monkeypatch.setattr(gateway.ledger, "declare_keys", declare_at_last)
        telemetry = Telemetry(stream=stream)
        await put_in_force_at_last(replace(gateway, telemetry=telemetry))
        telemetry.close()
    events = [orjson.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["keys_wait_for_ledger", "keys_wait_for_ledger", "routes_loaded"]
