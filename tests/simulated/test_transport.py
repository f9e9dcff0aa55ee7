"""The simulated provider as its callers see it: bytes of OpenAI's dialect in their time, and every fault on order."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import orjson
import pytest

from proxy.clock import ManualClock
from proxy.codecs.wire import Call, UpstreamReply
from proxy.errors import FailureKind, UpstreamError
from proxy.routing.table import Dialect, Provider, Simulation
from proxy.simulated import SimulatedUpstream, transport
from proxy.simulated.transport import is_failing
from tests.simulated.conftest import BYTES_MAX, HELLO, ask, call_of, events_of, provider_of, stream, text_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def gather(reply: UpstreamReply, pieces: list[bytes]) -> None:
    """Read to the end, keeping what came before it breaks."""
    while piece := await reply.read():
        pieces.append(piece)


async def test_a_json_reply_is_a_whole_chat_completion() -> None:
    """Every field an SDK looks at, and usage that adds up."""
    upstream = SimulatedUpstream(ManualClock(1_800_000_000.5))
    reply = await ask(upstream, provider_of(), model="some/model:free")
    identity = reply.pop("id")
    text = reply["choices"][0]["message"].pop("content")
    assert reply == {
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "some/model:free",
        "system_fingerprint": "fp_simulated",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "refusal": None}, "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 12,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    again = await ask(upstream, provider_of(), model="some/model:free")
    assert again["choices"][0]["message"]["content"] == text
    assert again["id"] != identity


async def test_a_stream_says_what_the_json_reply_says(upstream: SimulatedUpstream) -> None:
    """Role first, a token an event, finish reason, usage when asked for, and the end."""
    whole = await ask(upstream, provider_of())
    events = await stream(upstream, provider_of(), stream_options={"include_usage": True})
    assert text_of(events) == whole["choices"][0]["message"]["content"]
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["choices"][0]["finish_reason"] for event in events[:-2]] == [None] * 13 + ["stop"]
    assert (events[-2]["choices"], events[-2]["usage"]) == ([], whole["usage"])
    assert events[-1] == "[DONE]"
    assert len({event["id"] for event in events[:-1]}) == 1
    unasked = await stream(upstream, provider_of())
    assert not any("usage" in event for event in unasked[:-1])


async def test_choices_stream_side_by_side(upstream: SimulatedUpstream) -> None:
    """Each is whole, and the finish reasons come last."""
    events = await stream(upstream, provider_of(), n=2)
    whole = await ask(upstream, provider_of(), n=2)
    for index in (0, 1):
        assert text_of(events, index) == whole["choices"][index]["message"]["content"]
    assert [event["choices"][0]["index"] for event in events[:4]] == [0, 1, 0, 1]
    assert [event["choices"][0]["finish_reason"] for event in events[-3:-1]] == ["stop", "stop"]
    assert whole["usage"]["completion_tokens"] == 24


async def test_a_tool_call_is_streamed_in_pieces_that_join(upstream: SimulatedUpstream) -> None:
    """Name and id first, then the arguments; the JSON reply holds the same."""
    events = await stream(upstream, provider_of(), tools=[WEATHER], tool_choice="required")
    calls = [event["choices"][0]["delta"]["tool_calls"][0] for event in events[:-2]]
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert calls[0]["id"].startswith("call_")
    assert len(calls) > 3
    joined = "".join(call["function"]["arguments"] for call in calls)
    assert orjson.loads(joined) == {"city": "text"}
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
    whole = await ask(upstream, provider_of(), tools=[WEATHER], tool_choice="required")
    message = whole["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": joined}


async def test_tokens_come_in_their_time(upstream: SimulatedUpstream) -> None:
    """The first after `first_token`, the others at `speed`; a JSON reply when its last token would have come."""
    provider = provider_of(first_token_s=0.06, speed_per_s=100, length_tokens=8)
    began = time.monotonic()
    reply = await upstream.open(provider, call_of(stream=True), connect_timeout_s=1.0)
    assert time.monotonic() - began < 0.05
    moments = []
    while await reply.read():
        moments.append(time.monotonic() - began)
    assert moments[0] >= 0.055
    assert moments[-1] >= 0.135
    assert len(moments) >= 4
    began = time.monotonic()
    await ask(upstream, provider)
    assert time.monotonic() - began >= 0.135


async def test_fast_tokens_are_read_together_and_in_pieces_of_a_bounded_size(
    upstream: SimulatedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wake-up for each token, no megabytes at once."""
    provider = provider_of(length_tokens=100)
    for bytes_max, count in ((1 << 20, 1), (1, 103)):
        monkeypatch.setattr(transport, "READ_BYTES_MAX", bytes_max)
        reply = await upstream.open(provider, call_of(stream=True), connect_timeout_s=1.0)
        await asyncio.sleep(0.01)
        pieces = []
        while piece := await reply.read():
            pieces.append(piece)
        assert len(pieces) == count


async def test_a_reply_longer_than_the_reader_takes_is_refused(upstream: SimulatedUpstream) -> None:
    """As with any upstream."""
    reply = await upstream.open(provider_of(), call_of(), connect_timeout_s=1.0)
    with pytest.raises(UpstreamError, match="too long"):
        await reply.read_all(10)


async def test_closing_ends_a_read_that_waits(upstream: SimulatedUpstream) -> None:
    """At once, with an error; twice is once."""
    reply = await upstream.open(provider_of(first_token_s=60.0), call_of(stream=True), connect_timeout_s=1.0)
    reader = asyncio.create_task(reply.read_all(BYTES_MAX))
    await asyncio.sleep(0.02)
    await reply.close()
    await reply.close()
    with pytest.raises(UpstreamError) as caught:
        await reader
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.BROKEN_STREAM, True)


async def test_closing_the_upstream_ends_everything() -> None:
    """Replies under way, waits for a head, and what comes later."""
    upstream = SimulatedUpstream()
    streaming = await upstream.open(provider_of(first_token_s=60), call_of(stream=True), connect_timeout_s=1.0)
    reading = asyncio.create_task(streaming.read())
    opening = asyncio.create_task(upstream.open(provider_of(fail="hang"), call_of(), connect_timeout_s=1.0))
    await asyncio.sleep(0.01)
    await upstream.close()
    with pytest.raises(UpstreamError, match="broken_stream"):
        await reading
    for late in (opening, upstream.open(provider_of(), call_of(), connect_timeout_s=1.0)):
        with pytest.raises(UpstreamError) as caught:
            await late
        assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.CONNECT, False)


async def test_a_provider_without_knobs_has_the_default_ones(upstream: SimulatedUpstream) -> None:
    """Known by its dialect alone."""
    reply = await upstream.open(Provider("sim", Dialect.SIMULATED), call_of(stream=True), connect_timeout_s=1.0)
    await reply.close()
    assert reply.status == 200


async def test_what_cannot_be_served_is_400(upstream: SimulatedUpstream) -> None:
    """In OpenAI's error shape."""
    for call, param in (
        (Call("/chat/completions", b"{}", is_stream=False), "messages"),
        (Call("/embeddings", b"{}", is_stream=False), None),
    ):
        reply = await upstream.open(provider_of(), call, connect_timeout_s=1.0)
        error = orjson.loads(await reply.read_all(BYTES_MAX))["error"]
        assert (reply.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_refuse_is_a_closed_port(upstream: SimulatedUpstream) -> None:
    """Nothing was sent, so nothing costs."""
    with pytest.raises(UpstreamError) as caught:
        await ask(upstream, provider_of(fail="refuse"))
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.CONNECT, False)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("fault", "status", "retry_after"), [("rate_limit", 429, "1"), ("server_error", 500, None)])
async def test_statuses_come_at_once(
    upstream: SimulatedUpstream, fault: str, status: int, retry_after: str | None, is_stream: bool
) -> None:
    """However slow the model would have been."""
    provider = provider_of(fail=fault, first_token_s=60.0)
    reply = await upstream.open(provider, call_of(stream=is_stream), connect_timeout_s=1.0)
    assert (reply.status, reply.headers.get("retry-after")) == (status, retry_after)
    assert orjson.loads(await reply.read_all(BYTES_MAX))["error"]["message"]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_hang_says_nothing_until_it_is_given_up_on(upstream: SimulatedUpstream, is_stream: bool) -> None:
    """Not even a head."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await upstream.open(provider_of(fail="hang"), call_of(stream=is_stream), connect_timeout_s=1.0)


async def test_hang_may_set_in_later(upstream: SimulatedUpstream) -> None:
    """After `fail_after` events of a stream."""
    provider = provider_of(fail="hang", fail_after_events=3)
    reply = await upstream.open(provider, call_of(stream=True), connect_timeout_s=1.0)
    pieces: list[bytes] = []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gather(reply, pieces), 0.05)
    assert len(events_of(b"".join(pieces))) == 3
    await reply.close()


@pytest.mark.parametrize(("after", "sent"), [(0, 0), (1, 1), (5, 5), (1000, 13)])
async def test_cut_breaks_a_stream_after_so_many_events_and_before_its_finish(
    upstream: SimulatedUpstream, after: int, sent: int
) -> None:
    """Never a clean end, also when the text is shorter than that."""
    provider = provider_of(fail="cut", fail_after_events=after)
    reply = await upstream.open(provider, call_of(stream=True), connect_timeout_s=1.0)
    pieces: list[bytes] = []
    with pytest.raises(UpstreamError) as caught:
        await gather(reply, pieces)
    body = b"".join(pieces)
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.BROKEN_STREAM, True)
    assert body.count(b"data: ") == sent
    assert b'"finish_reason":"' not in body


async def test_cut_breaks_a_json_reply_in_its_middle(upstream: SimulatedUpstream) -> None:
    """Some of it comes, then the end of the connection."""
    reply = await upstream.open(provider_of(fail="cut"), call_of(), connect_timeout_s=1.0)
    assert (await reply.read()).startswith(b'{"id"')
    with pytest.raises(UpstreamError, match="broken_stream"):
        await reply.read()


@pytest.mark.parametrize(("after", "sent"), [(0, 0), (4, 4), (1000, 13)])
async def test_error_event_ends_a_stream(upstream: SimulatedUpstream, after: int, sent: int) -> None:
    """After so many good ones, with nothing behind it; a JSON reply is a 200 with an error."""
    provider = provider_of(fail="error_event", fail_after_events=after)
    *good, last = await stream(upstream, provider)
    assert (len(good), last["error"]["code"]) == (sent, "server_error")
    assert (await ask(upstream, provider))["error"]["code"] == "server_error"


async def test_garbage_is_no_json(upstream: SimulatedUpstream) -> None:
    """In a stream after so many good events, in a reply from the first byte."""
    provider = provider_of(fail="garbage", fail_after_events=2)
    for is_stream, good in ((True, 2), (False, 0)):
        reply = await upstream.open(provider, call_of(stream=is_stream), connect_timeout_s=1.0)
        body = await reply.read_all(BYTES_MAX)
        *events, last = body.removesuffix(b"\n\n").split(b"\n\n")
        assert len(events) == good
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(last.removeprefix(b"data: "))


async def test_no_usage_is_a_good_answer_without_figures(upstream: SimulatedUpstream) -> None:
    """Asked for or not."""
    provider = provider_of(fail="no_usage")
    events = await stream(upstream, provider, stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    assert text_of(events)
    assert not any("usage" in event for event in events[:-1])
    assert "usage" not in await ask(upstream, provider)


async def test_empty_choices_is_a_200_without_an_answer(upstream: SimulatedUpstream) -> None:
    """It reports no usage either."""
    provider = provider_of(fail="empty_choices")
    reply = await ask(upstream, provider)
    assert (reply["choices"], reply["usage"]) == ([], None)
    events = await stream(upstream, provider)
    assert [event if event == "[DONE]" else event["choices"] for event in events] == [[], "[DONE]"]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("seed", [0, 7, -1])
def test_the_fail_rate_is_kept_in_any_stretch_of_calls(rate: float, seed: int) -> None:
    """Give or take one, whatever the seed; the seed decides which ones."""
    simulation = Simulation(fail="refuse", fail_rate=rate, seed=seed)
    failing = [is_failing(simulation, number) for number in range(1000)]
    for start in (0, 123, 500):
        assert abs(sum(failing[start : start + 100]) - rate * 100) <= 1


async def test_calls_are_counted_for_each_provider(upstream: SimulatedUpstream) -> None:
    """Half of them fail, every other one, and another provider does not disturb the order."""

    async def outcome(provider: Provider) -> int:
        reply = await upstream.open(provider, call_of(), connect_timeout_s=1.0)
        return reply.status

    failing = provider_of(fail="server_error", fail_rate=0.5)
    other = Provider("other", Dialect.SIMULATED, simulation=failing.simulation)
    outcomes: list[Any] = []
    for _ in range(4):
        outcomes.append(await outcome(failing))
        await outcome(other)
    assert sorted(outcomes[:2]) == [200, 500]
    assert outcomes[:2] == outcomes[2:]


LAST_RESORT = "Please try again later.\n\nAll models are busy: \u00e9, \N{GRINNING FACE}."
ANY_BODY = [
    {},
    {"messages": []},
    {"messages": "none", "n": 0, "max_tokens": -1},
    {"messages": [*HELLO, 5], "max_tokens": 1, "n": 3, "tools": [WEATHER], "tool_choice": "required"},
    {"response_format": {"type": "json_object"}, "stream_options": 5, "model": None},
]


def last_resort() -> Provider:
    """Make the provider of a fixed answer."""
    return Provider("static", Dialect.SIMULATED, simulation=Simulation(0.0, math.inf, content=LAST_RESORT))


@pytest.mark.parametrize("body", ANY_BODY)
async def test_a_fixed_answer_is_given_to_whatever_is_asked(upstream: SimulatedUpstream, body: dict[str, Any]) -> None:
    """At once and whole, with its usage, where a model would refuse, cut it or call a tool."""
    started_s = time.monotonic()
    call = Call("/anything", orjson.dumps(body), is_stream=False)
    reply = orjson.loads(await (await upstream.open(last_resort(), call, connect_timeout_s=1.0)).read_all(BYTES_MAX))
    (choice,) = reply["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (LAST_RESORT, "stop")
    assert "system_fingerprint" not in reply
    assert reply["usage"]["completion_tokens"] > 1
    assert reply["usage"]["prompt_tokens"] == (3 if "tools" in body else 0)
    assert time.monotonic() - started_s < 1


@pytest.mark.parametrize("body", ANY_BODY)
@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_fixed_answer_is_streamed_to_whatever_is_asked(
    upstream: SimulatedUpstream, body: dict[str, Any], wants_usage: bool
) -> None:
    """In events like any other, all of them there at once."""
    started_s = time.monotonic()
    fields = {**body, "stream": True, "stream_options": {"include_usage": wants_usage}}
    reply = await upstream.open(last_resort(), Call("/x", orjson.dumps(fields), is_stream=True), connect_timeout_s=1.0)
    events = events_of(await reply.read_all(BYTES_MAX))
    assert (events[-1], "usage" in events[-2]) == ("[DONE]", wants_usage)
    assert text_of(events) == LAST_RESORT
    assert time.monotonic() - started_s < 1


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff{", b"null"])
async def test_a_fixed_answer_needs_no_body_it_can_read(upstream: SimulatedUpstream, body: bytes) -> None:
    """It asks nothing."""
    reply = await upstream.open(last_resort(), Call("/x", body, is_stream=False), connect_timeout_s=1.0)
    assert orjson.loads(await reply.read_all(BYTES_MAX))["choices"][0]["message"]["content"] == LAST_RESORT
