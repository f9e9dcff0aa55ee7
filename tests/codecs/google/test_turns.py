"""Messages become turns: roles, names, results by function name, signatures back in their places, media."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError
from tests.codecs.google.calls import HI, HI_TURN, SKIP, call_of, contents, encode, encrypted

FILLER: JsonObject = {"role": "user", "parts": [{"text": "."}]}


def said(*parts: JsonObject) -> JsonObject:
    """Write a turn of the model's."""
    return {"role": "model", "parts": list(parts)}


def part_of(part: Any) -> JsonObject:
    """Give the part that one content part becomes."""
    (turn,) = contents({"role": "user", "content": [part]})
    (written,) = turn["parts"]
    assert isinstance(written, dict)
    return written


def answer(**fields: Any) -> list[JsonObject]:
    """Give the parts that an earlier answer becomes."""
    turns = contents(HI, {"role": "assistant", **fields})
    return turns[1]["parts"] if len(turns) > 1 else []


def test_system_texts_stand_apart_wherever_they_came() -> None:
    """System and developer messages are one instruction, in order, with the names of who speaks."""
    call, written = encode(
        {"role": "system", "content": "a"},
        HI,
        {"role": "developer", "name": "Ann", "content": [{"type": "text", "text": "b"}]},
    )
    assert written["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "Ann: b"}]}
    assert written["contents"] == [HI_TURN]
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "system", "content": "s"}], [FILLER]),
        ([{"role": "assistant", "content": "a"}], [FILLER, said({"text": "a"})]),
        ([HI, HI], [{"role": "user", "parts": [{"text": "Hi"}, {"text": "Hi"}]}]),
        ([HI, {"role": "assistant", "content": ""}, HI], [{"role": "user", "parts": [{"text": "Hi"}] * 2}]),
        ([HI, {"role": "assistant", "refusal": "no", "content": None}], [HI_TURN, said({"text": "no"})]),
        (
            [HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
            [HI_TURN, said({"text": "no"})],
        ),
        ([{**HI, "name": "Bob"}], [{"role": "user", "parts": [{"text": "Bob: Hi"}]}]),
        ([{"role": "user", "name": "Bob", "content": ""}, HI], [HI_TURN]),
    ],
)
def test_turns_alternate_and_the_user_begins(messages: list[JsonObject], expected: list[JsonObject]) -> None:
    """Same roles are merged, empty texts left out, and a missing first turn filled in."""
    assert contents(*messages) == expected


def test_a_name_before_a_picture_is_a_text_of_its_own() -> None:
    """Who shows it is still said."""
    image = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    (turn,) = contents({"role": "user", "name": "Bob", "content": [image]})
    assert turn["parts"][0] == {"text": "Bob: "}


def test_a_model_that_does_not_go_on_from_its_own_text_gets_the_user_s_last_word() -> None:
    """The client is told; nothing changes where the user speaks last."""
    silent = Abilities(prefill=False)
    call, written = encode(HI, {"role": "assistant", "content": "a"}, abilities=silent)
    assert (call.dropped, written["contents"][-1]) == (("messages",), FILLER)
    call, written = encode(HI, abilities=silent)
    assert (call.dropped, written["contents"]) == ((), [HI_TURN])


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "x", "cache_control": {}}, {"text": "x"}),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,QUJD", "detail": "low"}},
            {"inlineData": {"mimeType": "image/jpeg", "data": "QUJD"}},
        ),
        (
            {"type": "image_url", "image_url": "DATA:image/png;base64,QQ=="},
            {"inlineData": {"mimeType": "image/png", "data": "QQ=="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.PNG?b=c.pdf#d"}},
            {"fileData": {"fileUri": "https://x.test/a.PNG?b=c.pdf#d", "mimeType": "image/png"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://you.test/watch"}},
            {"fileData": {"fileUri": "https://you.test/watch"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "data:video/mp4;codecs=a;base64,QQ=="}},
            {"inlineData": {"mimeType": "video/mp4", "data": "QQ=="}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "QQ=="}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "data:audio/x-wav;base64,QQ=="}},
            {"inlineData": {"mimeType": "audio/wav", "data": "QQ=="}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "pcm16"}},
            {"inlineData": {"mimeType": "audio/pcm", "data": "QQ=="}},
        ),
        (
            {"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,QQ=="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}},
        ),
        (
            {"type": "file", "file": {"file_data": "http://x.test/a.pdf"}},
            {"fileData": {"fileUri": "http://x.test/a.pdf", "mimeType": "application/pdf"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.txt", "file_data": "QQ=="}},
            {"inlineData": {"mimeType": "text/plain", "data": "QQ=="}},
        ),
    ],
)
def test_content_parts(part: JsonObject, expected: JsonObject) -> None:
    """Bytes go inline under their media type, links as links."""
    assert part_of(part) == expected


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (5, "messages[0].content"),
        ([5], "messages[0].content[0]"),
        ([{"type": "x"}], "messages[0].content[0]"),
        ([{"type": ["x"]}], "messages[0].content[0]"),
        ([{"type": "text"}], "messages[0].content[0]"),
        ([{"type": "image_url"}], "messages[0].content[0].image_url"),
        ([{"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}}], "messages[0].content[0].image_url"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png,abc"}}], "messages[0].content[0].image_url"),
        ([{"type": "image_url", "image_url": {"url": "data:;base64,QQ=="}}], "messages[0].content[0].image_url"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}], "messages[0].content[0].image_url"),
        (
            [{"type": "input_audio", "input_audio": {"data": "QQ==", "format": "pcm24"}}],
            "messages[0].content[0].input_audio.format",
        ),
        ([{"type": "input_audio", "input_audio": {"format": "mp3"}}], "messages[0].content[0].input_audio.data"),
        ([{"type": "file", "file": {"file_id": "file-1"}}], "messages[0].content[0].file.file_id"),
        ([{"type": "file", "file": {}}], "messages[0].content[0].file.file_data"),
        (
            [{"type": "file", "file": {"file_data": "QQ==", "filename": "a.exe"}}],
            "messages[0].content[0].file.file_data",
        ),
    ],
)
def test_content_gemini_cannot_be_given_is_refused(content: Any, param: str) -> None:
    """Nothing of a message is dropped silently: the client is told the place."""
    with pytest.raises(ClientError) as refused:
        encode({"role": "user", "content": content})
    assert (refused.value.param, refused.value.status) == (param, 400)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([5], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": "https://x.test/a.png"}]}],
            "messages[0].content",
        ),
        ([HI, {"role": "tool", "tool_call_id": "c", "content": "x"}], "messages[1].tool_call_id"),
        ([HI, {"role": "assistant", "tool_calls": [{"id": "c"}]}], "messages[1].tool_calls[0]"),
        ([HI, {"role": "assistant", "audio": {"id": "a"}}], "messages[1].audio"),
        ([HI, {"role": "assistant", "images": [{}]}], "messages[1].images[0]"),
    ],
)
def test_messages_gemini_cannot_be_given_are_refused(messages: list[Any], param: str) -> None:
    """The client is told the place."""
    with pytest.raises(ClientError) as refused:
        encode(*messages)
    assert refused.value.param == param


def test_messages_must_be_a_list() -> None:
    """A body without them is no request."""
    with pytest.raises(ClientError) as refused:
        encode(messages=None)
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ('{"a":[1]}', {"a": [1]}),
        ("", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ("[1]", {"arguments": "[1]"}),
        ('{"a":', {"arguments": '{"a":'}),
        ('{"a":' * 150 + "1" + "}" * 150, {"arguments": '{"a":' * 150 + "1" + "}" * 150}),
    ],
)
def test_arguments_are_an_object(arguments: Any, args: JsonObject) -> None:
    """What is none, cut short or too deep is kept as text."""
    (part,) = answer(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": arguments}}])
    assert part["functionCall"] == {"id": "c", "name": "f", "args": args}


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ('{"a":1}', {"a": 1}),
        ("text", {"result": "text"}),
        ("[1]", {"result": "[1]"}),
        ("", {"result": ""}),
        ('{"a":12345678901234567890}', {"result": '{"a":12345678901234567890}'}),
        ([{"type": "text", "text": '{"a"'}, {"type": "text", "text": ":1}"}], {"a": 1}),
    ],
)
def test_results_are_objects_under_the_name_of_their_function(content: Any, response: JsonObject) -> None:
    """The name is found by the call's id; what is no object is wrapped, and no long number loses its digits."""
    turns = contents(
        HI,
        {"role": "assistant", "tool_calls": [call_of("c", "f")]},
        {"role": "tool", "tool_call_id": "c", "content": content},
    )
    assert turns[2]["parts"] == [{"functionResponse": {"id": "c", "name": "f", "response": response}}]


def test_all_results_of_a_turn_come_first_and_files_behind_them() -> None:
    """However the client ordered them; the files say whose they are."""
    image = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    turns = contents(
        HI,
        {"role": "assistant", "tool_calls": [call_of("a", "f"), call_of("b", "g")]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}, image]},
        {"role": "user", "content": "and?"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    )
    assert turns[2]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"result": "1"}}},
        {"functionResponse": {"id": "b", "name": "g", "response": {"result": "2"}}},
        {"text": "Returned by f:"},
        {"fileData": {"fileUri": "https://x.test/a.png", "mimeType": "image/png"}},
        {"text": "and?"},
    ]


def test_functions_of_the_old_form() -> None:
    """A call without an id and a result by name."""
    turns = contents(
        HI,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert turns[1:] == [
        said({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SKIP}),
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "1"}}}]},
    ]


def signatures(parts: list[JsonObject]) -> list[str | None]:
    """Give each part's signature."""
    return [part.get("thoughtSignature") for part in parts]


@pytest.mark.parametrize(
    ("details", "beside", "expected"),
    [
        ([], None, [SKIP, None]),
        ([encrypted("AA==", "a")], None, ["AA==", None]),
        ([encrypted("AA==", "b")], None, [None, "AA=="]),
        ([encrypted("AA==", "a"), encrypted("BB==", "b")], None, ["AA==", "BB=="]),
        ([], "CC==", ["CC==", None]),
        ([encrypted("AA==", "a")], "CC==", ["AA==", None]),
        ([encrypted("not base64!", "a")], None, [SKIP, None]),
        ([{**encrypted("AA==", "a"), "format": "anthropic-claude-v1"}], None, [SKIP, None]),
        ([encrypted("AA==", "gone")], None, [SKIP, None]),
        ("nonsense", None, [SKIP, None]),
    ],
)
def test_calls_are_signed_as_they_were(details: Any, beside: str | None, expected: list[str | None]) -> None:
    """By id from the details, else by what stands beside the call; without any the first skips the check."""
    extra: JsonObject = {"extra_content": {"google": {"thought_signature": beside}}} if beside else {}
    parts = answer(tool_calls=[call_of("a", **extra), call_of("b")], reasoning_details=details)
    assert signatures(parts) == expected


def test_each_step_without_signatures_skips_the_check_once() -> None:
    """Only the first call of each of the model's turns."""
    step = [
        {"role": "assistant", "tool_calls": [call_of("a"), call_of("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]
    turns = contents(HI, *step, *step)
    assert [signatures(turn["parts"]) for turn in turns if turn["role"] == "model"] == [[SKIP, None]] * 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a", [{"text": "", "thoughtSignature": "AA=="}, {"text": "a", "thoughtSignature": "BB=="}]),
        (None, [{"text": "", "thoughtSignature": "AA=="}, {"text": "", "thoughtSignature": "BB=="}]),
        (
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            [{"text": "", "thoughtSignature": "AA=="}, {"text": "a"}, {"text": "b", "thoughtSignature": "BB=="}],
        ),
    ],
)
def test_signatures_of_text(content: Any, expected: list[JsonObject]) -> None:
    """The last is the last text's; each earlier one keeps a part of its own."""
    assert answer(content=content, reasoning_details=[encrypted("AA==", None), encrypted("BB==", None)]) == expected


def test_thoughts_pictures_and_steps_of_server_tools_come_back() -> None:
    """Signed thoughts first, then what ran at Google, text, pictures, calls; unsigned thoughts stay here."""
    ours = {"format": "google-gemini-v1"}
    details = [
        {"type": "reasoning.text", "text": "summary", **ours},
        {"type": "reasoning.text", "text": "deep", "signature": "AA==", **ours},
        {
            "type": "reasoning.server_tool_call",
            "tool_name": "executableCode",
            "arguments": '{"code":"1"}',
            "id": "server_0",
            **ours,
        },
        encrypted("BB==", "server_0"),
        {
            "type": "reasoning.server_tool_call",
            "tool_name": "codeExecutionResult",
            "result": '{"output":"1"}',
            "id": "server_1",
            **ours,
        },
        {"type": "reasoning.server_tool_call", "tool_name": "functionResponse", "arguments": "{}", **ours},
        {"type": "reasoning.server_tool_call", "tool_name": "toolCall", "arguments": "{", **ours},
        {"type": "reasoning.server_tool_call", "tool_name": "toolCall", "arguments": "[]", **ours},
        {"type": "reasoning.server_tool_call", "tool_name": ["x"], "arguments": "[]", **ours},
        encrypted("CC==", "image_0"),
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}
    parts = answer(content="t", images=[image], reasoning_details=details, tool_calls=[call_of("c")])
    assert parts == [
        {"text": "deep", "thought": True, "thoughtSignature": "AA=="},
        {"executableCode": {"code": "1"}, "thoughtSignature": "BB=="},
        {"codeExecutionResult": {"output": "1"}},
        {"text": "t"},
        {"inlineData": {"mimeType": "image/png", "data": "QQ=="}, "thoughtSignature": "CC=="},
        {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": SKIP},
    ]
