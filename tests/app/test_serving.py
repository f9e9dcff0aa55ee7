"""A gateway that serves: which path leads where, what is said at a start, and the jobs beside it."""

from __future__ import annotations

import asyncio
import gc
import io
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from proxy.app import Gateway, Settings, build_app, run
from proxy.app import serving as under_test
from proxy.app.serving import GC_ALLOCATIONS, spare_collections, unverified
from proxy.edge.server import ListenError, listen
from proxy.errors import ConfigError
from proxy.files import RoutesFile, load_table
from proxy.ledger.memory import MemoryLedger
from proxy.routing.table import Catalogue
from proxy.telemetry import Telemetry
from tests.app.house import KEY, ROUTES, opened, settle_in
from tests.edge.connection import served
from tests.gateway.stage import in_time

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello!"}]}
KEYLESS = "providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo, paid: openai/gpt-4o}\n"


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Give the cycle collector back as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


# ---------------------------------------------------------------- paths


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the app over a socket."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with served(build_app(gateway, started_at_s=gateway.clock.now_s())) as server:
        base_url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=base_url, headers=headers) as client:
            yield client


async def test_usage_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is, a piece at a time."""
    monkeypatch.setattr("proxy.edge.spooling.CHUNK_BYTES", 100)
    async with opened(tmp_path) as gateway, client_of(gateway) as client:
        for user in range(5):
            await client.post("/v1/chat/completions", json={**ASKED, "user": f"u{user}"})
        async with client.stream("GET", "/v1/usage?by=user&format=csv") as response:
            lines = [line async for line in response.aiter_lines()]
    assert response.headers["content-type"].startswith("text/csv")
    assert "content-length" not in response.headers
    assert [line.split(",")[0] for line in lines] == ["user", "u0", "u1", "u2", "u3", "u4"]


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_chat_is_served_on_both_surfaces(tmp_path: Path, prefix: str) -> None:
    """And every other method of its path is told which one it has."""
    async with opened(tmp_path) as gateway, client_of(gateway) as client:
        reply = await client.post(f"{prefix}/chat/completions", json=ASKED)
        assert (reply.status_code, reply.headers["x-turnpike-provider"]) == (200, "sim")
        refused = await client.get(f"{prefix}/chat/completions")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_the_quiet_endpoints_are_served_beside_it(tmp_path: Path) -> None:
    """From the same books, table and keys."""
    async with opened(tmp_path) as gateway, client_of(gateway) as client:
        await client.post("/v1/chat/completions", json=ASKED)
        health = (await client.get("/health")).json()
        assert health["status"] == "ok"
        assert health["config"]["id"] == gateway.routes.current.id
        assert {model["id"] for model in (await client.get("/v1/models")).json()["data"]} == {"chat", "pair", "gone"}
        assert (await client.get("/v1/key")).json()["data"]["budgets"][0]["posted_usd"] != "0.000000000"
        assert (await client.get("/v1/nowhere")).status_code == 404


# ---------------------------------------------------------------- a start


class Start:
    """A server started in this process, and what it said."""

    def __init__(self, settings: Settings) -> None:
        self.said: list[str] = []
        self._settings = settings
        self._ready = asyncio.Event()

    def _say(self, text: str) -> None:
        self.said.append(text)
        if text.startswith("listening on "):
            self._ready.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; gives the address. It is ended as an operator ends it."""
        task = asyncio.create_task(run(self._settings, say=self._say))
        async with in_time():
            ready = asyncio.create_task(self._ready.wait())
            await asyncio.wait({task, ready}, return_when="FIRST_COMPLETED")
            if task.done():
                ready.cancel()
                await task
        yield self.said[-1].removeprefix("listening on ")
        signal.raise_signal(signal.SIGTERM)
        async with in_time():
            await task


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what providers this machine has keys for."""
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_first_start_says_all_that_a_newcomer_needs(tmp_path: Path, bare: None) -> None:
    """What is not ready, a key that works at once, and last the address."""
    settings = settle_in(tmp_path, KEYLESS)
    start = Start(settings)
    async with start.running() as address:
        *notes, greeting, last = start.said
        assert notes
        assert "OPENAI_API_KEY" in notes[0]
        assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+", last)
        assert f"{address}/v1" in greeting
        key = re.search(r"sk-tp-[\w-]{43}", greeting)
        assert key is not None
        async with httpx.AsyncClient() as client:
            reply = await client.get(f"{address}/v1/models", headers={"authorization": f"Bearer {key[0]}"})
            assert reply.status_code == 200
    again = Start(settings)
    async with again.running():
        assert not any("sk-tp-" in line for line in again.said)


async def test_a_start_with_declared_keys_mints_none(tmp_path: Path, bare: None) -> None:
    """They are let in at once."""
    start = Start(settle_in(tmp_path))
    async with start.running() as address, httpx.AsyncClient() as client:
        reply = await client.get(f"{address}/v1/key", headers={"authorization": f"Bearer {KEY}"})
        assert reply.json()["data"]["label"] == "app"
    assert not any("sk-tp-" in line for line in start.said)


async def test_a_port_in_use_is_found_before_anything_is_opened(tmp_path: Path) -> None:
    """No file is made."""
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        settings = replace(settle_in(tmp_path), port=taken.getsockname()[1])
        with pytest.raises(ListenError):
            await run(settings, say=lambda _: None)
    assert not settings.data.exists()


async def test_a_start_that_fails_gives_its_port_back(tmp_path: Path) -> None:
    """Somebody else can take it at once."""
    with listen("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    settings = replace(settle_in(tmp_path, "models: {chat: nowhere/x}\n"), port=port)
    with pytest.raises(ConfigError):
        await run(settings, say=lambda _: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_a_certificate_nobody_checks_is_said_aloud(tmp_path: Path) -> None:
    """At every start, by the provider's name."""
    file = tmp_path / "routes.yaml"
    file.write_text(
        "providers:\n"
        "  lax: {dialect: openai, base_url: 'https://lax.example/v1', verify: false}\n"
        "  good: {dialect: openai, base_url: 'https://good.example/v1'}\n"
        "models: {a: [lax/m, good/m]}\n"
    )
    table = load_table(file, environ={}, catalogue=Catalogue())
    assert unverified(table) == ["lax: its TLS certificate is not checked (verify: false)"]


def test_the_collector_is_spared() -> None:
    """What was made at the start is not looked at again, and collections are rare."""
    spare_collections()
    assert gc.get_threshold()[0] == GC_ALLOCATIONS
    assert gc.get_freeze_count() > 0


# ---------------------------------------------------------------- the jobs


class Journal:
    """A gateway whose log can be read."""

    def __init__(self, gateway: Gateway) -> None:
        self._stream = io.BytesIO()
        self._telemetry = Telemetry(stream=self._stream)
        self.gateway = replace(gateway, telemetry=self._telemetry)

    def events(self) -> list[Any]:
        """Read what has been logged so far."""
        return [orjson.loads(line) for line in self._stream.getvalue().splitlines()]

    async def until(self, event: str) -> Any:
        """Wait for a line."""
        async with in_time():
            while not (found := [line for line in self.events() if line["event"] == event]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found[-1]

    def close(self) -> None:
        """Close the log."""
        self._telemetry.close()


@asynccontextmanager
async def at_work(folder: Path, change: Callable[[Gateway], Gateway] = lambda same: same) -> AsyncIterator[Journal]:
    """Open a gateway with its jobs."""
    async with opened(folder) as gateway:
        journal = Journal(change(gateway))
        async with under_test._jobs(journal.gateway):  # noqa: SLF001  # what `run` holds while it serves
            yield journal
        journal.close()


def edit(folder: Path, text: str) -> None:
    """Replace the routing table by rename, as editors do."""
    draft = folder / "draft"
    draft.write_text(text)
    draft.replace(folder / "routes.yaml")


async def test_a_good_edit_is_put_in_force_and_a_bad_one_told(tmp_path: Path) -> None:
    """New keys are let in without a start; what is wrong with a file stands in the log, and the old table serves on."""
    async with at_work(tmp_path) as journal:
        edit(tmp_path, ROUTES.replace("name: app", "name: renamed"))
        assert (await journal.until("routes_loaded"))["config"] == journal.gateway.routes.current.id
        keys = {key.name: key.is_enabled for key in await journal.gateway.ledger.list_keys()}
        assert keys == {"app": False, "renamed": True}
        edit(tmp_path, "models: {chat: nowhere/x}\n")
        assert "nowhere" in (await journal.until("routes_refused"))["problems"]
        assert journal.gateway.routes.is_stale
        assert "chat" in journal.gateway.routes.current.routes


async def test_what_the_dead_left_is_told(tmp_path: Path) -> None:
    """With what it means."""

    class Mourning(MemoryLedger):
        async def resolve_dead_owners(self, now_s: float) -> int:
            return 3

    async with at_work(tmp_path, lambda gateway: replace(gateway, ledger=Mourning(clock=gateway.clock))) as journal:
        told = await journal.until("holds_resolved")
    assert (told["attempts"], told["level"]) == (3, "warning")


async def test_a_job_that_fails_is_told_and_harms_nobody(tmp_path: Path) -> None:
    """With its stack: it is a bug."""

    class Broken(MemoryLedger):
        async def resolve_dead_owners(self, now_s: float) -> int:
            raise ZeroDivisionError

    async with at_work(tmp_path, lambda gateway: replace(gateway, ledger=Broken(clock=gateway.clock))) as journal:
        told = await journal.until("job_failed")
    assert (told["job"], told["level"]) == ("sweep", "error")
    assert "ZeroDivisionError" in told["trace"]


async def test_a_watch_that_dies_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that nobody noticed would be worse."""

    async def watch(_routes: object, _on_change: object) -> None:
        raise ZeroDivisionError

    async def serve() -> None:
        async with at_work(tmp_path):
            await asyncio.Event().wait()

    monkeypatch.setattr(RoutesFile, "watch", watch)
    async with in_time():
        with pytest.raises(ExceptionGroup) as caught:
            await serve()
    assert caught.value.subgroup(ZeroDivisionError) is not None
