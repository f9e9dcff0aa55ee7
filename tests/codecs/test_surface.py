"""What a client sees: the rewrites of design.md section 4, and nothing else changed."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.surface import Cost, View, error_type, show_error, show_frame, show_reply, split_reply
from proxy.codecs.wire import Frame, JsonObject, Surface
from proxy.errors import Failure, FailureKind
from proxy.sse import DONE_EVENT, data_of, event
from proxy.usage import CostSource

COST = Cost(1_234_567, CostSource.COMPUTED)
SHOWN: JsonObject = {"cost": 0.001234567, "cost_source": "computed"}
USAGE: JsonObject = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
FULL: JsonObject = {"choices": [{"index": 0, "delta": {}, "finish_reason": None}]}


def view(surface: Surface = Surface.OPENAI, *, is_openrouter: bool = False, wants_usage: bool = True) -> View:
    """Make a view on provider `acme`."""
    return View(surface, provider="acme", is_openrouter=is_openrouter, wants_usage=wants_usage)


PLAIN = view()
QUIET = view(wants_usage=False)
ROUTER = view(Surface.OPENROUTER)
ROUTER_TO_ROUTER = view(Surface.OPENROUTER, is_openrouter=True)
VIEWS = [PLAIN, QUIET, ROUTER, ROUTER_TO_ROUTER, view(is_openrouter=True)]


def show(chunk: JsonObject, seen: View, *, cost: Cost | None = None, is_first: bool = False) -> JsonObject | None:
    """Show one parsed chunk; None when it is left out."""
    raw = event(orjson.dumps(chunk))
    shown = show_frame(Frame(raw, copy.deepcopy(chunk)), seen, cost=cost, is_first=is_first)
    if not shown:
        return None
    assert shown.endswith(b"\n\n")
    result = orjson.loads(data_of(shown) or b"")
    assert shown == (raw if result == chunk else event(orjson.dumps(result)))
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("seen", VIEWS)
@pytest.mark.parametrize("frame", [Frame(b": c\n\n"), Frame(b"data: {}\n\n"), Frame(DONE_EVENT, is_done=True)])
def test_what_nobody_parsed_passes_as_bytes(frame: Frame, seen: View) -> None:
    """Comments, the end, and every chunk that does not matter."""
    assert show_frame(frame, seen, cost=COST, is_first=True) == frame.raw


# (a) usage.


@pytest.mark.parametrize("seen", VIEWS)
def test_usage_gains_its_cost(seen: View) -> None:
    """On a chunk with choices, on every surface: what is booked, and where the figure comes from."""
    chunk = {**FULL, "usage": USAGE}
    assert show(chunk, seen, cost=COST) == {**FULL, "usage": {**USAGE, **SHOWN}}


def test_usage_without_a_cost_stays() -> None:
    """A null usage, and a usage that says nothing, gain nothing."""
    assert show({**FULL, "usage": USAGE}, PLAIN) == {**FULL, "usage": USAGE}
    assert show({**FULL, "usage": None}, PLAIN, cost=COST) == {**FULL, "usage": None}


@pytest.mark.parametrize("choices", [{"choices": []}, {"choices": None}, {}])
def test_a_usage_chunk_of_its_own_is_for_who_asked(choices: JsonObject) -> None:
    """A client of `/v1` that did not ask may index `choices[0]`; OpenRouter always sends it."""
    chunk = {**choices, "usage": USAGE}
    assert show(chunk, QUIET, cost=COST) is None
    assert show(chunk, QUIET) is None
    for seen in (PLAIN, ROUTER, ROUTER_TO_ROUTER, view(Surface.OPENROUTER, wants_usage=False)):
        assert show(chunk, seen, cost=COST) == {**choices, "usage": {**USAGE, **SHOWN}}


@pytest.mark.parametrize(
    "chunk", [{**FULL, "usage": USAGE}, {"choices": [], "prompt_filter_results": []}, {"choices": [], "usage": None}]
)
def test_only_a_usage_chunk_of_its_own_is_left_out(chunk: JsonObject) -> None:
    """A finish chunk that carries usage is an answer; Azure's first chunk has no choices and no usage."""
    assert show(chunk, QUIET) == chunk


@pytest.mark.parametrize(
    ("sent", "booked", "shown"),
    [
        (0.001234567, 1_234_567, 0.001234567),
        (0.0004970133333333333, 497_014, 0.0004970133333333333),
        (0.0018, 37_800_000, 0.0378),
        (0.5, 1_234_567, 0.001234567),
        (0, 0, 0),
        ("0.5", 1_234_567, 0.001234567),
        (None, 1_234_567, 0.001234567),
        (float("inf"), 1_234_567, 0.001234567),
        (float("nan"), 1_234_567, 0.001234567),
        (0.5, None, None),
    ],
)
def test_a_cost_the_provider_sent_stays_where_it_is_booked(sent: object, booked: int | None, shown: object) -> None:
    """Its own digits where they are the bill; our figure where they are not: for BYOK they are only the fee."""
    chunk = {**FULL, "usage": {**USAGE, "cost": sent}}
    result = show_frame(Frame(b"", chunk), PLAIN, cost=Cost(booked, CostSource.REPORTED), is_first=False)
    assert orjson.loads(data_of(result) or b"")["usage"] == {**USAGE, "cost": shown, "cost_source": "reported"}


def test_a_cost_is_a_number_of_dollars() -> None:
    """Nano-dollars become the JSON number OpenRouter's clients expect; unknown is null, never 0."""
    assert Cost(1, CostSource.HELD).usd == 1e-09
    assert Cost(0, CostSource.HELD).usd == 0
    assert Cost(None, CostSource.UNKNOWN).usd is None


# How it was routed.

ROUTING: JsonObject = {"requested": "chat", "attempt": 1}


@pytest.mark.parametrize("seen", VIEWS)
def test_a_reply_tells_its_routing_to_who_asked(seen: View) -> None:
    """Beside the answer, on either surface."""
    reply: JsonObject = {"choices": []}
    assert "openrouter_metadata" not in orjson.loads(show_reply(dict(reply), seen, cost=None))
    shown = orjson.loads(show_reply(reply, seen._replace(metadata=ROUTING), cost=None))
    assert shown["openrouter_metadata"] == ROUTING


@pytest.mark.parametrize("seen", [PLAIN, ROUTER])
def test_a_stream_tells_its_routing_with_its_usage(seen: View) -> None:
    """The last chunk has no choices; what has some, and what nobody asked for, stays as it is."""
    asking = seen._replace(metadata=ROUTING)
    last = {"choices": [], "usage": USAGE}
    assert show(last, asking) == {**last, "openrouter_metadata": ROUTING}
    assert show(last, seen) == last
    assert show({**FULL, "usage": USAGE}, asking) == {**FULL, "usage": USAGE}


def test_azures_first_chunk_tells_nothing() -> None:
    """It has no choices either, and no usage."""
    first: JsonObject = {"choices": [], "prompt_filter_results": []}
    assert show(first, ROUTER._replace(metadata=ROUTING)) == first


# (b) errors.


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (400, "invalid_value", "invalid_request"),
        (400, "context_length_exceeded", "context_length_exceeded"),
        (401, "invalid_api_key", "authentication"),
        (402, "budget_exceeded", "payment_required"),
        (403, "model_not_allowed", "permission_denied"),
        (403, "content_policy", "content_policy_violation"),
        (404, "model_not_found", "not_found"),
        (412, "x", "precondition_failed"),
        (413, "payload_too_large", "payload_too_large"),
        (418, "x", "invalid_request"),
        (422, "x", "unprocessable"),
        (429, "rate_limit_exceeded", "rate_limit_exceeded"),
        (500, "internal_error", "server"),
        (502, "upstream_error", "provider_unavailable"),
        (502, "upstream_timeout", "timeout"),
        (503, "overloaded", "provider_overloaded"),
        (504, "upstream_timeout", "timeout"),
        (529, "x", "provider_overloaded"),
        (599, "x", "server"),
    ],
)
def test_every_error_has_openrouters_word(status: int, code: str, word: str) -> None:
    """Our code says more where it does, else the status (openrouter.md 4.4)."""
    assert error_type(status, code) == word


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (Failure(FailureKind.TIMEOUT, "slow"), "timeout"),
        (Failure(FailureKind.BROKEN_STREAM, "cut"), "provider_unavailable"),
        (Failure(FailureKind.RATE_LIMITED, "stop", status=429), "rate_limit_exceeded"),
        (Failure(FailureKind.CREDITS, "poor", status=402), "provider_unavailable"),
        (Failure(FailureKind.SERVER_ERROR, "own", status=500, metadata={"error_type": "theirs"}), "theirs"),
    ],
)
def test_a_broken_streams_error_has_openrouters_word(failure: Failure, word: str) -> None:
    """The upstream's own where it has one; OpenRouter's SDKs read no frame without."""
    error = orjson.loads(data_of(show_error(failure, ROUTER, seed={}, status=502)) or b"")["error"]
    assert error["metadata"]["error_type"] == word


FAILURE = Failure(FailureKind.INVALID_REPLY, "boom", status=200, metadata={"provider_name": "Acme"})


def test_an_error_on_v1_stands_alone() -> None:
    """`@ai-sdk/openai` would take a frame with choices for an answer."""
    raw = show_error(FAILURE, PLAIN, seed={"id": "1"}, status=502)
    assert orjson.loads(data_of(raw) or b"") == {
        "error": {"message": "boom", "type": "api_error", "param": None, "code": "upstream_error"}
    }
    coded = show_error(Failure(FailureKind.INVALID_REPLY, "boom", code="server_error"), PLAIN, seed={}, status=502)
    assert orjson.loads(data_of(coded) or b"")["error"]["code"] == "server_error"


@pytest.mark.parametrize("seen", [ROUTER, ROUTER_TO_ROUTER])
def test_an_error_on_api_v1_is_openrouter_s_frame(seen: View) -> None:
    """A chunk with the stream's own head, the error, and a finish reason that says so (openrouter.md 4.5)."""
    seed = {"id": "gen-1", "created": 7, "model": "m", "provider": "Theirs", "choices": [1], "user_id": "user_1"}
    assert orjson.loads(data_of(show_error(FAILURE, seen, seed=seed, status=502)) or b"") == {
        "id": "gen-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "provider": "Theirs",
        "error": {
            "code": 502,
            "message": "boom",
            "metadata": {
                "error_type": "provider_unavailable",
                "provider_name": "Acme",
                "error_code": "upstream_error",
            },
        },
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}],
    }


@pytest.mark.parametrize(
    ("status", "number"), [(None, 502), (200, 502), (399, 502), (400, 400), (429, 429), (503, 503)]
)
def test_the_number_of_an_error_is_the_upstream_s_where_it_named_one(status: int | None, number: int) -> None:
    """OpenRouter's `code` is an integer; a break without a status has the one we give it."""
    failure = Failure(FailureKind.INVALID_REPLY, "boom", status=status, code="rate_limit_exceeded")
    frame = orjson.loads(data_of(show_error(failure, ROUTER, seed={}, status=502)) or b"")
    assert frame["error"]["code"] == number
    assert frame["error"]["metadata"] == {"error_type": "rate_limit_exceeded", "error_code": "rate_limit_exceeded"}
    assert (frame["id"], frame["created"], frame["model"], frame["provider"]) == ("", 0, "", "acme")


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (502, "broken_stream", "provider_unavailable"),
        (502, "timeout", "timeout"),
        (400, "context_length_exceeded", "context_length_exceeded"),
        (403, "content_policy", "content_policy_violation"),
        (403, "model_not_allowed", "permission_denied"),
        (402, "budget_exceeded", "payment_required"),
        (415, "unsupported_media_type", "invalid_request"),
        (500, "internal_error", "server"),
        (520, "upstream_error", "server"),
    ],
)
def test_every_error_has_a_word_of_openrouter_s(status: int, code: str, word: str) -> None:
    """Its SDKs take the metadata of a chunk's error for broken without one; any word of ours fits its open enum."""
    assert error_type(status, code) == word


def test_the_upstream_s_own_word_stands() -> None:
    """It knows better what went wrong."""
    failure = Failure(FailureKind.INVALID_REPLY, "boom", status=502, metadata={"error_type": "provider_overloaded"})
    frame = orjson.loads(data_of(show_error(failure, ROUTER, seed={}, status=502)) or b"")
    assert frame["error"]["metadata"]["error_type"] == "provider_overloaded"


# (c) OpenRouter's surface over other upstreams.


@pytest.mark.parametrize(
    ("chunk", "is_first", "shown"),
    [
        (FULL, True, {**FULL, "provider": "acme"}),
        ({**FULL, "provider": "Theirs"}, True, {**FULL, "provider": "Theirs"}),
        ({"choices": []}, True, {"choices": [], "provider": "acme"}),
        (FULL, False, FULL),
        (
            {"choices": [{"index": 0, "delta": {}}, {"index": 1, "finish_reason": "stop"}]},
            False,
            {"choices": [{"index": 0, "delta": {}, "finish_reason": None}, {"index": 1, "finish_reason": "stop"}]},
        ),
        ({**FULL, "system_fingerprint": None}, False, FULL),
        ({**FULL, "system_fingerprint": "fp"}, False, {**FULL, "system_fingerprint": "fp"}),
        ({"choices": None}, False, {"choices": None}),
        ({"choices": [5, None]}, False, {"choices": [5, None]}),
    ],
)
def test_openrouter_s_sdks_find_the_keys_they_demand(chunk: JsonObject, is_first: bool, shown: JsonObject) -> None:
    """`provider` on the first chunk, `finish_reason` in every choice, no null fingerprint; OpenRouter's own stay."""
    assert show(chunk, ROUTER, is_first=is_first) == shown
    for seen in (PLAIN, ROUTER_TO_ROUTER):
        assert show(chunk, seen, is_first=is_first) == chunk


def test_only_foreign_streams_on_openrouter_s_surface_need_every_chunk() -> None:
    """All others are relayed as bytes."""
    assert [seen.needs_every_chunk for seen in VIEWS] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("seen", "added"),
    [
        (PLAIN, {}),
        (ROUTER_TO_ROUTER, {"system_fingerprint": None}),
        (ROUTER, {"system_fingerprint": None, "provider": "acme"}),
    ],
)
def test_a_json_reply_gains_what_its_surface_demands(seen: View, added: JsonObject) -> None:
    """OpenRouter's always have a fingerprint, null allowed; foreign ones also name their provider."""
    reply = {"id": "1", "choices": [{"message": {}, "finish_reason": "stop"}], "usage": USAGE}
    shown = orjson.loads(show_reply(copy.deepcopy(reply), seen, cost=COST))
    assert shown == {**reply, **added, "usage": {**USAGE, **SHOWN}}
    kept = {"system_fingerprint": "fp", "provider": "Theirs", "choices": []}
    assert orjson.loads(show_reply(dict(kept), seen, cost=None)) == kept


def test_a_choice_of_a_foreign_json_reply_has_a_finish_reason() -> None:
    """Null where there is none: the key is what is demanded."""
    shown = orjson.loads(show_reply({"choices": [{"index": 0}], "usage": None}, ROUTER, cost=COST))
    assert shown["choices"] == [{"index": 0, "finish_reason": None}]
    assert shown["usage"] is None


# Nothing else.

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
choices = st.lists(
    st.dictionaries(st.sampled_from(["index", "delta", "finish_reason", "logprobs"]), values, max_size=4) | values,
    max_size=3,
)
usages = st.dictionaries(st.sampled_from(["prompt_tokens", "cost", "cost_details"]), values, min_size=1) | st.none()
chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "model": values,
        "provider": values,
        "system_fingerprint": values,
        "x_new": values,
        "usage": usages,
        "choices": choices | values,
    },
)


def without(reply: JsonObject, *, listed: set[str], in_choices: set[str]) -> JsonObject:
    """Take out what a rewrite may touch."""
    rest = {name: value for name, value in reply.items() if name not in listed}
    if isinstance(rest.get("usage"), dict):
        rest["usage"] = {name: value for name, value in rest["usage"].items() if name not in ("cost", "cost_source")}
    if isinstance(rest.get("choices"), list):
        rest["choices"] = [
            {name: value for name, value in choice.items() if name not in in_choices}
            if isinstance(choice, dict)
            else choice
            for choice in rest["choices"]
        ]
    return rest


@given(chunks, st.sampled_from(VIEWS), st.sampled_from([None, COST]), st.booleans())
def test_nothing_else_of_a_chunk_changes(chunk: JsonObject, seen: View, cost: Cost | None, is_first: bool) -> None:
    """Whatever it holds: apart from the keys listed, what arrives is what was sent."""
    shown = show(chunk, seen, cost=cost, is_first=is_first)
    if shown is None:
        assert seen is QUIET
        assert chunk["usage"]
        assert not chunk.get("choices")
        return
    listed = {"provider", "system_fingerprint"} if seen is ROUTER else set()
    touched = {"finish_reason"} if seen is ROUTER else set()
    assert without(shown, listed=listed, in_choices=touched) == without(chunk, listed=listed, in_choices=touched)
    for name in ("provider", "system_fingerprint"):
        assert name not in shown or chunk.get(name, "acme") == shown[name]


@given(chunks, st.sampled_from(VIEWS), st.sampled_from([None, COST]))
def test_nothing_else_of_a_reply_changes(reply: JsonObject, seen: View, cost: Cost | None) -> None:
    """The same holds for a JSON answer."""
    shown = orjson.loads(show_reply(copy.deepcopy(reply), seen, cost=cost))
    listed = {"provider", "system_fingerprint"} - set(reply) if seen.surface is Surface.OPENROUTER else set()
    touched = {"finish_reason"} if seen is ROUTER else set()
    assert without(shown, listed=listed, in_choices=touched) == without(reply, listed=set(), in_choices=touched)


# A whole reply for a client that wanted a stream.


def test_a_whole_reply_becomes_content_finish_and_usage() -> None:
    """One content chunk, one with the finish reason, one with usage alone: the shape every client knows."""
    message = {"role": "assistant", "content": "hi", "reasoning": "hm"}
    reply = {
        "id": "1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "provider": "Theirs",
        "service_tier": None,
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "message": message, "finish_reason": "length", "logprobs": {"content": []}}],
        "usage": USAGE,
    }
    head = {"id": "1", "created": 7, "model": "m", "object": "chat.completion.chunk"}
    head |= {"provider": "Theirs", "system_fingerprint": "fp"}
    content = {"index": 0, "delta": message, "finish_reason": None, "logprobs": {"content": []}}
    assert list(split_reply(reply)) == [
        {**head, "choices": [content]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {**head, "choices": [], "usage": USAGE},
    ]


def test_tool_calls_are_numbered_in_a_stream() -> None:
    """There each call carries its index; one that has it already keeps it, and what is no call is left out."""
    calls = [{"id": "a"}, 5, {"id": "b", "index": 7}]
    reply = {"choices": [{"message": {"tool_calls": calls}}]}
    first, finish = split_reply(reply)
    assert first["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "id": "a"}, {"index": 7, "id": "b"}]}
    assert finish["choices"][0]["finish_reason"] == "stop"


def test_every_choice_is_streamed() -> None:
    """All contents first, then all finish reasons, each under its own index; odd choices break nothing."""
    reply = {"choices": [{"message": {"content": "a"}}, {"index": 1, "message": None, "finish_reason": "length"}, 5]}
    choices = [chunk["choices"][0] for chunk in split_reply(reply)]
    assert [choice["index"] for choice in choices] == [0, 1, 0, 1]
    assert [choice["delta"] for choice in choices] == [{"content": "a"}, {}, {}, {}]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop", "length"]
    assert list(split_reply({"choices": None, "usage": None})) == []


@given(st.integers(min_value=0, max_value=10**15))
def test_a_cost_shown_is_the_cost_booked(nano_usd: int) -> None:
    """The number reads back as the same amount: nothing is lost on the way to the client."""
    shown = orjson.loads(show_reply({"usage": {}}, PLAIN, cost=Cost(nano_usd, CostSource.COMPUTED)))
    assert round(Decimal(repr(shown["usage"]["cost"])) * 10**9) == nano_usd
