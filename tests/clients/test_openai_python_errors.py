"""Every refusal and every fault as OpenAI's Python SDK raises it: the right class and words, no needless request."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.clients.conftest import NARROW, POOR, ROUTES, Sdk, start_client, user
from tests.faults import chunks
from tests.faults.failures import SHAPES
from tests.faults.replies import ok
from tests.faults.serving import TurnpikeServer
from tests.faults.statuses import SECRETS, rate_limited, server_fault
from tests.faults.upstream import FaultUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = user("Hello there")
TRIES = 3
"""What the SDK makes of one call unless told otherwise: two retries."""
TOO_LONG = 20 << 20
"""Characters of a prompt whose body is beyond the gateway's 20 MiB."""


class Refused(NamedTuple):
    """A request that is refused before it reaches an upstream."""

    raised: str
    status: int
    code: str
    options: dict[str, Any]
    ask: dict[str, Any]


REFUSED = {
    "no_messages": Refused("BadRequestError", 400, "invalid_value", {}, {"model": "echo", "messages": []}),
    "foreign_field": Refused(
        "BadRequestError",
        400,
        "unknown_parameter",
        {},
        {"model": "echo", "messages": HELLO, "extra_body": {"api_base": "http://elsewhere"}},
    ),
    "wrong_key": Refused(
        "AuthenticationError", 401, "invalid_api_key", {"api_key": "sk-nobody"}, {"model": "echo", "messages": HELLO}
    ),
    "no_money": Refused(
        "APIStatusError", 402, "budget_exceeded", {"api_key": POOR}, {"model": "echo", "messages": HELLO}
    ),
    "not_allowed": Refused(
        "PermissionDeniedError", 403, "model_not_allowed", {"api_key": NARROW}, {"model": "prose", "messages": HELLO}
    ),
    "no_model": Refused("NotFoundError", 404, "model_not_found", {}, {"model": "ecko", "messages": HELLO}),
    "too_large": Refused(
        "APIStatusError", 413, "payload_too_large", {}, {"model": "echo", "messages": user("x" * TOO_LONG)}
    ),
}


class Fault(NamedTuple):
    """A fault of the only upstream, before the first word."""

    raised: str
    status: int
    code: str
    is_final: bool = True
    """The SDK must not try again by itself."""


FAULTS = {
    "up/bad_request": Fault("BadRequestError", 400, "unsupported_value"),
    "up/context_openai": Fault("BadRequestError", 400, "context_length_exceeded"),
    "up/forbidden_moderation": Fault("PermissionDeniedError", 403, "content_policy"),
    "up/not_found": Fault("NotFoundError", 404, "model_not_found"),
    "up/too_large": Fault("APIStatusError", 413, "payload_too_large"),
    "up/unprocessable": Fault("UnprocessableEntityError", 422, "invalid_value"),
    "up/unauthorized": Fault("InternalServerError", 503, "upstream_credentials"),
    "up/forbidden": Fault("InternalServerError", 503, "upstream_credentials"),
    "up/payment_required": Fault("InternalServerError", 503, "upstream_credits"),
    "up/quota_exhausted": Fault("InternalServerError", 503, "upstream_credits"),
    "up/rate_limited": Fault("RateLimitError", 429, "rate_limit_exceeded", is_final=False),
    "up/status_500": Fault("InternalServerError", 502, "upstream_error", is_final=False),
    "up/status_529": Fault("InternalServerError", 502, "upstream_error", is_final=False),
    "up/reset_before_headers": Fault("InternalServerError", 502, "upstream_error", is_final=False),
    "up/error_in_200": Fault("InternalServerError", 502, "upstream_error", is_final=False),
    "up/error_first_openrouter": Fault("InternalServerError", 502, "upstream_error", is_final=False),
    "up/only_done": Fault("InternalServerError", 502, "upstream_error", is_final=False),
    "hasty/hang_before_headers": Fault("InternalServerError", 504, "upstream_timeout", is_final=False),
    "hasty/comments_forever": Fault("InternalServerError", 504, "upstream_timeout", is_final=False),
}

CUTS = (
    *(f"up/error_event_{shape}" for shape in SHAPES),
    "up/error_event_then_done",
    "up/reset_mid_stream",
    "up/close_mid_stream",
    "up/close_mid_event",
    "up/close_mid_event_unframed",
    "up/clean_end_without_finish",
    "up/unframed_end_without_finish",
    "up/done_without_finish",
    "hasty/hang_mid_stream",
)


def check_raised(raised: dict[str, Any], kind: str, status: int, code: str) -> None:
    """Compare what was raised, and look for what must not be in it."""
    assert (raised["type"], raised["status_code"], raised["code"]) == (kind, status, code)
    assert "APIStatusError" in raised["classes"]
    assert raised["request_id"] == raised["headers"]["x-request-id"]
    assert raised["body"]["message"]
    assert raised["error_type"] == raised["body"]["type"]
    assert not [secret for secret in SECRETS if secret in str(raised)]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("check", ["complete", "stream_async"])
async def test_a_refusal_is_raised_at_once(sdk: Sdk, check: str, name: str) -> None:
    """As the SDK's own class, without a second request although the SDK's retries are on, and nothing goes upstream."""
    refused = REFUSED[name]
    seen = await sdk.run(check, refused.options, **refused.ask)
    check_raised(seen["raised"], refused.raised, refused.status, refused.code)
    assert seen["requests"] == 1
    assert seen["raised"]["headers"]["x-should-retry"] == "false"
    assert not sdk.exchanges


@pytest.mark.parametrize("name", ["wrong_key", "too_large"])
async def test_a_refusal_before_the_body_has_come_is_read(sdk: Sdk, name: str) -> None:
    """The SDK is still sending when it is refused; the answer reaches it every time, on one and the same connection."""
    refused = REFUSED[name]
    asked = {**refused.ask, "messages": user("x" * TOO_LONG)}
    for _ in range(4):
        seen = await sdk.run("complete_async", refused.options | {"max_retries": 0}, **asked)
        check_raised(seen["raised"], refused.raised, refused.status, refused.code)


async def test_a_spent_budget_tells_the_figures(sdk: Sdk) -> None:
    """402: what was needed, what is left and when there will be more, where an application finds it."""
    seen = await sdk.run("complete", {"api_key": POOR}, model="echo", messages=HELLO)
    assert (seen["raised"]["error_type"], seen["requests"]) == ("insufficient_quota", 1)
    assert seen["raised"]["body"]["metadata"].keys() >= {"needed", "left", "resets_at"}


@pytest.mark.parametrize("model", FAULTS)
@pytest.mark.parametrize("check", ["complete", "stream"])
async def test_a_fault_before_the_first_word_is_raised(sdk: Sdk, check: str, model: str) -> None:
    """With the attempts behind it, streamed or not; what waiting does not cure is not tried again by the SDK."""
    fault = FAULTS[model]
    options = {} if fault.is_final else {"max_retries": 0}
    seen = await sdk.run(check, options, model=model, messages=HELLO)
    check_raised(seen["raised"], fault.raised, fault.status, fault.code)
    assert (seen["requests"], len(sdk.exchanges)) == (1, 1)
    (attempt,) = seen["raised"]["body"]["metadata"]["attempts"]
    assert (attempt["provider"], attempt["model"]) == ("up", sdk.exchanges[0].model)
    assert (seen["raised"]["headers"].get("x-should-retry") == "false") is fault.is_final


async def test_the_sdk_tries_a_server_fault_again(sdk: Sdk) -> None:
    """Its two retries are requests like any other: three calls upstream, the third answers."""
    sdk.up.replace_script([server_fault(500), server_fault(503), ok()])
    seen = await sdk.give("stream", model="scripted", messages=HELLO)
    assert seen["text"] == chunks.text(chunks.COMPLETION_TOKENS)
    assert (seen["requests"], len(sdk.exchanges)) == (TRIES, TRIES)


async def test_the_sdk_waits_as_long_as_a_limit_asks(sdk: Sdk) -> None:
    """A 429 carries the upstream's Retry-After in whole seconds; the SDK obeys it and then gets its answer."""
    sdk.up.replace_script([rate_limited("fraction"), ok()])
    seen = await sdk.give("complete", model="scripted", messages=HELLO)
    assert seen["requests"] == 2
    first, second = sdk.exchanges
    assert second.received_at - first.received_at >= 1.0


@pytest.mark.parametrize("model", CUTS)
@pytest.mark.parametrize("check", ["stream", "stream_async"])
async def test_a_stream_that_breaks_raises(sdk: Sdk, check: str, model: str) -> None:
    """After the words that came: an error, never a silent half answer, and no second request."""
    seen = await sdk.run(check, model=model, messages=HELLO)
    assert seen["text"] == chunks.text(3)
    raised = seen["raised"]
    assert "APIError" in raised["classes"]
    assert raised["message"]
    assert raised["code"]
    assert not [secret for secret in SECRETS if secret in str(raised)]
    assert (seen["requests"], len(sdk.exchanges)) == (1, 1)


@pytest.mark.parametrize("model", ["up/error_event_openai", "up/close_mid_event", "up/done_without_finish"])
async def test_half_a_stream_makes_no_completion(sdk: Sdk, model: str) -> None:
    """The SDK's accumulator raises too, instead of giving what it has."""
    seen = await sdk.run("stream_events", model=model, messages=HELLO)
    assert seen["raised"]["type"] == "APIError"
    assert "reply" not in seen


@pytest.mark.parametrize("model", ["up/reset_mid_stream", "up/close_mid_event", "up/error_event_openai"])
async def test_an_answer_that_breaks_without_a_stream_raises(sdk: Sdk, model: str) -> None:
    """Half a JSON answer is none: 502."""
    seen = await sdk.run("complete", {"max_retries": 0}, model=model, messages=HELLO)
    check_raised(seen["raised"], "InternalServerError", 502, "upstream_error")


@pytest.mark.parametrize("model", ["up/error_event_openrouter", "up/reset_mid_stream"])
async def test_a_stream_that_breaks_raises_on_the_other_prefix(sdk: Sdk, model: str) -> None:
    """OpenRouter's frame has choices as well, and its code is a number; the SDK sees the error all the same."""
    options = {"base_url": f"{sdk.server.url}/api/v1"}
    seen = await sdk.run("stream", options, model=model, messages=HELLO)
    assert (seen["raised"]["type"], seen["text"]) == ("APIError", chunks.text(3))
    assert seen["raised"]["body"]["code"] >= 500


async def test_a_refusal_has_a_number_on_the_other_prefix(sdk: Sdk) -> None:
    """The classes are the same; the words stand in the metadata."""
    options = {"base_url": f"{sdk.server.url}/api/v1", "api_key": POOR}
    seen = await sdk.run("complete", options, model="echo", messages=HELLO)
    raised = seen["raised"]
    assert (raised["type"], raised["status_code"], raised["body"]["code"]) == ("APIStatusError", 402, 402)
    assert raised["body"]["metadata"]["error_code"] == "budget_exceeded"
    assert seen["requests"] == 1


@pytest.mark.parametrize(("check", "ask"), [("embed", {"input": "x"}), ("respond", {"input": "x"})])
async def test_an_endpoint_that_does_not_exist_says_so(sdk: Sdk, check: str, ask: dict[str, Any]) -> None:
    """404 with the paths there are, once."""
    seen = await sdk.run(check, model="echo", **ask)
    check_raised(seen["raised"], "NotFoundError", 404, "unknown_url")
    assert "chat/completions" in seen["raised"]["body"]["message"]
    assert seen["requests"] == 1


async def test_a_model_that_does_not_exist_is_not_found(sdk: Sdk) -> None:
    """`models.retrieve` as OpenAI has it."""
    seen = await sdk.run("retrieve_model", model="nobody")
    check_raised(seen["raised"], "NotFoundError", 404, "model_not_found")


@pytest.mark.parametrize(
    ("generation", "raised"), [("openai2", "foreign RemoteProtocolError"), ("openai3", "APIConnectionError")]
)
async def test_a_gateway_that_dies_is_no_answer(tmp_path: Path, generation: str, raised: str) -> None:
    """Killed in the middle of a stream: no error event can come, and the cut itself raises (httpx's own in the old)."""
    async with FaultUpstream() as up:
        server = TurnpikeServer(ROUTES.format(up=up.base_url), tmp_path, env={"UPSTREAM_KEY": "sk-upstream"})
        await server.start()
        try:
            async with start_client(generation, server) as client:
                asked = {"model": "up/hang_mid_stream", "messages": HELLO}
                await client.begin("stream_aloud", options={"max_retries": 0}, ask=asked)
                while not (await client.hear())["text_so_far"]:
                    pass
                await server.kill()
                while "requests" not in (seen := await client.hear()):
                    pass
        finally:
            await server.kill()
    assert (seen["raised"]["type"], seen["requests"]) == (raised, 1)
    assert seen["text"]
