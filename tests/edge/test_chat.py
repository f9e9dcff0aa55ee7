"""The chat endpoint: ids, names, errors before and after the head, keys that change, clients that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import httpx
import orjson
import pytest

from proxy.clock import SystemClock
from proxy.edge.chat import PLANS_MAX, new_id, wished_id
from proxy.errors import LedgerUnavailable
from proxy.ledger.records import Admission, AttemptState, KeyRecord
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.money import format_usd
from tests.edge.connection import connected
from tests.edge.site import (
    HELLO,
    KEY,
    PATH,
    ROUTER_PATH,
    Receiver,
    Sender,
    Site,
    a_scope,
    a_site_stage,
    site,
    stream_of,
    the_key,
)
from tests.faults import chunks
from tests.gateway.stage import (
    HELD,
    CountingLedger,
    Gate,
    Stage,
    a_table,
    broken,
    events,
    in_time,
    refused,
    streamed,
    whole,
)

# ---------------------------------------------------------------- ids and names


@pytest.mark.parametrize("wished", ["mine", "A-b_9", "x" * 64])
async def test_a_wished_id_is_kept(wished: str) -> None:
    """In the reply's head, in the books and in the log."""
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        reply = await made.ask(x_request_id=wished)
        assert reply.headers["x-request-id"] == wished
        assert (await stage.rows())[0].request_id == wished
        assert made.log()[0]["request_id"] == wished


@pytest.mark.parametrize("wished", ["", "x" * 65, "a b", "a/b", "nichtä"])
def test_an_id_we_cannot_vouch_for_is_replaced(wished: str) -> None:
    """It goes into logs and headers, where only plain words may stand."""
    made = wished_id([(b"accept", b"*/*"), (b"x-request-id", wished.encode())])
    assert made != wished
    assert made.startswith("req_")


def test_ids_of_ours_sort_by_time() -> None:
    """Nobody had them before, and a later one sorts behind an earlier one of another millisecond."""
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(wished_id([(b"x-request-id", one.encode())]) == one for one in ids[:10])
    assert [one[:15] for one in ids] == sorted(one[:15] for one in ids)


@pytest.mark.parametrize(
    ("header", "sent", "kept"),
    [
        ("x-title", b"My App", "My App"),
        ("x-openrouter-title", b"Other", "Other"),
        ("x-title", b"tab\there\x7f", "tabhere"),
        ("x-title", b"y" * 300, "y" * 100),
        ("x-title", b"caf\xe9", "caf\u00e9"),
        ("x-title", b" ", None),
        ("accept", b"*/*", None),
    ],
)
async def test_the_apps_name_is_booked(header: str, sent: bytes, kept: str | None) -> None:
    """As OpenRouter's clients send it, printable and short."""
    stage = await a_site_stage(whole())
    made = Site(stage)
    scope = a_scope((header.encode(), sent))
    await made.endpoint(scope, Receiver(HELLO), Sender())
    assert (await stage.rows())[0].app == kept
    await made.http.aclose()


async def test_a_client_key_in_the_wrong_place_is_written_nowhere() -> None:
    """Not as an id or an app's name, and as a model it is refused: behind a glob it would go upstream too."""
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        answered = await made.ask(x_request_id=f"id-{KEY}", x_title=f"app {KEY}")
        refused_ = await made.ask({**HELLO, "model": f"openrouter/{KEY}"})
        log = repr(made.log())
    (row,) = await stage.rows()
    assert (answered.status_code, refused_.status_code, refused_.json()["error"]["param"]) == (200, 400, "model")
    assert answered.headers["x-request-id"] == row.request_id
    assert row.app is None
    assert KEY not in f"{answered.headers} {refused_.headers} {refused_.text} {row} {log}"


# ---------------------------------------------------------------- answers


async def test_a_whole_answer_has_its_length() -> None:
    """And the headers that explain it."""
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        reply = await made.ask()
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.json()["choices"][0]["message"]["content"] == chunks.text(5)
    assert reply.headers["x-turnpike-provider"] == "one"


async def test_a_stream_says_that_it_is_one() -> None:
    """And asks those between not to hold it back."""
    stage = await a_site_stage(streamed())
    async with site(stage) as made:
        reply = await made.ask(stream_of(stream_options={"include_usage": True}))
        finished = made.log()[0]
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.content.endswith(b"data: [DONE]\n\n")
    assert (finished["event"], finished["status"], finished["cost_usd"]) == ("request_finished", 200, "0.000017000")


async def test_a_body_in_many_parts_is_one_body() -> None:
    """However the network has cut it."""
    stage = await a_site_stage(whole())
    made, sender = Site(stage), Sender()
    await made.endpoint(a_scope(), Receiver(HELLO, parts=7), sender)
    assert sender.messages[0]["status"] == 200
    await made.http.aclose()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("body", "key", "status", "code"),
    [
        (HELLO, "sk-test-nobody", 401, "invalid_api_key"),
        (b"{", KEY, 400, "invalid_json"),
        ({**HELLO, "base_url": "x"}, KEY, 400, "unknown_parameter"),
    ],
)
async def test_a_request_refused_at_the_door(body: object, key: str, status: int, code: str) -> None:
    """It has an id, a line in the log and no row."""
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        reply = await made.ask(body, key=key, x_request_id="mine")
        (line,) = made.log()
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers["x-request-id"] == "mine"
    assert (line["event"], line["status"], line["code"]) == ("request_refused", status, code)
    assert await stage.rows() == []


async def test_a_request_refused_by_its_plan_is_finished() -> None:
    """The log knows the key by then."""
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        reply = await made.ask({**HELLO, "model": "chatt"})
        (line,) = made.log()
    assert reply.status_code == 404
    assert (line["event"], line["status"], line["error"], line["key"]) == (
        "request_finished",
        404,
        "model_not_found",
        "app",
    )


@pytest.mark.parametrize(("path", "status", "code"), [(PATH, 503, "upstream_credentials"), (ROUTER_PATH, 402, 402)])
async def test_an_error_has_its_surfaces_shape(path: str, status: int, code: object) -> None:
    """Our own refused credential is no 5xx for those who would repeat it for an hour."""
    stage = await a_site_stage(refused(401))
    async with site(stage) as made:
        reply = await made.ask(path=path)
        (line,) = made.log()
    assert (reply.status_code, reply.json()["error"]["code"], line["status"]) == (status, code, status)
    assert reply.headers["x-should-retry"] == "false"


async def test_an_error_tells_what_was_tried_in_vain_and_what_that_cost() -> None:
    """An answer without choices may be billed; a request refused before any call has nothing to tell."""
    stage = await a_site_stage(whole({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}))
    async with site(stage) as made:
        reply = await made.ask()
        unasked = await made.ask({**HELLO, "model": "chatt"})
    rows = await stage.rows()
    assert (reply.status_code, reply.headers["x-turnpike-route"]) == (502, "chat")
    assert reply.headers["x-turnpike-attempts"] == str(len(rows))
    assert reply.headers["x-turnpike-cost"] == format_usd(sum(row.cost_nano_usd or 0 for row in rows)) != format_usd(0)
    assert not [name for name in unasked.headers if name.startswith("x-turnpike")]


class Closed(CountingLedger):
    """A ledger whose store is gone, from one of its calls on."""

    gone: tuple[str, ...] = ()

    async def find_key(self, digest: str) -> KeyRecord | None:
        self._check("find_key")
        return await super().find_key(digest)

    async def admit(self, admission: Admission) -> LedgerOutcome:
        self._check("admit")
        return await super().admit(admission)

    def _check(self, call: str) -> None:
        if call in self.gone:
            raise LedgerUnavailable("the disk is full")


@pytest.mark.parametrize("gone", ["find_key", "admit"])
async def test_without_books_a_client_is_asked_to_come_back(gone: str) -> None:
    """503 with Retry-After, and nothing goes upstream."""
    ledger = Closed(clock=SystemClock(), gate=Gate())
    stage = await a_site_stage(whole(), ledger=ledger)
    ledger.gone = (gone,)
    async with site(stage) as made:
        reply = await made.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert not stage.upstream.calls


# ---------------------------------------------------------------- keys that change


class Restless(CountingLedger):
    """Changes the key each time it is about to be used, so many times."""

    changes = 0

    async def admit(self, admission: Admission) -> LedgerOutcome:
        if self.changes:
            self.changes -= 1
            (key,) = await self.list_keys()
            await self.declare_keys([replace(key, models=("chat", f"m{self.changes}"), is_declared=True)])
        return await super().admit(admission)


@pytest.mark.parametrize("changes", [1, PLANS_MAX - 1])
async def test_a_request_is_planned_anew_under_its_changed_key(changes: int) -> None:
    """The client notices nothing; one request is one row and one line."""
    ledger = Restless(clock=SystemClock(), gate=Gate())
    stage = await a_site_stage(whole(), ledger=ledger, key=the_key(is_declared=True))
    ledger.changes = changes
    async with site(stage) as made:
        assert (await made.ask()).status_code == 200
        assert [line["event"] for line in made.log()] == ["request_finished"]
    assert len(await stage.rows()) == 1


async def test_a_key_that_never_rests_is_given_up() -> None:
    """After so many plans the client is told to try again."""
    ledger = Restless(clock=SystemClock(), gate=Gate())
    stage = await a_site_stage(whole(), ledger=ledger, key=the_key(is_declared=True))
    ledger.changes = PLANS_MAX
    async with site(stage) as made:
        reply = await made.ask()
        (line,) = made.log()
    assert reply.status_code == 401
    assert reply.json()["error"]["message"] == "The client key is being changed; try again."
    assert line["event"] == "request_refused"
    assert await stage.rows() == []


async def test_a_key_revoked_while_its_request_is_planned_is_refused() -> None:
    """What the process remembers of it is forgotten."""
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        assert (await made.ask()).status_code == 200
        await stage.ledger.revoke_key("app")
        for _ in range(2):
            reply = await made.ask()
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert len(await stage.rows()) == 1


# ---------------------------------------------------------------- bugs of ours


def fail(*_args: object, **_more: object) -> None:
    """Be a bug."""
    raise ZeroDivisionError("secret detail")


@pytest.mark.parametrize("path", [PATH, ROUTER_PATH])
async def test_a_bug_before_the_head_is_a_500_in_json(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Without a word of what it was; the log has the stack under the client's id, and the hold is ended."""
    monkeypatch.setattr("proxy.gateway.exchange.show_reply", fail)
    stage = await a_site_stage(whole())
    async with site(stage) as made:
        reply = await made.ask(path=path, x_request_id="mine")
        (line,) = made.log()
    assert reply.status_code == 500
    assert reply.headers["x-request-id"] == "mine"
    assert reply.json()["error"]["type"] == "api_error"
    assert "secret detail" not in reply.text
    assert (line["event"], line["request_id"]) == ("request_crashed", "mine")
    assert "ZeroDivisionError: secret detail" in line["trace"]
    (row,) = await stage.rows()
    assert row.state is AttemptState.POSTED


async def test_a_bug_after_the_head_cuts_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second head would be worse than none: the client sees a stream that never ended."""
    monkeypatch.setattr("proxy.gateway.outflow.show_frame", fail)
    stage = await a_site_stage(streamed(*events()[:3], *events()[-3:]))
    async with site(stage) as made:
        with pytest.raises(httpx.RemoteProtocolError):
            await made.ask(stream_of())
        (line,) = made.log()
    assert line["event"] == "request_crashed"
    (row,) = await stage.rows()
    assert (row.state, row.error) == ("posted", "internal_error")
    assert stage.upstream.replies[0].is_closed


@pytest.mark.parametrize("fails_at", [0, 1, 3])
async def test_a_connection_that_cannot_be_written_to_is_a_client_that_left(fails_at: int) -> None:
    """Servers may say so by an OSError."""
    stage = await a_site_stage(streamed())
    made = Site(stage)
    await made.endpoint(a_scope(), Receiver(stream_of()), Sender(fails_at=fails_at))
    assert [line["status"] for line in made.log()] == [499]
    (row,) = await stage.rows()
    assert (row.state, row.error) == ("posted", "client_left")
    await made.http.aclose()


# ---------------------------------------------------------------- streams that break, clients that leave


async def test_a_broken_stream_is_cut_behind_its_error() -> None:
    """The error event arrives whole; the body never ends."""
    stage = await a_site_stage(streamed(*events()[:3], broken("Cut off.")))
    async with site(stage) as made:
        assert made.served is not None
        url = f"http://127.0.0.1:{made.served.port}{PATH}"
        got = b""

        async def read() -> None:
            nonlocal got
            headers = {"authorization": f"Bearer {KEY}"}
            async with made.http.stream("POST", url, json=stream_of(), headers=headers) as reply:
                async for piece in reply.aiter_bytes():
                    got += piece

        with pytest.raises(httpx.RemoteProtocolError):
            await read()
        (line,) = made.log()
    assert got.endswith(b'"code":"upstream_error"}}\n\n')
    assert (line["status"], line["error"]) == (200, "broken_stream")


async def test_a_client_that_leaves_while_its_body_arrives_is_forgotten() -> None:
    """Nothing is answered, planned or booked."""
    stage = await a_site_stage(whole())
    made, sender = Site(stage), Sender()
    await made.endpoint(a_scope(), Receiver(HELLO, leaves=True, parts=3), sender)
    assert sender.messages == []
    assert made.log() == []
    assert await stage.rows() == []
    await made.http.aclose()


async def test_a_client_that_sends_on_is_not_one_that_leaves() -> None:
    """What comes behind the body is ignored until the connection ends."""
    gate = Gate("open")
    stage = await a_site_stage(whole(), gate=gate)
    made, sender = Site(stage), Sender()
    task = asyncio.create_task(made.endpoint(a_scope(), Receiver(HELLO, more=3), sender))
    async with in_time():
        await gate.reached.wait()
        await asyncio.sleep(0.01)
        gate.opened.set()
        await task
    assert sender.messages[0]["status"] == 200
    await made.http.aclose()


async def test_a_client_that_does_not_read_is_cut_off_and_booked() -> None:
    """A stall is a departure: the upstream is closed and the hold ended."""
    word = chunks.event(chunks.content("m", "x" * 60_000))
    stage = await a_site_stage(streamed(*([word] * 400), HELD))
    async with site(stage, stall_s=0.1) as made:
        assert made.served is not None
        async with connected(made.served) as client:
            client.send(request_of(stream_of()))
            await until(lambda: bool(stage.upstream.replies) and stage.upstream.replies[0].is_closed)
            await until(lambda: all(end == 1 for end in ends_of(stage)) and bool(ends_of(stage)))
        await made.served.until_connections(0)
        (line,) = made.log()
    assert (line["status"], line["error"]) == (499, "client_left")
    (row,) = await stage.rows()
    assert (row.state, row.error) == ("posted", "client_left")


def request_of(body: object) -> bytes:
    """Write a whole request."""
    data = orjson.dumps(body)
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def ends_of(stage: Stage) -> list[int]:
    """Tell how often each hold was ended."""
    assert isinstance(stage.ledger, CountingLedger)
    return list(stage.ledger.ends.values())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something no event tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_a_stopping_server_is_not_taken_for_a_client_that_left() -> None:
    """The cancellation passes on to whoever has asked for it."""
    gate = Gate("read")
    stage = await a_site_stage(streamed(), gate=gate)
    made = Site(stage)
    task = asyncio.create_task(made.endpoint(a_scope(), Receiver(stream_of()), Sender()))
    async with in_time():
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (row,) = await stage.rows()
    assert row.error == "client_left"
    await made.http.aclose()


async def test_the_table_in_force_is_asked_for_each_request() -> None:
    """An edit holds from the next request on; the one under way keeps its table."""
    stage = await a_site_stage(whole())
    made = Site(stage, a_table("one/m"), a_table("two/m"))
    for provider in ("one", "two"):
        sender = Sender()
        await made.endpoint(a_scope(), Receiver(HELLO), sender)
        assert dict(sender.messages[0]["headers"])[b"x-turnpike-provider"] == provider.encode()
    await made.http.aclose()
