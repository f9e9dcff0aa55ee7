"""What a refusal means: tables of (status, headers, body) to kind, message and wait, and bodies nobody foresees."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.failures import (
    NESTING_MAX,
    RETRY_AFTER_S_MAX,
    TAG_CHARS_MAX,
    failure_inside,
    find_fault,
    read_failure,
    read_retry_after,
)
from proxy.errors import Failure, FailureKind

K = FailureKind
DATE = "Fri, 20 Nov 2026 13:00:00 GMT"


def read(status: int, error: object, headers: dict[str, str] | None = None) -> Failure:
    """Read a refusal with this `error` member."""
    return read_failure(status, headers or {}, orjson.dumps({"error": error, "user_id": "user_2aBcDeFgHiJk"}))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, K.INVALID_REPLY),
        (399, K.INVALID_REPLY),
        (400, K.BAD_REQUEST),
        (401, K.CREDENTIALS),
        (402, K.CREDITS),
        (403, K.CREDENTIALS),
        (404, K.NOT_FOUND),
        (405, K.SERVER_ERROR),
        (408, K.TIMEOUT),
        (409, K.SERVER_ERROR),
        (410, K.NOT_FOUND),
        (412, K.SERVER_ERROR),
        (413, K.BAD_REQUEST),
        (422, K.BAD_REQUEST),
        (429, K.RATE_LIMITED),
        (500, K.SERVER_ERROR),
        (502, K.SERVER_ERROR),
        (503, K.SERVER_ERROR),
        (504, K.TIMEOUT),
        (520, K.SERVER_ERROR),
        (521, K.SERVER_ERROR),
        (522, K.SERVER_ERROR),
        (523, K.SERVER_ERROR),
        (524, K.TIMEOUT),
        (529, K.SERVER_ERROR),
        (599, K.SERVER_ERROR),
    ],
)
def test_the_status_comes_first(status: int, kind: FailureKind) -> None:
    """Without a body that says more, each status has one meaning (openrouter.md 3.4)."""
    failure = read_failure(status, {}, b"")
    assert failure == Failure(kind, f"The provider answered with status {status}.", status=status)


# Rows of openrouter.md 3.4, 4.4 and 8.6, and of reliability.md R43.
ROWS: list[tuple[int, dict[str, Any], FailureKind]] = [
    (400, {"code": "context_length_exceeded", "message": "m"}, K.CONTEXT_LENGTH),
    (400, {"code": 400, "message": "m", "metadata": {"error_type": "context_length_exceeded"}}, K.CONTEXT_LENGTH),
    (400, {"code": 400, "message": "m", "error_type": "token_limit_exceeded"}, K.CONTEXT_LENGTH),
    (400, {"code": "string_too_long", "message": "m"}, K.CONTEXT_LENGTH),
    (400, {"code": "max_tokens_exceeded", "message": "m"}, K.CONTEXT_LENGTH),
    (413, {"code": "context_length_exceeded", "message": "m"}, K.CONTEXT_LENGTH),
    (422, {"code": "context_length_exceeded", "message": "m"}, K.CONTEXT_LENGTH),
    (400, {"message": "This model's maximum context length is 8192 tokens."}, K.CONTEXT_LENGTH),
    (400, {"message": "This endpoint's MAXIMUM CONTEXT LENGTH is 8192 tokens."}, K.CONTEXT_LENGTH),
    (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, K.CONTEXT_LENGTH),
    (400, {"message": "Input is too long for requested model."}, K.CONTEXT_LENGTH),
    (400, {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}, K.CONTEXT_LENGTH),
    (400, {"message": "The request exceeds the available context size"}, K.CONTEXT_LENGTH),
    (400, {"message": "too many input tokens"}, K.CONTEXT_LENGTH),
    (413, {"message": "Please reduce the length of the messages."}, K.CONTEXT_LENGTH),
    (422, {"message": "Please reduce the length of the messages."}, K.BAD_REQUEST),
    (400, {"message": "Provider returned error", "metadata": {"raw": "the context window is full"}}, K.CONTEXT_LENGTH),
    (400, {"message": "max_tokens is too large: 99. This model supports at most 16 completion tokens"}, K.BAD_REQUEST),
    (400, {"message": "'temperature' does not support 0.2", "code": "unsupported_value"}, K.BAD_REQUEST),
    (400, {"message": "flagged", "code": "content_policy_violation"}, K.BAD_REQUEST),
    (400, {"message": "no", "code": "model_not_found"}, K.NOT_FOUND),
    (400, {"message": "no", "availability": {"code": "model_not_found", "retryable": False}}, K.NOT_FOUND),
    (400, {"message": "acme/none is not a valid model ID", "code": 400}, K.NOT_FOUND),
    (422, {"message": "no", "code": "model_not_found"}, K.BAD_REQUEST),
    (400, {"message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}, K.CREDENTIALS),
    (400, {"message": "Bad.", "details": [{"reason": "FIELD"}, "x", {}]}, K.BAD_REQUEST),
    (400, {"message": "Bad.", "details": {"reason": "API_KEY_INVALID"}}, K.BAD_REQUEST),
    (401, {"message": "User not found.", "code": 401}, K.CREDENTIALS),
    (402, {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}, K.CREDITS),
    (402, {"message": "m", "metadata": {"limit_source": "openrouter_key_limit"}}, K.CREDITS),
    (402, {"message": "m", "metadata": {"limit_source": "openrouter_credits"}}, K.CREDITS),
    (402, {"message": "m", "metadata": {"limit_source": "openrouter_in_flight_budget"}}, K.RATE_LIMITED),
    (402, {"message": "m", "metadata": {"limit_source": ["openrouter_in_flight_budget"]}}, K.CREDITS),
    (403, {"message": "m", "metadata": {"reasons": ["violence"], "flagged_input": "x"}}, K.CONTENT_POLICY),
    (403, {"message": "m", "metadata": {"error_type": "content_policy_violation"}}, K.CONTENT_POLICY),
    (403, {"message": "m", "code": "content_filter"}, K.CONTENT_POLICY),
    (403, {"message": "m", "error_type": "refusal"}, K.CONTENT_POLICY),
    (403, {"message": "m", "metadata": {"reasons": []}}, K.CREDENTIALS),
    (403, {"message": "Key limit exceeded (total limit)."}, K.CREDITS),
    (403, {"message": "The workspace has passed its monthly budget."}, K.CREDITS),
    (403, {"message": "Insufficient balance"}, K.CREDITS),
    (403, {"message": "Country not supported", "code": "unsupported_country"}, K.CREDENTIALS),
    (404, {"message": "No endpoints found that support tool use."}, K.NOT_FOUND),
    (404, {"message": "no such context window"}, K.NOT_FOUND),
    (429, {"message": "Rate limit exceeded: free-models-per-day.", "code": 429}, K.RATE_LIMITED),
    (429, {"message": "You exceeded your current quota.", "type": "insufficient_quota"}, K.CREDITS),
    (429, {"message": "You exceeded your current quota.", "code": "insufficient_quota"}, K.CREDITS),
    (500, {"message": "Internal Server Error", "code": 500}, K.SERVER_ERROR),
    (503, {"message": "m", "metadata": {"reasons": ["violence"]}}, K.SERVER_ERROR),
    (504, {"message": "m", "metadata": {"error_type": "timeout"}}, K.TIMEOUT),
]


@pytest.mark.parametrize(("status", "error", "kind"), ROWS)
def test_each_row_has_its_kind(status: int, error: dict[str, Any], kind: FailureKind) -> None:
    """Structured codes say more than the status, words only where vendors give nothing better."""
    failure = read(status, error)
    assert (failure.kind, failure.status) == (kind, status)
    assert failure.message.startswith(error["message"])
    assert not failure.may_have_cost


@pytest.mark.parametrize(
    "raw",
    [
        "Overloaded, try later",
        '{"error": {"message": "Overloaded, try later", "type": "x"}}',
        '{"message": "Overloaded, try later"}',
        '{"error": "Overloaded, try later"}',
        '[{"error": {"message": "Overloaded, try later"}}]',
        '"Overloaded, try later"',
        {"error": {"message": "Overloaded, try later"}},
        {"message": "Overloaded, try later"},
        {"error": "Overloaded, try later"},
        [{"error": {"message": "Overloaded, try later"}}],
        {"error": {"message": "Provider returned error", "metadata": {"raw": "Overloaded, try later"}}},
    ],
)
def test_the_provider_s_own_words_are_unwrapped(raw: object) -> None:
    """`metadata.raw` is text, text that holds JSON, or an object; what stands inside is what helps."""
    failure = read(502, {"message": "Provider returned error", "code": 502, "metadata": {"raw": raw}})
    assert failure.message == "Provider returned error: Overloaded, try later"
    assert read(502, {"metadata": {"raw": raw}}).message == "Overloaded, try later"


@pytest.mark.parametrize("raw", ["429", "null", "[]", "{}", 5, None, [], {}, [3], {"error": 7}, {"error": []}, True])
def test_raw_that_says_nothing_adds_nothing_but_itself(raw: object) -> None:
    """Odd values break nothing; text that is no message is shown as it is."""
    shown = f"m: {raw}" if isinstance(raw, str) and raw != "{}" else "m"
    assert read(502, {"message": "m", "metadata": {"raw": raw}}).message == shown


def test_words_said_twice_are_shown_once() -> None:
    """An outer message that already holds the inner one is enough."""
    assert read(502, {"message": "It broke: boom", "metadata": {"raw": "boom"}}).message == "It broke: boom"


def test_unwrapping_ends() -> None:
    """An error wrapped too often is read down to a named depth."""
    error: dict[str, Any] = {"message": "level 0"}
    for level in range(1, NESTING_MAX + 3):
        error = {"message": f"level {level}", "metadata": {"raw": {"error": error}}}
    top = NESTING_MAX + 2
    assert read(502, error).message == f"level {top}: level {top - NESTING_MAX}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "boom"}}', "boom"),
        (b'{"error": "boom"}', "boom"),
        (b'{"error": "Bad Request", "message": "boom"}', "boom"),
        (b'{"error": "boom", "message": ""}', "boom"),
        (b'{"error": null, "message": "boom"}', "boom"),
        (b'{"message": "boom", "object": "error"}', "boom"),
        (b'[{"error": {"message": "boom"}}]', "boom"),
        (b'[{"message": "boom"}, {"message": "bang"}]', "boom"),
        (b'{"error": {"message": ["boom"]}}', None),
        (b'{"error": {"message": 5}}', None),
        (b'{"detail": "boom"}', "boom"),
        (b'{"detail": [{"loc": ["body"], "msg": "boom"}, 5, "bang"]}', "boom; bang"),
        (b'{"detail": {}}', None),
        (b'{"error": ["boom"]}', None),
        (b'{"error": 5}', None),
        (b'{"error": {}}', None),
        (b"{}", None),
        (b"[]", None),
        (b"[5]", None),
        (b'"boom"', None),
        (b"boom", None),
        (b"<html>nginx at 10.0.0.1</html>", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b'{"error": {"message": "\\ud800"}}', None),
    ],
)
def test_any_shape_of_body_gives_a_message(body: bytes, message: str | None) -> None:
    """The shapes seen give their message; of a page or of rubbish not a byte is quoted."""
    failure = read_failure(503, {}, body)
    assert failure.message == (message or "The provider answered with status 503.")
    assert failure.kind is K.SERVER_ERROR


def test_what_stands_beside_the_message_is_kept() -> None:
    """Code, parameter, wait and the moderation's reasons are the client's; what is not known to help is left out."""
    metadata = {
        "provider_name": "OpenAI",
        "model_slug": "openai/gpt-4o",
        "error_type": "content_policy_violation",
        "reasons": ["violence", 7],
        "flagged_input": "x" * (TAG_CHARS_MAX + 1),
        "raw": {"a": 1},
        "headers": {"X-RateLimit-Reset": "1"},
    }
    error = {"message": "m", "code": "flagged", "param": "messages[0].content", "metadata": metadata}
    assert read(403, error, {"retry-after": "7"}) == Failure(
        K.CONTENT_POLICY,
        "m",
        status=403,
        code="flagged",
        param="messages[0].content",
        retry_after_s=7,
        metadata={
            "provider_name": "OpenAI",
            "model_slug": "openai/gpt-4o",
            "error_type": "content_policy_violation",
            "reasons": ["violence", "7"],
            "flagged_input": "x" * TAG_CHARS_MAX,
        },
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "c", "error_type": "t"}, "c"),
        ({"code": 429, "error_type": "t"}, "t"),
        ({"code": 429, "metadata": {"error_type": "inner"}, "error_type": "outer"}, "inner"),
        ({"code": ""}, None),
        ({"code": ["c"]}, None),
        ({"metadata": "none"}, None),
    ],
)
def test_a_code_is_a_word(error: dict[str, Any], code: str | None) -> None:
    """A number is no code of ours: the stable `error_type` takes its place, where there is one."""
    assert read(429, error).code == code
    assert failure_inside(error).code == code


def test_nothing_of_the_operator_s_leaks_by_a_side_door() -> None:
    """Code, parameter and metadata are as foreign as the message and are scrubbed like it."""
    leak = "sk-canary1 at api.canary.example for org-canary"
    metadata = {"provider_name": leak, "model_slug": leak, "error_type": leak, "reasons": [leak], "flagged_input": leak}
    error = {"message": leak, "code": leak, "param": leak, "metadata": {**metadata, "raw": leak}}
    for failure in (read(403, error), failure_inside(error)):
        assert "canary" not in repr(failure)
    assert "canary" not in repr(failure_inside([leak]))


@pytest.mark.parametrize(
    ("value", "date", "wait_s"),
    [
        (None, None, None),
        ("0", None, 0),
        ("1", None, 1),
        (" 7 ", None, 7),
        ("1.5", None, 1.5),
        ("60", None, 60),
        ("61", None, RETRY_AFTER_S_MAX),
        ("999999999", None, RETRY_AFTER_S_MAX),
        ("1e9", None, None),
        ("-5", None, None),
        ("+5", None, None),
        ("", None, None),
        ("soon", None, None),
        ("9999999999999999999999", None, None),
        ("NaN", None, None),
        ("٧", None, None),
        ("Fri, 20 Nov 2026 13:00:09 GMT", DATE, 9),
        ("Fri, 20 Nov 2026 14:00:00 GMT", DATE, RETRY_AFTER_S_MAX),
        ("Fri, 20 Nov 2026 13:00:00 GMT", DATE, None),
        ("Fri, 20 Nov 2026 12:00:00 GMT", DATE, None),
        ("Fri, 20 Nov 2026 13:00:09 GMT", None, None),
        ("Fri, 20 Nov 2026 13:00:09 GMT", "yesterday", None),
        ("Fri, 20 Nov 2026 13:00:09 -0000", DATE, None),
        ("Fri, 20 Nov 99999999999999999999 13:00:09 GMT", DATE, None),
    ],
)
def test_retry_after_is_read_or_ignored(value: str | None, date: str | None, wait_s: float | None) -> None:
    """Seconds and dates are understood and capped, nonsense and the past are ignored (reliability.md R42)."""
    assert read_retry_after(value, date) == wait_s


@given(st.text(max_size=40), st.none() | st.text(max_size=40))
def test_no_retry_after_breaks_anything(value: str, date: str | None) -> None:
    """Whatever a header holds: nothing, or a wait within bounds."""
    wait_s = read_retry_after(value, date)
    assert wait_s is None or 0 <= wait_s <= RETRY_AFTER_S_MAX


def test_a_wait_is_read_from_the_headers() -> None:
    """Retry-After in seconds, and as a date against the reply's own clock."""
    assert read(503, {"message": "m"}, {"retry-after": "3"}).retry_after_s == 3
    dated = {"retry-after": "Fri, 20 Nov 2026 13:00:20 GMT", "date": DATE}
    assert read(429, {"message": "m"}, dated).retry_after_s == 20


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-600, 600) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "message",
    "code",
    "type",
    "param",
    "error_type",
    "http_status",
    "metadata",
    "details",
    "availability",
    "error",
)
INNER = ("raw", "reasons", "error_type", "limit_source", "provider_name", "flagged_input", "error", "message", "code")
inner = st.dictionaries(st.sampled_from(INNER), values, max_size=5)
errors = st.dictionaries(st.sampled_from(FIELDS), values | inner | st.lists(inner, max_size=2), max_size=8)


@given(st.sampled_from([200, 302, 400, 402, 403, 413, 422, 429, 500]), values | errors)
def test_no_body_breaks_the_reading(status: int, body: object) -> None:
    """Every member may be anything: the outcome is a failure that can be written as JSON, never an exception."""
    for failure in (read_failure(status, {}, orjson.dumps(body)), read(status, body), failure_inside(body)):
        assert failure.message
        orjson.dumps([failure.message, failure.code, failure.param, failure.metadata])


@given(st.sampled_from([400, 403, 429]), st.binary(max_size=40))
def test_no_bytes_break_the_reading(status: int, body: bytes) -> None:
    """The body need not be JSON at all."""
    assert read_failure(status, {}, body).message


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ({"message": "boom", "code": 429}, 429, "boom"),
        ({"message": "boom", "code": "server_error"}, 200, "boom"),
        ({"message": "boom", "http_status": 503}, 503, "boom"),
        ({"message": "boom", "code": 402, "http_status": 503}, 402, "boom"),
        ({"message": "boom", "code": 200}, 200, "boom"),
        ({"message": "boom", "code": 399}, 200, "boom"),
        ({"message": "boom", "code": 400}, 400, "boom"),
        ({"message": "boom", "code": 599}, 599, "boom"),
        ({"message": "boom", "code": 600}, 200, "boom"),
        ({"message": "boom", "code": True}, 200, "boom"),
        ("boom", 200, "boom"),
        (["boom"], 200, "['boom']"),
        (True, 200, "True"),
        ({"code": 1}, 200, "The provider reported an error instead of an answer."),
    ],
)
def test_an_error_inside_a_200_is_a_failed_answer(error: object, status: int, message: str) -> None:
    """Whatever it says of itself, another target may do better; the status it names is kept for whom it concerns."""
    assert (found := find_fault({"error": error})) is not None
    assert (found.kind, found.status, found.message) == (K.INVALID_REPLY, status, message)
    assert not found.may_have_cost


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"error": {"message": "boom"}}, "boom"),
        ({"error": {"message": "boom"}, "choices": [{"finish_reason": "stop"}]}, "boom"),
        ({"choices": [{"error": {"message": "boom"}, "finish_reason": "error"}]}, "boom"),
        ({"choices": [{"finish_reason": "stop"}, {"error": "boom"}]}, "boom"),
        ({"choices": [{"delta": {"content": "x"}, "finish_reason": "error"}]}, "ended its answer with an error"),
        ({"error": {}, "choices": [5, {"finish_reason": "error"}]}, "ended its answer with an error"),
    ],
)
def test_the_shapes_of_a_failed_200(reply: dict[str, Any], message: str) -> None:
    """An error at the top, in a choice, or only a finish reason that says so (openrouter.md 4.6)."""
    failure = find_fault(reply)
    assert failure is not None
    assert message in failure.message


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"error": None},
        {"error": ""},
        {"error": {}, "choices": []},
        {"choices": None},
        {"choices": "x"},
        {"choices": [5, None, {"finish_reason": "stop", "error": None}]},
        {"choices": [{"finish_reason": None}]},
    ],
)
def test_a_reply_without_an_error_has_no_fault(reply: dict[str, Any]) -> None:
    """Empty and null are no errors; whether there is an answer is another question."""
    assert find_fault(reply) is None
