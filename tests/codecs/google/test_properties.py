"""What holds whatever clients send: no crash, proper turns, and every signature back where it was."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.wire import Abilities, JsonObject, Thinking
from proxy.errors import ClientError, UpstreamError
from proxy.sse import event
from tests.codecs.google.calls import CODEC, HI, READING, SKIP

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
URLS = st.sampled_from(["data:image/png;base64,QQ==", "https://x.test/a.png", "x", ""])
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "video_url", "refusal", "x"]) | JSON},
    optional={
        "text": st.text(max_size=5) | JSON,
        "image_url": st.fixed_dictionaries({"url": URLS}) | JSON,
        "video_url": st.fixed_dictionaries({"url": URLS}) | JSON,
        "input_audio": st.fixed_dictionaries({"data": URLS, "format": st.just("mp3")}) | JSON,
        "file": st.fixed_dictionaries({"file_data": URLS, "filename": st.just("a.pdf")}) | JSON,
    },
)
IDS = st.sampled_from(["a", "b", "server_0", "image_0", "x"]) | st.none()
SIGNATURES = st.sampled_from(["AA==", "BB==", "no!", ""])
CALLS = st.fixed_dictionaries(
    {
        "id": IDS,
        "function": st.fixed_dictionaries(
            {"name": st.text("fg", max_size=2), "arguments": st.text("{}[]1", max_size=4) | JSON}
        )
        | JSON,
    },
    optional={
        "extra_content": st.fixed_dictionaries({"google": st.fixed_dictionaries({"thought_signature": SIGNATURES})})
        | JSON
    },
)
DETAILS = st.fixed_dictionaries(
    {
        "format": st.sampled_from(["google-gemini-v1", "anthropic-claude-v1"]),
        "type": st.sampled_from(["reasoning.encrypted", "reasoning.text", "reasoning.server_tool_call"]) | JSON,
    },
    optional={
        "id": IDS | JSON,
        "data": SIGNATURES | JSON,
        "signature": SIGNATURES | JSON,
        "text": st.text(max_size=3) | JSON,
        "tool_name": st.sampled_from(["executableCode", "functionResponse"]) | JSON,
        "arguments": st.sampled_from(["{}", '{"code":"1"}', "["]) | JSON,
    },
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | JSON,
        "content": st.text(max_size=5) | st.none() | st.lists(PARTS | JSON, max_size=3) | JSON,
    },
    optional={
        "name": st.text("ab", max_size=2) | JSON,
        "tool_call_id": IDS | JSON,
        "tool_calls": st.lists(CALLS | JSON, max_size=3) | JSON,
        "reasoning_details": st.lists(DETAILS | JSON, max_size=4) | JSON,
        "images": st.lists(st.fixed_dictionaries({"image_url": st.fixed_dictionaries({"url": URLS})}), max_size=2)
        | JSON,
        "audio": JSON,
    },
)
NUMBERS = dict.fromkeys(["temperature", "top_k", "seed", "n", "top_logprobs", "presence_penalty"], st.integers(1, 9))
FIELDS = st.fixed_dictionaries(
    {},
    optional={name: numbers | JSON for name, numbers in NUMBERS.items()}
    | {
        "logprobs": st.booleans() | JSON,
        "response_format": st.fixed_dictionaries({"type": st.sampled_from(["json_object", "json_schema"])}) | JSON,
        "tools": st.lists(st.just({"function": {"name": "f"}}), max_size=2) | JSON,
    }
    | dict.fromkeys(
        [
            "max_tokens",
            "max_completion_tokens",
            "stop",
            "tool_choice",
            "parallel_tool_calls",
            "reasoning",
            "reasoning_effort",
            "include_reasoning",
            "modalities",
            "audio",
            "image_config",
            "google",
            "extra_body",
            "safety_settings",
            "stream",
            "logit_bias",
        ],
        JSON,
    ),
)
ABILITIES = st.builds(
    Abilities,
    output_tokens_max=st.none() | st.integers(1, 100_000),
    thinking=st.none() | st.sampled_from(Thinking),
    sampling=st.booleans(),
    forced_tools=st.booleans(),
    prefill=st.booleans(),
    json_schema=st.booleans(),
    efforts=st.lists(st.sampled_from(["none", "minimal", "low", "high", "max"]), unique=True).map(tuple),
)


def check(written: JsonObject) -> None:
    """Hold a request against what Gemini demands of turns."""
    turns = written["contents"]
    roles = [turn["role"] for turn in turns]
    assert roles == ["user" if place % 2 == 0 else "model" for place in range(len(turns))] != []
    for turn in turns:
        assert turn["parts"]
        names = [part["functionResponse"]["name"] for part in turn["parts"] if "functionResponse" in part]
        assert all(names)
        assert all(isinstance(part["functionResponse"]["response"], dict) for part in turn["parts"][: len(names)])
        assert not names or turn["role"] == "user"
        calls = [part for part in turn["parts"] if "functionCall" in part]
        assert not calls or any(part.get("thoughtSignature") for part in calls)
        assert all(part["functionCall"]["name"] for part in calls)


@given(
    messages=st.lists(MESSAGES | JSON, max_size=5), fields=FIELDS, abilities=ABILITIES, cap=st.none() | st.integers(1)
)
def test_any_request_is_proper_or_refused(
    messages: list[Any], fields: JsonObject, abilities: Abilities, cap: int | None
) -> None:
    """Whatever JSON comes: turns that alternate and name their functions, or a ClientError that names the place."""
    body = orjson.loads(orjson.dumps({"messages": messages, **fields}))
    written: JsonObject | None = None
    param: str | None = None
    try:
        written = orjson.loads(CODEC.encode(body, model="m", output_tokens_max=cap, abilities=abilities).body)
    except ClientError as refused:
        param = refused.param
    if written is None:
        assert param
        return
    check(written)
    thinking = written.get("generationConfig", {}).get("thinkingConfig", {})
    assert not {"thinkingBudget", "thinkingLevel"} <= set(thinking)


@given(
    reply=JSON
    | st.fixed_dictionaries(
        {
            "candidates": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "content": st.fixed_dictionaries({"parts": st.lists(JSON, max_size=3)}),
                        "finishReason": JSON,
                        "index": JSON,
                        "groundingMetadata": JSON,
                        "logprobsResult": JSON,
                    },
                ),
                max_size=3,
            ),
            "usageMetadata": JSON,
            "promptFeedback": JSON,
        }
    )
)
def test_any_reply_is_read_or_a_failure(reply: Any) -> None:
    """Whatever JSON Google may send: a reply that can be written, or an UpstreamError."""
    sent = orjson.dumps(reply)
    with suppress(UpstreamError):
        read = CODEC.read_reply(sent, READING)
        CODEC.read_usage(read)
        orjson.dumps(read)
    decoder = CODEC.stream(READING)
    with suppress(UpstreamError):
        decoder.decode(event(sent))
        decoder.close()


PIECES = st.lists(
    st.sampled_from(["text", "thought", "call", "code", "picture"]).flatmap(
        lambda kind: st.tuples(st.just(kind), st.sampled_from([None, "AA==", "BB==", "CC=="]))
    ),
    max_size=6,
)


def part_of(kind: str, signature: str | None, place: int) -> JsonObject:
    """Write one part of an answer."""
    parts: dict[str, JsonObject] = {
        "text": {"text": f"t{place}"},
        "thought": {"text": f"h{place}", "thought": True},
        "call": {"functionCall": {"name": f"f{place}", "args": {"a": place}}},
        "code": {"executableCode": {"code": str(place)}},
        "picture": {"inlineData": {"mimeType": "image/png", "data": f"QUJ{place}"}},
    }
    return {**parts[kind], "thoughtSignature": signature} if signature else parts[kind]


def merge(chunks: list[JsonObject]) -> JsonObject:
    """Put deltas together as clients do: texts joined, lists appended, details of one index joined."""
    message: JsonObject = {"role": "assistant", "content": None}
    for delta in (choice["delta"] for chunk in chunks for choice in chunk["choices"]):
        if "content" in delta:
            message["content"] = (message["content"] or "") + delta["content"]
        for name in ("tool_calls", "images"):
            message.setdefault(name, []).extend(delta.get(name, []))
        for detail in delta.get("reasoning_details", []):
            kept = message.setdefault("reasoning_details", [])
            if kept and kept[-1]["index"] == detail["index"]:
                kept[-1] |= {**detail, "text": kept[-1]["text"] + detail["text"]}
            else:
                kept.append(detail)
    return message


@given(pieces=PIECES, is_stream=st.booleans())
def test_signatures_come_back_where_they_were(pieces: list[tuple[str, str | None]], is_stream: bool) -> None:
    """An answer sent back unmodified, read whole or put together from a stream, carries the very same signatures."""
    parts = [part_of(kind, signature, place) for place, (kind, signature) in enumerate(pieces)]
    if is_stream:
        decoder = CODEC.stream(READING)
        events = [event(orjson.dumps({"candidates": [{"content": {"parts": [part]}}]})) for part in parts]
        frames = [frame for one in events for frame in decoder.decode(one)]
        message = merge([frame.chunk for frame in frames if frame.chunk])
    else:
        ended = {"content": {"parts": parts}, "finishReason": "STOP"}
        message = CODEC.read_reply(orjson.dumps({"candidates": [ended]}), READING)["choices"][0]["message"]
    body = {"messages": [HI, message]}
    turns = orjson.loads(CODEC.encode(body, model="m", output_tokens_max=None).body)["contents"]
    sent = turns[1]["parts"] if len(turns) > 1 else []

    def bound(kind: str, among: list[JsonObject]) -> list[tuple[Any, str | None]]:
        return [(part[kind], part.get("thoughtSignature")) for part in among if kind in part]

    calls = [({**call, "id": None}, signature) for call, signature in bound("functionCall", sent)]
    wanted = [({**call, "id": None}, signature) for call, signature in bound("functionCall", parts)]
    if wanted and not any(signature for _, signature in wanted):
        wanted[0] = (wanted[0][0], SKIP)
    assert calls == wanted
    assert bound("executableCode", sent) == bound("executableCode", parts)
    assert bound("inlineData", sent) == bound("inlineData", parts)
    for is_thought in (False, True):
        texts = [part for part in sent if "text" in part and bool(part.get("thought")) is is_thought]
        given_texts = [part for part in parts if "text" in part and bool(part.get("thought")) is is_thought]
        signed = [part["thoughtSignature"] for part in given_texts if "thoughtSignature" in part]
        assert [part["thoughtSignature"] for part in texts if "thoughtSignature" in part] == signed
