"""A request's body at the door: what is refused, with which words, and that nothing else ever comes of it."""

from __future__ import annotations

import codecs
import threading
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge import body as door
from proxy.edge.body import (
    BODY_BYTES_MAX,
    CHOICES_MAX,
    DEPTH_MAX,
    FOREIGN_FIELDS,
    MESSAGES_MAX,
    MODEL_CHARS_MAX,
    OFF_LOOP_BRACKETS,
    OFF_LOOP_BYTES,
    ROUTED_FIELDS,
    TOKENS_MAX,
    ClientLeft,
    parse_body,
    parse_chat,
    read_body,
)
from proxy.errors import ClientError, InvalidJson, PayloadTooLarge, UnknownParameter, UnsupportedMediaType

MESSAGES = b'"messages":[{"role":"user","content":"Hi"}]'
BODY = b'{"model":"chat",%s}' % MESSAGES
Event = dict[str, Any]


def with_field(field: bytes) -> bytes:
    """Write a good body with one more field."""
    return b'{"model":"chat",%s,%s}' % (MESSAGES, field)


def refusal(data: bytes) -> ClientError:
    """Parse a body that is refused, and give the refusal."""
    with pytest.raises(ClientError) as caught:
        parse_chat(data)
    error = caught.value
    assert error.status == 400
    assert error.type == "invalid_request_error"
    assert error.should_retry is False
    return error


# What is no JSON object (S16).


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"[{}]",
        b"{",
        b"model=chat",
        BODY + b"x",
        BODY + b"{}",
        BODY[:-1],
        BODY.replace(b'"', b"'"),
        codecs.BOM_UTF8 + BODY,
        BODY.decode().encode("utf-16"),
        BODY.decode().encode("utf-16-le"),
        BODY.decode().encode("utf-32"),
        BODY.replace(b"Hi", b"\xff"),
        BODY.replace(b"Hi", b"\xed\xa0\x80"),
        BODY.replace(b"Hi", b"\\ud800"),
        BODY.replace(b"Hi", b"\\udc00\\ud800"),
        BODY.replace(b"Hi", b"\x00"),
        BODY.replace(b"Hi", b"a\nb"),
        with_field(b'"x":NaN'),
        with_field(b'"x":Infinity'),
        with_field(b'"x":-Infinity'),
        with_field(b'"x":1e999'),
        with_field(b'"x":' + b"9" * 5_000),
        with_field(b'"x":01'),
        with_field(b'"x":.5'),
        with_field(b'"x":+5'),
        with_field(b'"x":0x5'),
        with_field(b'"x":1,'),
        with_field(b'"x":[1,]'),
        with_field(b"x:1"),
        with_field(b'"x":1 // why'),
        with_field(b'"x":' + b"[" * 100_000 + b"]" * 100_000),
        with_field(b'"x":' + b"[" * 100_000),
        with_field(b'"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda data: f"{data[:40]!r}-{len(data)}",
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    """Strict JSON in UTF-8 and nothing beside it: a lenient reader upstream might see something else."""
    error = refusal(data)
    assert isinstance(error, InvalidJson)
    assert (error.code, error.param) == ("invalid_json", None)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_has_an_end(opening: bytes) -> None:
    """As deep as the limit is fine, and can be written again; one level more is not."""
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    levels = DEPTH_MAX - 1
    good = parse_chat(with_field(b'"x":' + opening * levels + b"1" + closing * levels))
    assert orjson.loads(orjson.dumps(good)) == good
    error = refusal(with_field(b'"x":' + opening * (levels + 1) + b"1" + closing * (levels + 1)))
    assert str(DEPTH_MAX) in error.message


def test_what_is_wide_is_not_deep() -> None:
    """Many messages, tools and parts are an ordinary request; so are a great many keys."""
    assert parse_chat(with_field(b'"x":[' + b"[[]]," * 10_000 + b"{}]"))
    assert parse_chat(with_field(b",".join(b'"k%d":%d' % (key, key) for key in range(100_000))))


# What passes.


@pytest.mark.parametrize(
    "field",
    [
        b'"x":null',
        b'"x":"\\u0000"',
        b'"x":"\\ud83d\\ude00"',
        b'"x":18446744073709551615',
        b'"x":-9223372036854775808',
        b'"x":1e308',
        b'"":1',
        b'"model ":"other"',
        b'"Model":"other"',
        b'"x":{"model":1,"messages":2,"api_key":"k"},"y":[{"stream":1},{"stream":2}]',
        b'"x":"\\"model\\":\\"a\\",\\"model\\":\\"b\\""',
        b'"tools":[{"n":1},{"n":2}],"\\u0078":1',
        b'"x":"caf\\u00e9 \\u0065"',
        b'"temperature":5,"user":7,"stop":{}',
        b'"stream":null,"stream_options":null,"max_tokens":null,"max_completion_tokens":null,"n":null',
        b'"stream":true,"stream_options":{"include_usage":true}',
        b'"stream":false',
        b'"max_tokens":1,"max_completion_tokens":%d,"n":1' % TOKENS_MAX,
        b'"n":%d' % CHOICES_MAX,
        b'"models":["a"],"plugins":[{"id":"web"}],"route":"fallback"',
    ],
)
def test_everything_else_passes_as_it_is(field: bytes) -> None:
    """Unknown fields, odd values of fields we do not read, names that only look like ours."""
    data = with_field(field)
    assert parse_chat(data) == orjson.loads(data)


def test_a_model_may_be_left_out() -> None:
    """The key's default may name one; so may null."""
    assert parse_chat(b"{%s}" % MESSAGES)
    assert parse_chat(b'{"model":null,%s}' % MESSAGES)
    assert parse_chat(BODY.replace(b"chat", b"x" * MODEL_CHARS_MAX))


# Fields we read.

WHOLE = ("true", '"1"', "1.5", "1.0", "-1", "0", "1e18", "1000000000000000000", "[1]", "{}", str(10**30))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_tokens", value) for value in (*WHOLE, "false", str(TOKENS_MAX + 1))),
        *(("max_completion_tokens", value) for value in (*WHOLE, str(TOKENS_MAX + 1))),
        *(("n", value) for value in (*WHOLE, str(CHOICES_MAX + 1))),
        *(("stream", value) for value in ('"true"', "1", "0", "[]", "{}")),
        *(("stream_options", value) for value in ("true", "[]", '"x"', "1")),
        *(("model", value) for value in ('""', "5", "true", '["chat"]', "{}", f'"{"x" * (MODEL_CHARS_MAX + 1)}"')),
        *(("messages", value) for value in ("null", "[]", "{}", '"Hi"', '["Hi"]', "[null]", '[{"role":"user"},5]')),
    ],
    ids=lambda value: value[:30],
)
def test_a_routed_field_is_what_it_should_be(name: str, value: str) -> None:
    """400 `invalid_value` with the field's name: what we decide on is never guessed."""
    fields = {"model": '"chat"', "messages": '[{"role":"user"}]', name: value}
    error = refusal(b"{%s}" % ",".join(f'"{key}":{text}' for key, text in fields.items()).encode())
    assert (error.code, error.param) == ("invalid_value", name)
    assert f"`{name}`" in error.message


def test_messages_are_needed_and_have_an_end() -> None:
    """At least one; so many and no more."""
    assert refusal(b'{"model":"chat"}').param == "messages"
    assert parse_chat(b'{"messages":[%s]}' % b",".join([b"{}"] * MESSAGES_MAX))
    error = refusal(b'{"messages":[%s]}' % b",".join([b"{}"] * (MESSAGES_MAX + 1)))
    assert error.param == "messages"
    assert "10,001" in error.message


@pytest.mark.parametrize("name", sorted(FOREIGN_FIELDS))
@pytest.mark.parametrize("value", [b"null", b'"http://169.254.169.254/"', b"{}"])
def test_nobody_chooses_our_upstream_or_its_credential(name: str, value: bytes) -> None:
    """Fields with which other gateways let a client do so are refused by name, whatever they hold (S8)."""
    error = refusal(with_field(b'"%s":%s' % (name.encode(), value)))
    assert isinstance(error, UnknownParameter)
    assert (error.code, error.param) == ("unknown_parameter", name)
    assert "169.254" not in error.message


def test_the_foreign_fields_are_those_of_the_design() -> None:
    """design.md section 4."""
    assert set(FOREIGN_FIELDS) == {
        "api_base",
        "base_url",
        "api_key",
        "custom_llm_provider",
        "extra_headers",
        "extra_query",
    }


# Fields that stand twice.


@pytest.mark.parametrize("name", ROUTED_FIELDS)
@pytest.mark.parametrize("spelling", ["{}", "{} ", " {}\n\t\r"])
def test_a_routed_field_stands_once(name: str, spelling: str) -> None:
    """Readers differ in which of two they take: what was checked would not be what is read."""
    once = {"model": b'"model":"chat"', "messages": MESSAGES}
    first = once.pop(name, b'"%s":null' % name.encode())
    second = spelling.format(f'"{name}"').encode() + b':"other"'
    for fields in ([first, second], [second, first]):
        error = refusal(b"{" + b",".join([*fields, *once.values()]) + b"}")
        assert (error.code, error.param) == ("invalid_value", name)
        assert "more than once" in error.message


@pytest.mark.parametrize("hidden", [rb"mod\u0065l", rb"\u006dodel", rb"\u006D\u006F\u0064\u0065\u006C"])
def test_a_name_hidden_by_escapes_is_the_same_name(hidden: bytes) -> None:
    """JSON has more than one way to write a letter."""
    for first, second in ((b"model", hidden), (hidden, b"model")):
        error = refusal(b'{"%s":"a","%s":"b",%s}' % (first, second, MESSAGES))
        assert error.param == "model"
    assert parse_chat(b'{"%s":"a",%s}' % (hidden, MESSAGES))["model"] == "a"
    assert refusal(rb'{"model":"a","max\u005ftokens":1,"max_tokens":2,' + MESSAGES + b"}").param == "max_tokens"


def test_a_field_may_stand_twice_where_it_is_not_ours() -> None:
    """Inside messages and tools the same name is another field; a repeated unknown field is the client's affair."""
    assert parse_chat(with_field(b'"x":{"model":1},"y":{"model":2},"z":1,"z":2'))
    assert parse_chat(with_field(b'"x":[{"model":1,"model":2}]'))


# Whatever comes in.

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
fields = st.dictionaries(
    st.sampled_from([*ROUTED_FIELDS, *FOREIGN_FIELDS, "x"]), values | st.just([{"role": "user"}]), max_size=6
)


@given(fields)
def test_any_json_is_taken_or_refused(sent: dict[str, Any]) -> None:
    """Never another exception; what is taken can be written upstream and is what was sent."""
    data = orjson.dumps(sent) if fits(sent) else b"!"
    with suppress(ClientError):
        taken = parse_chat(data)
        assert orjson.loads(orjson.dumps(taken)) == orjson.loads(data)
        assert taken["messages"]


def fits(value: object) -> bool:
    """Tell whether orjson can write it: its whole numbers end at 64 bits."""
    if isinstance(value, dict | list):
        return all(fits(member) for member in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused_or_taken(data: bytes) -> None:
    """Rubbish is a client's error, never ours."""
    with suppress(ClientError):
        parse_chat(data)


@given(st.binary(max_size=30), st.integers(min_value=0, max_value=len(BODY)))
def test_a_good_body_spoilt_anywhere_is_refused_or_taken(rubbish: bytes, place: int) -> None:
    """Rubbish inside an otherwise good body too."""
    with suppress(ClientError):
        parse_chat(BODY[:place] + rubbish + BODY[place:])


# Reading (S15).


class Wire:
    """What a client sends, as ASGI tells it; counts what was taken of it."""

    def __init__(self, *events: Event, then: Event | None = None) -> None:
        """Send these, then the last one for ever."""
        self.events = list(events)
        self.then = then
        self.taken = 0

    async def receive(self) -> Event:
        """Give the next event."""
        self.taken += 1
        if self.events:
            return self.events.pop(0)
        assert self.then is not None, "more was asked for than was sent"
        return self.then


def part(data: bytes, *, more: bool = True) -> Event:
    """Make a piece of a body."""
    return {"type": "http.request", "body": data, "more_body": more}


LEFT: Event = {"type": "http.disconnect"}
PIECE = b"x" * (1 << 16)


@pytest.mark.parametrize(
    ("events", "data"),
    [
        ([part(b"abc", more=False)], b"abc"),
        ([part(b"a"), part(b"b"), part(b"c", more=False)], b"abc"),
        ([part(b"abc"), part(b"", more=False)], b"abc"),
        ([part(b"abc"), {"type": "http.request"}], b"abc"),
        ([part(b""), part(b"abc", more=False)], b"abc"),
        ([{"type": "http.request"}], b""),
        ([part(PIECE)] * (BODY_BYTES_MAX // len(PIECE) - 1) + [part(PIECE, more=False)], b"x" * BODY_BYTES_MAX),
    ],
    ids=lambda value: f"{len(value)}",
)
async def test_a_body_is_read_to_its_end(events: list[Event], data: bytes) -> None:
    """In one piece or many, up to the limit and not a byte further."""
    wire = Wire(*events)
    assert await read_body([], wire.receive) == data
    assert wire.taken == len(events)


@pytest.mark.parametrize("events", [[], [part(b"abc")], [part(b"abc"), part(b"def")]])
async def test_a_client_that_leaves_while_sending_is_noticed(events: list[Event]) -> None:
    """Half a body is no body."""
    with pytest.raises(ClientLeft):
        await read_body([], Wire(*events, LEFT).receive)


async def test_an_endless_body_is_cut_off_at_the_limit() -> None:
    """413 as soon as the limit is passed: memory is bounded by it."""
    wire = Wire(then=part(PIECE))
    with pytest.raises(PayloadTooLarge, match="20 MiB") as caught:
        await read_body([], wire.receive)
    assert (caught.value.status, caught.value.code) == (413, "payload_too_large")
    assert wire.taken == BODY_BYTES_MAX // len(PIECE) + 1


@pytest.mark.parametrize("more", [False, True])
async def test_a_body_one_byte_too_long_is_refused(more: bool) -> None:
    """However it comes."""
    with pytest.raises(PayloadTooLarge):
        await read_body([], Wire(part(b"x" * (BODY_BYTES_MAX + 1), more=more)).receive)


@pytest.mark.parametrize("length", [str(BODY_BYTES_MAX + 1), "9" * 19, "9" * 5_000])
async def test_a_length_too_great_is_refused_before_reading(length: str) -> None:
    """Nobody uploads 21 MiB to be told so."""
    wire = Wire()
    with pytest.raises(PayloadTooLarge):
        await read_body([(b"content-length", length.encode())], wire.receive)
    assert wire.taken == 0


@pytest.mark.parametrize("length", ["0", "5", str(BODY_BYTES_MAX), "0" * 30 + "5", "+5", "-1", "x", ""])
async def test_other_lengths_are_the_server_s_affair(length: str) -> None:
    """What is no number is refused by the connection, and what lies is bounded while it is read."""
    assert await read_body([(b"content-length", length.encode())], Wire(part(b"abc", more=False)).receive) == b"abc"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (b"content-type", value)
            for value in (
                b"text/plain",
                b"application/x-www-form-urlencoded",
                b"multipart/form-data; boundary=" + b"x" * 1_000_000,
                b"application/jsonx",
                b"application/octet-stream",
                b"json",
                b"",
                b";application/json",
            )
        ),
        *((b"content-encoding", value) for value in (b"gzip", b"br", b"deflate", b"zstd", b"identity, gzip", b"GZIP")),
    ],
    ids=lambda value: value[:40].decode(),
)
async def test_what_is_not_plain_json_is_refused_before_reading(name: bytes, value: bytes) -> None:
    """415: another kind of body, or a compressed one that could be a bomb."""
    wire = Wire()
    with pytest.raises(UnsupportedMediaType) as caught:
        await read_body([(name, value)], wire.receive)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    assert wire.taken == 0


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"application/json")],
        [(b"content-type", b"Application/JSON; charset=utf-8")],
        [(b"content-type", b" application/json ;x=y")],
        [(b"content-type", b"text/json")],
        [(b"content-type", b"application/vnd.api+json")],
        [(b"content-encoding", b"identity")],
        [(b"content-encoding", b" ")],
        [(b"accept-encoding", b"gzip"), (b"accept", b"text/plain")],
    ],
)
async def test_plain_json_is_read(headers: list[tuple[bytes, bytes]]) -> None:
    """However its type is spelled, or left out; other headers do not matter here."""
    assert await read_body(headers, Wire(part(BODY, more=False)).receive) == BODY


async def test_one_good_header_does_not_excuse_a_bad_one() -> None:
    """A header that stands twice is held to its worst."""
    headers = [(b"content-type", b"application/json"), (b"content-type", b"text/plain")]
    with pytest.raises(UnsupportedMediaType):
        await read_body(headers, Wire().receive)


@pytest.mark.parametrize(("length", "is_off_loop"), [(OFF_LOOP_BYTES, False), (OFF_LOOP_BYTES + 1, True)])
async def test_a_long_body_is_parsed_in_a_thread(
    length: int, is_off_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing megabytes on the event loop would make every other request wait."""
    threads = []

    def parse(data: bytes) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return parse_chat(data)

    monkeypatch.setattr(door, "parse_chat", parse)
    data = BODY.replace(b"Hi", b"x" * (length - len(BODY) + 2))
    assert len(data) == length
    assert await parse_body(data) == orjson.loads(data)
    assert [thread is not threading.main_thread() for thread in threads] == [is_off_loop]


@pytest.mark.parametrize(("brackets", "is_off_loop"), [(OFF_LOOP_BRACKETS, False), (OFF_LOOP_BRACKETS + 1, True)])
async def test_a_body_of_many_small_lists_is_parsed_in_a_thread(
    brackets: int, is_off_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of them takes as long as fifty megabytes of text."""
    threads = []

    def parse(data: bytes) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return parse_chat(data)

    monkeypatch.setattr(door, "parse_chat", parse)
    lists = brackets - BODY.count(b"{") - BODY.count(b"[") - 1
    await parse_body(with_field(b'"x":[' + b",".join([b"[]"] * lists) + b"]"))
    assert [thread is not threading.main_thread() for thread in threads] == [is_off_loop]


async def test_a_long_body_is_refused_like_a_short_one() -> None:
    """The error comes out of the thread as it is."""
    with pytest.raises(InvalidJson):
        await parse_body(b"[" * (OFF_LOOP_BYTES + 1))
