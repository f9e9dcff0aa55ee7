"""Client requests of every kind the field knows, made by hypothesis and the same on every run (pure).

Each is one that OpenAI or OpenRouter would take; what a request is about is told by `traits`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from proxy.codecs.wire import JsonObject

SIZE: Final = 200
SEED: Final = 20_261_120
PNG: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(24))).decode()
PDF: Final = base64.b64encode(b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n").decode()
WAV: Final = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(16)).decode()
SIGNATURE: Final = base64.b64encode(bytes(range(200, 232))).decode()
TEXTS: Final = (
    "Hello!", "What is the weather in Paris?", "Zażółć gęślą jaźń", "東京の天気は？",
    "👩‍👩‍👧‍👦 and \u202eright to left",
    'quotes " and \\ and \n lines', "<thinking>not really</thinking>", '{"not": "a call"}', "  padded  ", "a" * 500,
)  # fmt: skip
EMPTY: Final = ("", " ", "\n")
NAMES: Final = ("get_weather", "search-web", "add", "Write_File_2")
SCHEMAS: Final[tuple[JsonObject | None, ...]] = (
    None,
    {},
    {"type": "object", "properties": {}},
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": False,
    },
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b", None]},
            "at": {"type": "string", "format": "date-time"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 2, "uniqueItems": True},
            "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
            "maybe": {"type": ["number", "null"], "multipleOf": 0.5},
        },
        "$defs": {"item": {"type": "object", "properties": {"id": {"type": "string", "maxLength": 9}}}},
    },
)
ANSWER: Final[JsonObject] = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 10}, "why": {"type": "string"}},
    "required": ["score", "why"],
    "additionalProperties": False,
}
ARGUMENTS: Final = ('{"city":"Paris"}', "{}", "", '{"a": [1, {"b": null}], "ü": "✓"}', '{"city": "München", "days": 3}')
DETAILS: Final[tuple[list[JsonObject], ...]] = (
    [{"type": "reasoning.text", "text": "So.", "signature": SIGNATURE, "format": "anthropic-claude-v1", "index": 0}],
    [{"type": "reasoning.encrypted", "data": SIGNATURE, "format": "anthropic-claude-v1", "index": 0}],
    [{"type": "reasoning.text", "text": "Hm.", "format": "google-gemini-v1", "index": 0}],
    [{"type": "reasoning.encrypted", "data": SIGNATURE, "format": "google-gemini-v1", "id": "call_0_0", "index": 1}],
    [{"type": "reasoning.summary", "summary": "Short.", "format": "openai-responses-v1", "index": 0, "id": "rs_1"},
     {"type": "reasoning.encrypted", "data": SIGNATURE, "format": "openai-responses-v1", "index": 1, "id": "rs_1"}],
    [{"type": "reasoning.summary", "summary": "Other.", "format": "xai-responses-v1", "index": 0}],
)  # fmt: skip
CACHE: Final[tuple[JsonObject, ...]] = ({"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"})

Draw = Callable[..., Any]


def once_in(number: int) -> st.SearchStrategy[bool]:
    """Say yes once in so many times."""
    return st.sampled_from([True] + [False] * (number - 1))


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Choose one of these values."""
    return st.sampled_from(values)


texts = one_of(*TEXTS) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
images = one_of(
    {"url": f"data:image/png;base64,{PNG}"},
    {"url": f"data:image/jpeg;base64,{PNG}", "detail": "high"},
    {"url": "https://images.example/cat.png", "detail": "auto"},
)
FILES: Final = (
    {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
    {"filename": "notes.txt", "file_data": f"data:text/plain;base64,{base64.b64encode('Grüße'.encode()).decode()}"},
)


@st.composite
def text_parts(draw: Draw) -> JsonObject:
    """Make a text part, now and then with a cache breakpoint."""
    part: JsonObject = {"type": "text", "text": draw(texts)}
    return part | {"cache_control": draw(one_of(*CACHE))} if draw(once_in(5)) else part


@st.composite
def user_contents(draw: Draw) -> Any:
    """Make what a user says: a text, or parts with at least one text."""
    if draw(once_in(2)):
        return draw(one_of(*EMPTY)) if draw(once_in(12)) else draw(texts)
    parts = [draw(text_parts())]
    for _ in range(draw(st.integers(0, 2))):
        image = images.map(lambda url: {"type": "image_url", "image_url": url})
        file = one_of(*FILES).map(lambda file: {"type": "file", "file": file})
        parts.append(draw(image | file | text_parts()))
    if draw(once_in(15)):
        parts.append({"type": "input_audio", "input_audio": {"data": WAV, "format": draw(one_of("wav", "mp3"))}})
    return draw(st.permutations(parts))


@st.composite
def systems(draw: Draw) -> JsonObject:
    """Make a message that instructs."""
    content = draw(texts) if draw(once_in(2)) else draw(st.lists(text_parts(), min_size=1, max_size=2))
    message = {"role": draw(one_of("system", "developer")), "content": content}
    return message | {"name": "house"} if draw(once_in(8)) else message


@st.composite
def users(draw: Draw) -> JsonObject:
    """Make a question."""
    message = {"role": "user", "content": draw(user_contents())}
    return message | {"name": "ada"} if draw(once_in(6)) else message


@st.composite
def assistants(draw: Draw) -> JsonObject:
    """Make an answer: a text, parts of text or a refusal, sometimes with the reasoning that led to it."""
    said: JsonObject = {"role": "assistant", "content": draw(texts)}
    if draw(once_in(8)):
        said["content"] = [{"type": "text", "text": draw(texts)}]
    elif draw(once_in(12)):
        said |= {"content": None, "refusal": "I cannot help with that."}
    said |= draw(thoughts())
    return said


@st.composite
def thoughts(draw: Draw) -> JsonObject:
    """Make what an assistant message keeps of its reasoning, mostly nothing."""
    if not draw(once_in(4)):
        return {}
    return {"reasoning_details": draw(one_of(*DETAILS))} | ({"reasoning": "Let me see."} if draw(once_in(2)) else {})


@st.composite
def tool_loops(draw: Draw, number: int) -> list[JsonObject]:
    """Make one round of calls with all their results, in any order."""
    names = draw(st.lists(one_of(*NAMES), min_size=1, max_size=3))
    ids = [f"call_{number}_{index}" for index, _ in enumerate(names)]
    calls = [
        {"id": call, "type": "function", "function": {"name": name, "arguments": draw(one_of(*ARGUMENTS))}}
        for call, name in zip(ids, names, strict=True)
    ]
    content = draw(st.none() | texts)
    results = [
        {"role": "tool", "tool_call_id": call, "content": draw(tool_contents())} for call in draw(st.permutations(ids))
    ]
    return [{"role": "assistant", "content": content, "tool_calls": calls} | draw(thoughts()), *results]


def tool_contents() -> st.SearchStrategy[Any]:
    """Make what a tool gives back: text, JSON, nothing at all, or parts."""
    given_back = one_of("22 degrees", '{"temperature": 22.5, "unit": "C"}', "[1, 2]", "")
    return given_back | texts | texts.map(lambda text: [{"type": "text", "text": text}])


@st.composite
def conversations(draw: Draw) -> list[JsonObject]:
    """Make the messages: instructions, turns, tool loops, and an end that asks for an answer."""
    messages: list[JsonObject] = draw(st.lists(systems(), max_size=2))
    for number in range(draw(st.integers(0, 3))):
        messages.append(draw(users()))
        if draw(once_in(2)):
            messages += draw(tool_loops(number))
        if draw(once_in(2)):
            messages.append(draw(assistants()))
        if draw(once_in(10)):
            messages.append(draw(systems()))
    if not messages or messages[-1]["role"] != "tool" or draw(once_in(2)):
        messages.append(draw(users()))
        if draw(once_in(10)):
            messages.append({"role": "assistant", "content": "The answer is"})
    return messages


@st.composite
def tools(draw: Draw, messages: list[JsonObject]) -> JsonObject:
    """Make the tools, those that were called among them, and how they may be chosen."""
    called = [call["function"]["name"] for message in messages for call in message.get("tool_calls", ())]
    if not called and not draw(once_in(3)):
        return {}
    names = list(dict.fromkeys([*called, draw(one_of(*NAMES))]))
    fields: JsonObject = {"tools": [draw(functions(name)) for name in names]}
    named = {"type": "function", "function": {"name": names[0]}}
    if draw(once_in(2)):
        fields["tool_choice"] = draw(one_of("auto", "none", "required", named))
    if draw(once_in(4)):
        fields["parallel_tool_calls"] = draw(st.booleans())
    return fields


@st.composite
def functions(draw: Draw, name: str) -> JsonObject:
    """Make one tool."""
    function: JsonObject = {"name": name}
    parameters = draw(one_of(*SCHEMAS))
    if parameters is not None:
        function["parameters"] = parameters
    if draw(once_in(2)):
        function["description"] = draw(texts)
    if draw(once_in(5)):
        function["strict"] = draw(st.booleans())
    return {"type": "function", "function": function}


FORMATS: Final[tuple[JsonObject, ...]] = (
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "verdict", "schema": ANSWER, "strict": True}},
    {"type": "json_schema", "json_schema": {"name": "tree", "schema": SCHEMAS[4]}},
)
OPTIONS: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "temperature": one_of(0, 0.3, 1, 1.7, 2),
    "top_p": one_of(0.1, 0.95, 1),
    "frequency_penalty": one_of(-2, 0.5, 0),
    "presence_penalty": one_of(2, -0.5),
    "seed": one_of(0, 7, 2**31 - 1),
    "stop": one_of("END", ["\n\n", "STOP"], ["a", "b", "c", "d"], [" "]),
    "n": one_of(1, 2),
    "logit_bias": one_of({}, {"50256": -100}),
    "user": one_of("user-17", "ada@mail.example"),
    "max_tokens": one_of(1, 64, 4096),
    "max_completion_tokens": one_of(16, 2048, 32_000),
    "response_format": one_of(*FORMATS),
    "stream": st.booleans(),
    "service_tier": one_of("auto", "default", "flex"),
    "metadata": one_of({"team": "blue"}),
    "prediction": one_of({"type": "content", "content": "The answer"}),
    "prompt_cache_key": one_of("chat-1"),
}
REASONING: Final = (
    {"reasoning_effort": "low"},
    {"reasoning_effort": "high"},
    {"reasoning": {"effort": "medium"}},
    {"reasoning": {"effort": "xhigh", "exclude": True}},
    {"reasoning": {"effort": "none"}},
    {"reasoning": {"max_tokens": 2000}},
    {"reasoning": {"enabled": True}},
)
OPENROUTER: Final = (
    {"top_k": 40},
    {"min_p": 0.05, "repetition_penalty": 1.1},
    {"provider": {"order": ["anthropic"], "allow_fallbacks": False, "data_collection": "deny"}},
    {"plugins": [{"id": "response-healing"}]},
    {"transforms": ["middle-out"]},
    {"usage": {"include": True}},
    {"session_id": "s-1"},
)


@st.composite
def requests(draw: Draw) -> JsonObject:
    """Make one chat request."""
    messages = draw(conversations())
    body: JsonObject = {"model": "some/model", "messages": messages} | draw(tools(messages))
    for name, values in OPTIONS.items():
        if draw(once_in(6)):
            body[name] = draw(values)
    if draw(once_in(3)):
        body |= draw(one_of(*REASONING))
    if draw(once_in(8)):
        body |= draw(one_of(*OPENROUTER))
    if draw(once_in(12)):
        body |= {"logprobs": True, "top_logprobs": 3}
    if body.get("stream") and draw(once_in(2)):
        body["stream_options"] = {"include_usage": draw(st.booleans())}
    return body


def make_corpus(size: int = SIZE) -> list[JsonObject]:
    """Give that many different requests, the same ones every time."""
    made: dict[str, JsonObject] = {}

    @seed(SEED)
    @settings(
        max_examples=2 * size,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def collect(body: JsonObject) -> None:
        made.setdefault(json.dumps(body, sort_keys=True), body)

    collect()
    # The first ones hypothesis makes are its smallest.
    return list(made.values())[-size:]


def traits(body: JsonObject) -> set[str]:
    """Tell what a request shows: its fields, its roles, the members and kinds of its messages and parts."""
    found = set(body)
    for message in body["messages"]:
        found |= {message["role"], *(f"{message['role']}.{name}" for name in message)}
        found |= {f"{len(message['tool_calls'])} calls"} if message.get("tool_calls") else set()
        parts = message["content"] if isinstance(message.get("content"), list) else []
        found |= {mark for part in parts for mark in (part["type"], *part)}
        found |= {detail["format"] for detail in message.get("reasoning_details", ())}
    ends = {"assistant": "prefill", "tool": "results at the end"}
    return found | {ends.get(body["messages"][-1]["role"], "question at the end")}
