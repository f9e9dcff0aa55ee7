"""`POST chat/completions` (floor 5): HTTP in, the gateway, HTTP out. A plain ASGI callable, because it is the hot path.

One task serves one request. The connection tells it when the client leaves, whatever it waits for at that moment,
before the first byte as well as after. The connection is ended cleanly only behind a whole answer; a stream that broke
is cut.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.types import Message, Receive, Scope, Send

from proxy.codecs.wire import JsonObject
from proxy.edge.auth import Authenticator, holds_key
from proxy.edge.body import ClientLeft, RawHeaders, parse_body, read_body
from proxy.edge.errors import Headers, error_reply, error_status, send_reply, surface_of
from proxy.edge.labels import LABELS, read_app, read_tags
from proxy.edge.protocol import CUT, WHEN_LEFT
from proxy.edge.wishes import OURS, TELLING, read_wish
from proxy.errors import ClientError, RequestError, Unauthenticated
from proxy.gateway import (
    FORWARDED,
    VALUE_CHARS_MAX,
    Answer,
    Asked,
    Exchange,
    KeyChanged,
    Service,
    SharedExchange,
    is_shared,
)
from proxy.routing.caching import NO_WISH
from proxy.routing.table import Table
from proxy.telemetry import Board, FinishedRequest, Meters, Telemetry

PLANS_MAX = 3
"""How often a request is planned anew because its key was changed meanwhile."""
OK = 200
CLIENT_LEFT_STATUS = 499
"""What the log shows for a client that went away, as nginx does."""

BEGUN = "turnpike.begun"
"""Set in the scope once the reply's head is out: from then on an error can only cut the connection."""

_TELLING = FORWARDED | LABELS | TELLING
"""Headers that are looked at only when one of them is there."""
_NOTHING: Mapping[str, str] = {}
_IDS = random.Random()
os.register_at_fork(after_in_child=_IDS.seed)  # or all workers would make the same ids
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")


class ChatEndpoint:
    """Serves chat completions on both surfaces."""

    def __init__(
        self,
        service: Service,
        *,
        authenticator: Authenticator,
        table: Callable[[], Table],
        telemetry: Telemetry,
        meters: Meters | None = None,
    ) -> None:
        """Serve with these; `table` gives the routing table in force."""
        self._meters = meters or Meters(Board().pages[0])
        self._service = service
        self._authenticator = authenticator
        self._table = table
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = wished_id(scope["headers"])
        surface = surface_of(scope["path"])
        self._meters.request_begun()
        try:
            await self._serve(scope, receive, send, request_id)
        except ClientLeft:
            return
        except RequestError as error:
            await send_reply(send, error_reply(error, surface, request_id=request_id))
            status = error_status(error, surface)
            self._meters.request_refused(status, error.code)
            self._telemetry.request_refused(request_id, status, error.code)
        except Exception as error:  # noqa: BLE001  # whatever bug it is, the client gets our JSON and the log the stack
            self._telemetry.fail("request_crashed", error, request_id=request_id)
            if scope.get(BEGUN):
                scope["extensions"][CUT]()
            else:
                await send_reply(send, error_reply(error, surface, request_id=request_id))
        finally:
            self._meters.request_ended()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        received_s = self._service.clock.monotonic_s()
        headers: RawHeaders = scope["headers"]
        table = self._table()
        principal = await self._authenticator.authenticate_cached(headers, table)
        data = await read_body(headers, receive)
        body = await parse_body(data)
        _refuse_key_as_model(headers, body)
        is_telling = not _TELLING.isdisjoint([name for name, _ in headers])
        wish = read_wish(headers, body) if is_telling or OURS in body else NO_WISH
        for _ in range(PLANS_MAX):
            asked = Asked(
                body=body,
                body_bytes=len(data),
                surface=surface_of(scope["path"]),
                principal=principal,
                table=principal.view or table,
                request_id=request_id,
                app=read_app(headers) if is_telling else None,
                received_s=received_s,
                forwarded=_forwarded(headers) if is_telling else _NOTHING,
                tags=read_tags(headers) if is_telling else (),
            )
            service = self._service
            exchange = SharedExchange(asked, wish, service) if is_shared(wish, table) else Exchange(asked, service)
            try:
                has_changed = partial(self._authenticator.has_changed, headers, principal)
                record = await _Turn(exchange, send, scope, has_changed=has_changed).run()
            except KeyChanged:
                self._authenticator.forget(principal.name)
                principal = await self._authenticator.authenticate_cached(headers, table)
            else:
                self._meters.request_finished(record)
                self._telemetry.request_finished(record)
                return
        msg = "The client key is being changed; try again."
        raise Unauthenticated(msg)


class _Turn:
    """One exchange and the connection it answers on."""

    def __init__(
        self,
        exchange: Exchange | SharedExchange,
        send: Send,
        scope: Scope,
        *,
        has_changed: Callable[[], Awaitable[bool]],
    ) -> None:
        self._exchange = exchange
        self._has_changed = has_changed
        self._surface = surface_of(scope["path"])
        self._send = send
        self._scope = scope
        self._is_over = False
        self._has_left = False
        self._status = OK

    async def run(self) -> FinishedRequest:
        """Answer the request; gives its record when the last byte is written or the client has gone."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        when_left = self._scope["extensions"][WHEN_LEFT]
        when_left(partial(self._leave, task))
        try:
            async with self._exchange:
                await self._answer()
        except asyncio.CancelledError:
            if not self._has_left:
                raise
            task.uncancel()
        except OSError:
            self._has_left = True
        except KeyChanged:
            raise
        except RequestError as error:
            if await self._is_outdated(error):
                raise KeyChanged(error.message) from error
            self._is_over = True
            self._status = error_status(error, self._surface)
            routing = self._exchange.routing()
            reply = error_reply(error, self._surface, request_id=self._exchange.request_id, routing=routing)
            reply.headers.extend(_encoded(self._exchange.failure_headers()))
            await send_reply(self._send, reply)
            self._exchange.error = error.code
        finally:
            self._is_over = True
        status = CLIENT_LEFT_STATUS if self._has_left else self._status
        return self._exchange.record(status)

    async def _is_outdated(self, error: RequestError) -> bool:
        """Tell whether a plan was refused under a key or a tenant that is another one by now.

        What the ledger refuses was judged by what holds; a plan that never got there was made with what is remembered.
        """
        is_planned = isinstance(error, ClientError) or error.code == "max_cost_exceeded"
        return is_planned and self._exchange.attempts == 0 and await self._has_changed()

    async def _answer(self) -> None:
        answer = await self._exchange.answer()
        if answer.body is not None:
            self._is_over = True
            await self._start(
                answer, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.body))]
            )
            await self._say({"type": "http.response.body", "body": answer.body})
            return
        await self._start(
            answer,
            [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")],
        )
        while piece := await self._exchange.next_piece():
            self._is_over = self._exchange.is_settled
            is_last = self._is_over and not self._exchange.is_broken
            await self._say({"type": "http.response.body", "body": piece, "more_body": not is_last})
        if self._exchange.is_broken:
            self._scope["extensions"][CUT]()

    async def _start(self, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
        self._scope[BEGUN] = True
        headers += _encoded(answer.headers)
        await self._say({"type": "http.response.start", "status": OK, "headers": headers})

    async def _say(self, message: Message) -> None:
        """Send to the client; to nobody, once it has left an exchange that goes on without it."""
        if self._has_left:
            return
        try:
            await self._send(message)
        except OSError:
            if not self._exchange.outlives_client():
                raise
            self._has_left = True

    def _leave(self, task: asyncio.Task[None]) -> None:
        """Interrupt whatever is waited for, unless the answer is out or decided, or others want it."""
        if self._is_over or self._has_left:
            return
        self._has_left = True
        if not self._exchange.outlives_client():
            task.cancel()


def _encoded(headers: dict[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _refuse_key_as_model(headers: RawHeaders, body: JsonObject) -> None:
    """A key pasted into the wrong field would reach the log, the books and, behind a glob, the upstream."""
    model = body.get("model")
    if isinstance(model, str) and holds_key(headers, model.encode()):
        msg = "`model` holds the client key; name a model there."
        raise ClientError(msg, param="model")


def wished_id(headers: RawHeaders) -> str:
    """Take the client's `x-request-id` if it is one we can vouch for, else make one."""
    for name, value in headers:
        if name == b"x-request-id":
            is_good = _REQUEST_ID.fullmatch(value) and not holds_key(headers, value)
            return value.decode() if is_good else new_id()
    return new_id()


def new_id() -> str:
    """Make a request id nobody has had, later ones sorting behind: the ledger's index then grows at its end only."""
    return f"req_{time.time_ns() // 1_000_000:011x}{_IDS.getrandbits(52):013x}"


def _forwarded(headers: RawHeaders) -> dict[str, str]:
    """Take the headers some providers are told too, printable, of bounded length and never the client's key."""
    found = {
        name.decode(): value.decode("latin-1")
        for name, value in headers
        if name in FORWARDED and len(value) <= VALUE_CHARS_MAX and not holds_key(headers, value)
    }
    return {name: value for name, value in found.items() if value.isascii() and value.isprintable()} if found else found
