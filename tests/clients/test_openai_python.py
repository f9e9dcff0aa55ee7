"""What OpenAI's Python SDK gets from `turnpike serve`, as an application sees it: both generations of it that live."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.conftest import UPSTREAM_KEY, Sdk, user
from tests.clients.process import locked_version
from tests.faults import chunks
from tests.faults.records import End

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = "Hello there, gate keeper"
FORECAST: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_forecast",
        "description": "The weather of the days to come.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
FORCED = {"type": "function", "function": {"name": "get_forecast"}}
VERDICT = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "score": {"type": "integer"}},
            "required": ["city", "score"],
            "additionalProperties": False,
        },
    },
}
# Whole answers in every way of writing them that the upstream knows: an SDK sees no difference.
WHOLE = (
    "ok",
    "ok_openrouter",
    "ok_unframed",
    "split_every_byte",
    "gzipped",
    "many_headers",
    "finish_without_done",
    "finish_then_reset",
)
LEAVINGS = ("leave_by_close", "leave_by_block", "leave_by_async_close", "leave_by_cancel")
CROWD = 50


def finish_reasons(facts: dict[str, Any]) -> list[str]:
    """Give the finish reasons of a stream's chunks."""
    choices = [choice for chunk in facts["chunks"] for choice in chunk["choices"]]
    return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of a tool call, parsed."""
    arguments: dict[str, Any] = json.loads(call["function"]["arguments"])
    return arguments


async def test_the_locked_sdk_is_the_one_that_runs(sdk: Sdk) -> None:
    """An environment left over from an older lock proves nothing: `make test` makes it anew."""
    assert sdk.client.facts["sdk"] == locked_version(sdk.client.name, "openai")


@pytest.mark.parametrize("check", ["complete", "complete_async"])
async def test_a_plain_answer(sdk: Sdk, check: str) -> None:
    """Text, finish reason, token counts, and what it cost, beside them."""
    seen = await sdk.give(check, model="echo", messages=user(HELLO))
    reply = seen["reply"]
    assert (seen["type"], seen["text"], reply["object"]) == ("ChatCompletion", HELLO, "chat.completion")
    assert reply["choices"][0]["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert seen["cost"] == pytest.approx((usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6)
    assert seen["cost_source"] == "computed"
    (row,) = await sdk.settled_rows(seen["request_id"])
    assert row.cost_nano_usd == round(seen["cost"] * 1e9)


@pytest.mark.parametrize("check", ["stream", "stream_async"])
@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}], ids=["silent", "declined"])
async def test_a_stream_without_usage(sdk: Sdk, check: str, options: dict[str, Any]) -> None:
    """Every chunk has a choice, as code that reads `choices[0]` without looking expects; no usage comes unasked."""
    seen = await sdk.give(check, model="echo", messages=user(HELLO), **options)
    assert seen["text"] == HELLO
    assert finish_reasons(seen) == ["stop"]
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in seen["chunks"])
    assert {chunk["object"] for chunk in seen["chunks"]} == {"chat.completion.chunk"}


@pytest.mark.parametrize("check", ["stream", "stream_async"])
async def test_a_stream_with_usage(sdk: Sdk, check: str) -> None:
    """The last chunk, and only that, has the counts and the cost, and no choice."""
    seen = await sdk.give(check, model="echo", messages=user(HELLO), stream_options={"include_usage": True})
    *before, last = seen["chunks"]
    assert seen["text"] == HELLO
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0
    assert (seen["cost"], seen["cost_source"]) == (pytest.approx(last["usage"]["cost"]), "computed")
    assert seen["cost"] > 0
    assert not any(chunk.get("usage") for chunk in before)


@pytest.mark.parametrize("mode", WHOLE)
async def test_every_way_to_write_an_answer_reads_the_same(sdk: Sdk, mode: str) -> None:
    """However an upstream frames, splits or packs its reply, streamed and not."""
    text = chunks.text(chunks.COMPLETION_TOKENS)
    plain = await sdk.give("complete", model=f"up/{mode}", messages=user(HELLO))
    assert plain["text"] == text
    asked = {"model": f"up/{mode}", "messages": user(HELLO), "stream_options": {"include_usage": True}}
    streamed = await sdk.give("stream", **asked)
    assert (streamed["text"], finish_reasons(streamed)) == (text, ["stop"])
    assert streamed["chunks"][-1]["usage"]["completion_tokens"] == plain["reply"]["usage"]["completion_tokens"]
    assert streamed["cost"] == plain["cost"] > 0


async def test_openrouters_prefix_serves_the_same_sdk(sdk: Sdk) -> None:
    """Who comes from OpenRouter changes the host and nothing else; usage and cost come unasked there."""
    options = {"base_url": f"{sdk.server.url}/api/v1"}
    plain = await sdk.run("complete", options, model="echo", messages=user(HELLO))
    assert (plain["text"], plain["reply"]["provider"]) == (HELLO, "sim")
    streamed = await sdk.run("stream", options, model="echo", messages=user(HELLO))
    assert (streamed["text"], finish_reasons(streamed)) == (HELLO, ["stop"])
    assert streamed["cost"] == plain["cost"] > 0


async def test_a_forced_tool_is_called(sdk: Sdk) -> None:
    """The one that was named, with arguments that fit its schema."""
    asked = {"model": "prose", "messages": user("hello"), "tools": [CLOCK, FORECAST], "tool_choice": FORCED}
    seen = await sdk.give("complete", **asked)
    (choice,) = seen["reply"]["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["type"], call["function"]["name"]) == (
        "tool_calls",
        "function",
        "get_forecast",
    )
    assert arguments_of(call).keys() == {"city", "days"}


async def test_a_forced_tool_is_called_in_a_stream(sdk: Sdk) -> None:
    """The name comes once, the arguments in pieces that the SDK's accumulator puts together."""
    asked = {"model": "prose", "messages": user("hello"), "tools": [CLOCK, FORECAST], "tool_choice": FORCED}
    seen = await sdk.give("stream_events", **asked)
    (call,) = seen["reply"]["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_forecast"
    assert arguments_of(call).keys() == {"city", "days"}
    assert seen["events"].count("tool_calls.function.arguments.delta") > 1
    assert "tool_calls.function.arguments.done" in seen["events"]
    chunked = await sdk.give("stream", **asked)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunked["chunks"]]
    pieces = [piece["function"] for delta in deltas for piece in delta.get("tool_calls") or []]
    assert [piece["name"] for piece in pieces if piece.get("name")] == ["get_forecast"]
    assert "".join(piece.get("arguments") or "" for piece in pieces) == call["function"]["arguments"]
    assert finish_reasons(chunked) == ["tool_calls"]


async def test_a_tools_result_goes_back(sdk: Sdk) -> None:
    """The SDK's own message object and the tool's result are accepted as the next question, and answered in words."""
    asked = {"model": "prose", "messages": user("hello"), "tools": [FORECAST], "tool_choice": "required"}
    seen = await sdk.give("use_tool", **asked)
    assert (seen["finish_reason"], seen["name"], seen["requests"]) == ("tool_calls", "get_forecast", 2)
    assert seen["reply"]["choices"][0]["finish_reason"] == "stop"
    assert seen["text"]


async def test_a_tools_arguments_fill_a_class(sdk: Sdk) -> None:
    """`pydantic_function_tool`: strict schemas pass, and the SDK accepts what comes back."""
    seen = await sdk.give("parse_tool", model="prose", messages=user("hello"), tool_choice="required")
    assert (seen["class"], seen["parsed"].keys()) == ("Weather", {"city", "days"})


async def test_an_answer_keeps_to_a_schema(sdk: Sdk) -> None:
    """`response_format` with a JSON Schema, streamed and not; the prompt's score is in it."""
    asked = {"model": "prose", "messages": user("judge it: score=7"), "response_format": VERDICT}
    seen = await sdk.give("complete", **asked)
    value = json.loads(seen["text"])
    assert (value.keys(), value["score"]) == ({"city", "score"}, 7)
    assert json.loads((await sdk.give("stream", **asked))["text"]) == value


async def test_an_answer_fills_a_class(sdk: Sdk) -> None:
    """`parse`, and the same through the SDK's accumulator of streams."""
    asked = {"model": "prose", "messages": user("judge it: score=7")}
    whole = await sdk.give("parse", **asked)
    assert (whole["class"], whole["parsed"]["score"]) == ("Verdict", 7)
    streamed = await sdk.give("stream_events", verdict=True, **asked)
    assert (streamed["class"], streamed["parsed"]) == ("Verdict", whole["parsed"])
    assert "content.done" in streamed["events"]


async def test_an_answer_cut_short_fills_no_class(sdk: Sdk) -> None:
    """A finish reason of `length` reaches the SDK, which says so instead of parsing half an object."""
    seen = await sdk.run("parse", model="prose", messages=user("judge it"), max_tokens=2)
    assert seen["raised"]["type"] == "LengthFinishReasonError"


async def test_several_answers_to_one_question(sdk: Sdk) -> None:
    """`n`: each has its index, streamed and not."""
    asked = {"model": "prose", "messages": user(HELLO), "n": 3}
    whole = await sdk.give("complete", **asked)
    assert [choice["index"] for choice in whole["reply"]["choices"]] == [0, 1, 2]
    streamed = await sdk.give("stream", **asked)
    assert finish_reasons(streamed) == ["stop"] * 3


async def test_the_request_reaches_the_upstream_as_it_was_made(sdk: Sdk) -> None:
    """Fields nobody here knows pass; of the caller's key and the SDK's own headers the upstream sees nothing."""
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png,x"}}]
    asked = {"messages": [{"role": "user", "content": parts}], "seed": 7, "reasoning_effort": "low", "tools": []}
    odd = {"extra_body": {"made_up": {"deep": [1, None]}}, "extra_headers": {"X-Title": "Tests"}}
    await sdk.give("complete", model="up/ok", **asked, **odd)
    (exchange,) = sdk.exchanges
    assert exchange.body == {"model": "fault:ok", **asked, "made_up": {"deep": [1, None]}}
    assert exchange.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert not [name for name in exchange.headers if name.startswith(("x-stainless", "openai-"))]
    assert sdk.server.key not in str(exchange.headers)


async def test_headers_tell_what_was_done(sdk: Sdk) -> None:
    """`with_raw_response`: the request id, who answered at which try, and the cost."""
    seen = await sdk.give("raw", model="chain", messages=user(HELLO))
    headers = seen["headers"]
    assert headers["x-request-id"] == seen["request_id"]
    shown = {name: headers[f"x-turnpike-{name}"] for name in ("route", "provider", "model", "attempts", "cost-source")}
    assert shown == {
        "route": "chain",
        "provider": "sim",
        "model": "echo",
        "attempts": "2",
        "cost-source": "computed",
    }
    assert float(headers["x-turnpike-cost"]) == pytest.approx(seen["cost"])
    assert float(headers["x-turnpike-overhead-ms"]) >= 0
    rows = await sdk.settled_rows(seen["request_id"])
    assert [row.state for row in rows] == ["voided", "posted"]


async def test_headers_of_a_stream_come_before_it(sdk: Sdk) -> None:
    """A wished request id is kept, a fallback is seen in a stream's headers as well."""
    wished = f"wish-{sdk.client.name}"
    asked = {"model": "chain", "messages": user(HELLO), "stream": True}
    seen = await sdk.give("raw", **asked, extra_headers={"X-Request-ID": wished})
    assert seen["text"] == HELLO
    assert (seen["headers"]["x-request-id"], seen["headers"]["x-turnpike-attempts"]) == (wished, "2")
    lines = await sdk.give("lines", **asked)
    assert lines["headers"]["content-type"].startswith("text/event-stream")
    assert [line for line in lines["lines"] if line][-1] == "data: [DONE]"


async def test_models_are_listed(sdk: Sdk) -> None:
    """A page that the SDK can go through, with every alias of the routes file."""
    seen = await sdk.give("list_models")
    names = [model["id"] for model in seen["models"]]
    assert seen["page"] == "SyncPage[Model]"
    assert names[:4] == ["prose", "echo", "json", "crowd"]
    assert all(model["object"] == "model" and model["owned_by"] for model in seen["models"])


@pytest.mark.parametrize("name", ["echo", "vendor/with-a-slash:tag", "up/anything"])
async def test_a_model_is_looked_up(sdk: Sdk, name: str) -> None:
    """By its name, slashes and colons and all, and behind a glob."""
    seen = await sdk.give("retrieve_model", model=name)
    assert (seen["type"], seen["model"]["id"]) == ("Model", name)


async def test_many_streams_at_once(sdk: Sdk) -> None:
    """Fifty are open at the same time, and each gets its own words."""
    seen = await sdk.give("crowd", model="crowd", count=CROWD)
    assert seen["texts"] == [f"stream number {number} is nobody else's" for number in range(CROWD)]
    assert seen["requests"] == CROWD


@pytest.mark.parametrize("how", LEAVINGS)
async def test_leaving_a_stream_closes_the_upstream(sdk: Sdk, how: str) -> None:
    """However an application drops a stream: the call upstream ends, and what came is booked once."""
    wished = f"{how}-{sdk.client.name}"
    asked = {"model": "up/hang_mid_stream", "messages": user(HELLO), "extra_headers": {"x-request-id": wished}}
    seen = await sdk.give(how, **asked)
    assert seen["has_left"]
    (exchange,) = sdk.exchanges
    await sdk.up.until(lambda: exchange.end is not None)
    assert exchange.end is End.PEER_LEFT
    (row,) = await sdk.settled_rows(wished)
    assert (row.state, row.error, row.cost_source) == ("posted", "client_left", "estimated")


@pytest.mark.parametrize("check", ["complete", "stream"])
async def test_a_clients_own_timeout_closes_the_upstream(sdk: Sdk, check: str) -> None:
    """The SDK gives up on a silent upstream: so do we, and one row tells of it."""
    wished = f"impatient-{check}-{sdk.client.name}"
    asked = {"model": "up/hang_before_headers", "messages": user(HELLO), "extra_headers": {"x-request-id": wished}}
    seen = await sdk.run(check, {"timeout": 0.2, "max_retries": 0}, **asked)
    assert seen["raised"]["type"] == "APITimeoutError"
    (exchange,) = sdk.exchanges
    await sdk.up.until(lambda: exchange.end is not None)
    assert exchange.end is End.PEER_LEFT
    (row,) = await sdk.settled_rows(wished)
    assert row.error == "client_left"
