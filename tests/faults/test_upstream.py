"""The fault upstream itself: what it puts on the wire, what it notes, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import gzip
import time

import httpx
import pytest

from tests.faults import cuts, lies, replies, statuses
from tests.faults.chunks import COMPLETION_TOKENS, DEFAULT_TOKENS, PROMPT_TOKENS, text
from tests.faults.client import Ended, Leaving, ask, call, chat, get
from tests.faults.modes import MODES, mode
from tests.faults.ports import blackhole_port, closed_port
from tests.faults.records import End
from tests.faults.steps import Ask, Close, Hang, Mode, Outcome, Reset, Send, Tokens
from tests.faults.upstream import FaultUpstream

# The client of the tests takes no encodings, no interim responses and no mixed line ends: not its trade.
BEYOND_THE_CLIENT = {"gzipped", "early_hints", "mixed_line_ends", "foreign_lines", "invalid_utf8"}
# No [DONE], no text, or a RST behind the last byte: whole for a gateway, but not told by words and a proper end.
WHOLE_IN_THEIR_WAY = {"tool_calls", "finish_then_reset"}
ANSWERS = [
    each
    for each in MODES.values()
    if each.stream is Outcome.ANSWER and each.name not in BEYOND_THE_CLIENT | WHOLE_IN_THEIR_WAY
]
REFUSALS = [each for each in MODES.values() if each.status >= 300]


@pytest.mark.parametrize("each", MODES.values(), ids=lambda each: each.name)
@pytest.mark.parametrize("is_stream", [True, False])
def test_every_plan_is_finite_and_the_same_twice(each: Mode, is_stream: bool) -> None:
    """A plan is a pure function of the request."""
    asked = Ask(model="m", is_stream=is_stream, wants_usage=True)
    if each.name == "comments_forever":
        each = cuts.comments_forever(limit=3)
    assert list(each.plan(asked)) == list(each.plan(asked))


@pytest.mark.parametrize("each", MODES.values(), ids=lambda each: each.name)
def test_a_mode_that_hangs_is_marked_slow(each: Mode) -> None:
    """A matrix of tests needs to know which modes take a timeout to show."""
    steps = list(each.plan(Ask(is_stream=True)))
    assert not any(isinstance(step, Hang) for step in steps) or each.is_slow
    assert each.status == 200 or each.stream is not Outcome.ANSWER


@pytest.mark.parametrize("each", ANSWERS, ids=lambda each: each.name)
async def test_an_answer_streams_whole_through_a_socket(each: Mode) -> None:
    """Every mode that is an answer gives its text, its finish reason and a proper end."""
    payload = chat(f"fault:{each.name}", stream=True, stream_options={"include_usage": True})
    async with FaultUpstream() as up, call(up.url, payload) as reply:
        events = [event async for event in reply.events()]
    assert reply.status == 200
    assert reply.end is Ended.COMPLETE
    exchange = up.exchanges[0]
    assert "".join(event.text for event in events if event.data) == text(exchange.made_tokens)
    assert exchange.reported == each.tokens
    assert any(event.finish_reason == "stop" for event in events)


async def test_a_plain_request_gets_json() -> None:
    """`ok` answers a request without `stream` with one JSON object and its usage."""
    async with FaultUpstream([replies.ok(3)]) as up:
        answer = await ask(up.url, chat("m"))
    assert answer.json["choices"][0]["message"]["content"] == text(3)
    assert answer.json["usage"] == {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 3, "total_tokens": 10}
    assert up.exchanges[0].reported == Tokens(PROMPT_TOKENS, 3)


async def test_usage_is_streamed_only_when_asked_for() -> None:
    """`ok` behaves as OpenAI: no `include_usage`, no usage chunk; the bill is what it made."""
    async with FaultUpstream() as up:
        async with call(up.url, chat("m", stream=True)) as reply:
            body = await reply.read()
        assert b"usage" not in body
        exchange = up.exchanges[0]
        assert exchange.reported is None
        assert exchange.billed(prompt_tokens=PROMPT_TOKENS) == DEFAULT_TOKENS


async def test_a_script_is_used_up_and_its_last_mode_repeats() -> None:
    """One mode per request, in order; a GET takes none of them, a `fault:` model its own."""
    async with FaultUpstream([mode("unauthorized"), mode("ok")]) as up:
        assert (await get(up.url, "/v1/models")).status == 404
        assert (await ask(up.url, chat("fault:too_large"))).status == 413
        assert [(await ask(up.url, chat("m"))).status for _ in range(3)] == [401, 200, 200]
    assert [exchange.mode for exchange in up.exchanges] == ["", "too_large", "unauthorized", "ok", "ok"]
    assert up.exchanges[1].headers["host"] in up.url
    assert up.exchanges[1].model == "fault:too_large"


@pytest.mark.parametrize("each", REFUSALS, ids=lambda each: each.name)
async def test_a_refusal_has_its_status_for_stream_and_plain(each: Mode) -> None:
    """A refusal comes by status before any event, whatever was asked."""
    async with FaultUpstream([each]) as up:
        plain = await ask(up.url, chat("m"))
        streamed = await ask(up.url, chat("m", stream=True))
    assert (plain.status, streamed.status) == (each.status, each.status)
    assert plain.body == streamed.body


@pytest.mark.parametrize(("name", "pair"), statuses.RETRY_AFTER.items())
async def test_retry_after_is_written_as_listed(name: str, pair: tuple[str, float | None]) -> None:
    """The header holds the odd value and the mode says what it means."""
    each = mode(f"rate_limited_{name}")
    async with FaultUpstream([each]) as up:
        assert (await ask(up.url, chat("m"))).headers["retry-after"] == pair[0]
    assert each.facts["retry_after_s"] == pair[1]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("reset_mid_stream", Ended.RESET),
        ("close_mid_stream", Ended.CUT),
        ("close_mid_event", Ended.CUT),
        ("close_mid_event_unframed", Ended.COMPLETE),
        ("clean_end_without_finish", Ended.COMPLETE),
        ("unframed_end_without_finish", Ended.COMPLETE),
        ("length_too_long", Ended.CUT),
        ("length_too_short", Ended.COMPLETE),
        ("reset_after_headers", Ended.RESET),
        ("empty_body", Ended.COMPLETE),
    ],
)
@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_cut_reply_ends_as_its_name_says(name: str, end: Ended, is_stream: bool) -> None:
    """The transport shows the fault, or hides it, as the mode intends; a finish reason never comes."""
    async with FaultUpstream([mode(name)]) as up, call(up.url, chat("m", stream=is_stream)) as reply:
        body = await reply.read()
    assert reply.end is end
    assert b"[DONE]" not in body
    assert b'"stop"' not in body


@pytest.mark.parametrize("name", ["reset_before_headers", "close_before_headers", "close_inside_headers"])
async def test_an_early_end_gives_no_head(name: str) -> None:
    """The connection ends before a whole head."""
    async with FaultUpstream([mode(name)]) as up:
        with pytest.raises(ConnectionError):
            await ask(up.url, chat("m"))
        assert up.exchanges[0].end in {End.RESET, End.CLOSED}


@pytest.mark.parametrize("how", [Leaving.FIN, Leaving.RST])
@pytest.mark.parametrize("name", ["hang_before_headers", "hang_after_headers", "hang_mid_stream"])
async def test_a_leaving_peer_is_noted_at_once(name: str, how: Leaving) -> None:
    """The departure has a time close to the real one, its manner, and ends the plan."""
    async with FaultUpstream([mode(name)]) as up, call(up.url, chat("m", stream=True)) as reply:
        exchange = await up.received()
        await asyncio.sleep(0.03)
        gone_at = await reply.leave(how)
        assert 0 <= await up.left(exchange) - gone_at < 0.05
        await up.until(lambda: exchange.ended_at is not None)
    assert exchange.end is End.PEER_LEFT
    assert exchange.connection.peer_closed_by == how.value


async def test_tokens_made_before_a_departure_are_billed() -> None:
    """What was written before the peer left is the bill."""
    async with FaultUpstream([cuts.hang_mid_stream()]) as up, call(up.url, chat("m", stream=True)) as reply:
        await anext(reply.events())
        await reply.leave()
        exchange = await up.received()
        await up.left(exchange)
    assert exchange.billed(prompt_tokens=4) == Tokens(4, cuts.WORDS_BEFORE_CUT)


async def test_connections_are_kept_and_counted() -> None:
    """A good reply leaves its connection open for the next request."""
    async with FaultUpstream() as up, httpx.AsyncClient() as client:
        for _ in range(3):
            answer = await client.post(f"{up.base_url}/chat/completions", json=chat("m"))
            assert answer.json()["usage"]["completion_tokens"] == COMPLETION_TOKENS
        assert (len(up.connections), up.open_connections) == (1, 1)
        await client.aclose()
        await up.until(lambda: up.open_connections == 0)


async def test_httpx_reads_what_the_raw_client_does_not() -> None:
    """Encodings and interim responses are those of real servers."""
    async with FaultUpstream() as up, httpx.AsyncClient(base_url=up.base_url) as client:
        for name in ("gzipped", "early_hints"):
            answer = await client.post("/chat/completions", json=chat(f"fault:{name}"))
            assert answer.json()["choices"][0]["message"]["content"] == text(COMPLETION_TOKENS)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/chat/completions", json=chat("fault:garbage"))


def test_the_bomb_is_small_on_the_wire() -> None:
    """80 MiB travel as less than a hundredth."""
    asked = Ask(is_stream=True)
    body = list(lies.gzip_bomb().plan(asked))[1]
    assert isinstance(body, Send)
    assert len(body.data) < lies.BOMB_BYTES / 100
    assert gzip.decompress(body.data).endswith(b"data: [DONE]\n\n")


async def test_a_drip_is_slow_and_whole() -> None:
    """One byte at a time, each with its pause."""
    async with FaultUpstream([replies.slow_drip(0.0001)]) as up:
        answer = await ask(up.url, chat("m"))
    assert answer.json["choices"][0]["message"]["content"] == text(2)
    assert len(up.exchanges[0].sends) > len(answer.body)


async def test_an_outage_refuses_and_ends_on_the_same_port() -> None:
    """Stopped, the port refuses and open connections are dropped; then it serves again."""
    async with FaultUpstream([cuts.hang_before_headers(), replies.ok()]) as up:
        async with call(up.url, chat("m")) as reply:
            await up.received()
            await up.stop()
            with pytest.raises(ConnectionError):
                await reply.head()
        with pytest.raises(ConnectionRefusedError):
            await ask(up.url, chat("m"))
        await up.listen()
        assert (await ask(up.url, chat("m"))).status == 200


async def test_a_closed_port_refuses_and_a_blackhole_does_not_answer() -> None:
    """The two ways not to be there."""
    with closed_port() as url, pytest.raises(ConnectionRefusedError):
        await ask(url, chat("m"))
    with blackhole_port() as url, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask(url, chat("m"))


async def test_nothing_stays_behind() -> None:
    """No task and no connection outlives the upstream, hanging requests included."""
    before = asyncio.all_tasks()
    up = FaultUpstream([mode("hang_mid_stream"), mode("comments_forever")])
    async with up, call(up.url, chat("m")) as one, call(up.url, chat("m")) as two:
        await one.head()
        await two.head()
        await up.stop()
        assert asyncio.all_tasks() == before
        assert up.open_connections == 0
    assert [exchange.end for exchange in up.exchanges] == [End.STOPPED, End.STOPPED]


async def test_a_bug_of_a_plan_is_not_swallowed() -> None:
    """A mode nobody has heard of fails the test that asked for it."""
    up = FaultUpstream()
    await up.listen()
    with pytest.raises(ConnectionError):
        await ask(up.url, chat("fault:no_such_mode"))
    with pytest.raises(ExceptionGroup):
        await up.__aexit__()


async def test_noise_instead_of_a_request_is_noted() -> None:
    """What is no HTTP request ends its connection and stands in `rejected`."""
    async with FaultUpstream() as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(b"hello\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert up.rejected == [b"hello\r\n\r\n"]
    assert not up.exchanges


async def test_paced_answers_take_their_time() -> None:
    """The first byte and each word wait as told."""
    async with FaultUpstream([replies.ok_paced(3, every_s=0.02, first_s=0.03)]) as up:
        start = time.monotonic()
        async with call(up.url, chat("m", stream=True)) as reply:
            await reply.head()
            assert time.monotonic() - start >= 0.03
            await reply.read()
        assert time.monotonic() - start >= 0.09


def test_terminal_steps_exist() -> None:
    """Resets and closes are steps of the modes named after them."""
    assert Reset() in list(mode("reset_mid_stream").plan(Ask(is_stream=True)))
    assert Close() in list(mode("close_mid_stream").plan(Ask(is_stream=True)))
