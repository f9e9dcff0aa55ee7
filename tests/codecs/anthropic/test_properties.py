"""What holds for any chat, and for any answer."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.anthropic.reasoning import FORMAT
from proxy.codecs.wire import Abilities, Call, JsonObject, Thinking
from proxy.errors import ClientError
from tests.codecs.anthropic.asking import answered, encode, function, text
from tests.codecs.anthropic.reading import END, begin, replied, stop, streamed, thoughts, use, words

ID = re.compile(r"^[a-zA-Z0-9_-]+$")
abilities = st.builds(
    Abilities,
    output_tokens_max=st.none() | st.integers(1, 100_000),
    thinking=st.none() | st.sampled_from(Thinking),
    sampling=st.booleans(),
    forced_tools=st.booleans(),
    prefill=st.booleans(),
    json_schema=st.booleans(),
)
says = st.text(max_size=4) | st.lists(st.text(max_size=4).map(text), max_size=3) | st.none()
ids = st.sampled_from(["call:1", "call_1", "a b", "", "é", "call_1_1"])
details = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["reasoning.text", "reasoning.encrypted"]), "format": st.sampled_from([FORMAT, "x"])},
        optional={"text": st.text(max_size=3), "signature": st.text(max_size=3), "data": st.text(max_size=3)},
    ),
    max_size=3,
)


@st.composite
def spoken(draw: st.DrawFn) -> list[JsonObject]:
    """Make one message of anybody's that calls no tool."""
    role = draw(st.sampled_from(["system", "developer", "user", "assistant"]))
    message: JsonObject = {"role": role, "content": draw(says)}
    if draw(st.booleans()):
        message["name"] = draw(st.text(max_size=3))
    if role == "assistant":
        message["reasoning_details"] = draw(details)
    return [message]


@st.composite
def looped(draw: st.DrawFn) -> list[JsonObject]:
    """Make an assistant's message that calls tools, and their results in any order, other words between them."""
    given_ids = draw(st.lists(ids, min_size=1, max_size=3))
    arguments = st.sampled_from(["", "{}", '{"a":1}', "{", "5"])
    calls = [
        {"id": id_, "type": "function", "function": {"name": "add", "arguments": draw(arguments)}} for id_ in given_ids
    ]
    said = {"role": "assistant", "content": draw(says), "tool_calls": calls, "reasoning_details": draw(details)}
    results: list[JsonObject] = [answered(id_, draw(says)) for id_ in draw(st.permutations(given_ids))]
    between = [
        {"role": role, "content": "x"} for role in draw(st.lists(st.sampled_from(["user", "system"]), max_size=2))
    ]
    rest = draw(st.permutations([*results, *between]))
    return [said, *rest]


chats = st.lists(spoken() | looped(), max_size=6).map(lambda parts: [message for part in parts for message in part])


@given(chats, abilities, st.booleans())
def test_any_chat_keeps_to_anthropic_s_rules(messages: list[JsonObject], able: Abilities, offers: bool) -> None:
    """Roles take turns, the user begins, nothing is empty, and results stand right behind their calls."""
    more: JsonObject = {"tools": [function()]} if offers else {}
    body = orjson.loads(encode(messages=messages, abilities=able, **more).body)
    sent = body["messages"]
    assert sent[0]["role"] == "user"
    assert all(first["role"] != second["role"] for first, second in pairwise(sent))
    assert able.prefill or sent[-1]["role"] == "user"
    blocks = [*body.get("system", [text("x")]), *(block for turn in sent for block in turn["content"])]
    blocks += [inner for block in blocks if block["type"] == "tool_result" for inner in block.get("content", [])]
    assert all(block["text"].strip() for block in blocks if block["type"] == "text")
    assert all(turn["content"] for turn in sent)
    for place, turn in enumerate(sent):
        kinds = [block["type"] for block in turn["content"]]
        called = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
        assert all(ID.fullmatch(id_) for id_ in called)
        assert len(set(called)) == len(called)
        if called:
            answers = [block for block in sent[place + 1]["content"] if block["type"] == "tool_result"]
            assert sorted(block["tool_use_id"] for block in answers) == sorted(called)
        assert kinds == sorted(kinds, key="tool_result".__ne__) or turn["role"] == "assistant"
        if turn["role"] == "user":
            before = sent[place - 1]["content"] if place else []
            assert kinds.count("tool_result") == sum(block["type"] == "tool_use" for block in before)
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert len(calls) == len(set(calls))
    if sent[-1]["role"] == "assistant":
        last = sent[-1]["content"][-1]
        assert last["text"] == last["text"].rstrip()
    if calls:
        assert body["tools"]


@given(
    st.integers(1, 5_000),
    st.none() | st.integers(1, 5_000),
    st.sampled_from([{"effort": "high"}, {"effort": "max"}, {"max_tokens": 3_000}, {"enabled": True}]),
    abilities,
    st.sampled_from([None, "auto", "required"]),
)
def test_thinking_is_never_a_reason_to_refuse(
    asked: int, cap: int | None, reasoning: JsonObject, able: Abilities, choice: str | None
) -> None:
    """Its budget is below the cap, the cap is never raised, and nothing that cannot go with it goes with it."""
    call = encode(
        cap=cap,
        abilities=able,
        max_tokens=asked,
        reasoning=reasoning,
        temperature=0.5,
        top_k=3,
        tools=[function()],
        tool_choice=choice,
    )
    body = orjson.loads(call.body)
    assert body["max_tokens"] <= min(asked, cap or asked, able.output_tokens_max or asked)
    thinking = body.get("thinking", {"type": "disabled"})
    if thinking["type"] == "enabled":
        assert 1_024 <= thinking["budget_tokens"] < body["max_tokens"]
    if thinking["type"] != "disabled":
        assert not {"temperature", "top_k"} & set(body)
        assert body.get("tool_choice", {"type": "auto"})["type"] == "auto"


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = st.recursive(
    leaves
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "tool", "text", "a", "data:,x", "data:image/png;base64,QQ=="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("role", "content", "tool_calls", "tool_call_id", "id", "function", "name", "arguments", "type"),
                    *("text", "image_url", "url", "file", "file_data", "reasoning_details", "cache_control", "schema"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
fields = st.dictionaries(
    st.sampled_from(
        (
            *("messages", "max_tokens", "temperature", "top_p", "top_k", "stop", "tools", "tool_choice", "reasoning"),
            *("parallel_tool_calls", "response_format", "reasoning_effort", "verbosity", "service_tier", "metadata"),
            *("thinking", "cache_control", "output_config", "context_management", "stream", "user", "n", "x"),
        )
    ),
    values,
    max_size=6,
)
messages_ = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["role", "content", "tool_calls", "tool_call_id", "name", "reasoning_details", "function_call"]
        ),
        values | st.sampled_from(["system", "user", "assistant", "tool"]),
    )
    | values,
    max_size=4,
)


def attempt(body: JsonObject, able: Abilities) -> Call | ClientError:
    """Encode a body, or give what is wrong with it."""
    try:
        return AnthropicCodec().encode(body, model="m", output_tokens_max=None, abilities=able)
    except ClientError as error:
        return error


@given(fields, messages_ | values, abilities)
def test_any_json_is_a_call_or_the_client_s_error(body: JsonObject, messages: Any, able: Abilities) -> None:
    """Nothing a client sends raises anything else, and what is written can be read."""
    written = attempt({"messages": messages, **body}, able)
    if isinstance(written, ClientError):
        assert written.param
        return
    sent = orjson.loads(written.body)
    assert sent["messages"][0]["role"] == "user"
    assert sent["max_tokens"] >= 1


pieces = st.lists(st.text(max_size=4), max_size=3)


@given(
    st.lists(st.tuples(st.sampled_from(["text", "thinking", "tool_use", "answer"]), pieces), max_size=5),
    st.sampled_from([None, "answer"]),
)
def test_streamed_or_whole_an_answer_is_the_same(parts: list[tuple[str, list[str]]], schema_tool: str | None) -> None:
    """Text, thinking, calls and finish reason; at most one answer by tool, behind all words."""
    parts = [part for part in parts if part[0] != "answer"] + [part for part in parts if part[0] == "answer"][:1]
    events: list[JsonObject] = []
    content: list[JsonObject] = []
    for index, (kind, said) in enumerate(parts):
        whole = "".join(said)
        match kind:
            case "text":
                events += words(*said, index=index)
                content.append(text(whole))
            case "thinking":
                events += thoughts(*said, index=index)
                content.append({"type": "thinking", "thinking": whole, "signature": "sig"})
            case name:
                given_input = {"a": whole}
                events += use(orjson.dumps(given_input).decode(), index=index, name=name, id_=f"toolu_{index}")
                content.append({"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": given_input})
    reason = "tool_use" if any(kind in ("tool_use", "answer") for kind, _ in parts) else "end_turn"
    has_both = {"tool_use", "answer"} <= {kind for kind, _ in parts}
    told, _ = streamed(begin(), *events, stop(reason), END, schema_tool=None if has_both else schema_tool)
    (choice,) = replied(*content, stop_reason=reason, schema_tool=None if has_both else schema_tool)["choices"]
    message = choice["message"]
    assert told.content == message["content"]
    assert told.reasoning == message.get("reasoning", "")
    assert told.finish_reason == choice["finish_reason"]
    calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", [])]
    assert told.calls == calls
