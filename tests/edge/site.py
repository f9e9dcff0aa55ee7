"""The chat endpoint over a stage of stubs: on a socket, or called as a server would call it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson

from proxy.edge.auth import Authenticator
from proxy.edge.chat import ChatEndpoint
from proxy.edge.protocol import WHEN_LEFT
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.routing.table import Table
from proxy.telemetry import Telemetry
from tests.edge.connection import PATIENT, Served, served
from tests.faults.steps import Json
from tests.gateway.stage import (
    Script,
    Stage,
    a_key,
    a_stage,
    in_time,
)

PEPPER = b"p" * 32
KEY = "sk-test-chat"
PATH = "/v1/chat/completions"
ROUTER_PATH = "/api/v1/chat/completions"
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "Hello!"}]}


def the_key(**fields: Any) -> KeyRecord:
    """Make the record of the client's key."""
    return replace(a_key(), digest=digest_key(PEPPER, KEY), **fields)


class Site:
    """The endpoint on a socket, and its log."""

    def __init__(self, stage: Stage, *tables: Table) -> None:
        self.stage = stage
        following = list(tables)
        self._log = io.BytesIO()
        self._telemetry = Telemetry(stream=self._log)
        authenticator = Authenticator(stage.ledger, pepper=PEPPER, clock=stage.service.clock)
        self.endpoint = ChatEndpoint(
            stage.service,
            authenticator=authenticator,
            table=lambda: following.pop(0) if following else stage.table,
            telemetry=self._telemetry,
        )
        self.http = httpx.AsyncClient()
        self.served: Served | None = None

    async def ask(self, body: object = None, *, path: str = PATH, key: str = KEY, **headers: str) -> httpx.Response:
        """Ask over the socket and read the whole reply; a body that is cut raises."""
        assert self.served is not None
        fields = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else orjson.dumps(HELLO if body is None else body)
        url = f"http://127.0.0.1:{self.served.port}{path}"
        return await self.http.post(url, content=content, headers=fields | given)

    def log(self) -> list[Json]:
        """Close the log and read it."""
        self._telemetry.close()
        return [orjson.loads(line) for line in self._log.getvalue().splitlines()]


@asynccontextmanager
async def site(stage: Stage, *, stall_s: float | None = None) -> AsyncIterator[Site]:
    """Serve the endpoint."""
    limits = PATIENT if stall_s is None else replace(PATIENT, stall_s=stall_s)
    made = Site(stage)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await made.endpoint(scope, receive, send)

    async with in_time(), served(app, limits) as made.served, made.http:
        yield made


async def a_site_stage(*scripts: Script, **fields: Any) -> Stage:
    """Make a stage whose key a client can send."""
    return await a_stage(*scripts, **{"key": the_key(), **fields})


def stream_of(**fields: Any) -> dict[str, Any]:
    """Ask for a stream."""
    return {**HELLO, "stream": True, **fields}


def a_scope(*headers: tuple[bytes, bytes], path: str = PATH) -> dict[str, Any]:
    """Make what a server hands an app."""
    return {
        "path": path,
        "headers": [(b"authorization", f"Bearer {KEY}".encode()), *headers],
        "extensions": {WHEN_LEFT: lambda _callback: None},
    }


class Receiver:
    """A client that sends these messages and then waits, or leaves."""

    def __init__(self, body: object, *, leaves: bool = False, parts: int = 1, more: int = 0) -> None:
        data = orjson.dumps(body)
        step = -(-len(data) // parts)
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        self._messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if not leaves:
            self._messages[-1]["more_body"] = False
        self._messages += [{"type": "http.request", "body": b"more", "more_body": False}] * more
        self._leaves = leaves

    async def __call__(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        if not self._leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


class Sender:
    """Keeps what an app sends."""

    def __init__(self, *, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.messages: list[Any] = []
        self._fails_at = fails_at
        self._error = error or ConnectionResetError()

    async def __call__(self, message: Any) -> None:
        if len(self.messages) == self._fails_at:
            raise self._error
        self.messages.append(message)
