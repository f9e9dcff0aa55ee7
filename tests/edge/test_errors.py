"""Every error of ours has one status, one body and one set of headers on each surface."""

from __future__ import annotations

import orjson
import pytest

from proxy.codecs.surface import error_type
from proxy.codecs.wire import Surface
from proxy.edge.errors import (
    RETRY_AFTER_S_MAX,
    error_body,
    error_headers,
    error_reply,
    error_status,
    send_reply,
    surface_of,
)
from proxy.errors import (
    ClientError,
    ContextLengthExceeded,
    InvalidJson,
    LedgerUnavailable,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionRefused,
    PolicyRefusal,
    PriceUnknown,
    RateLimited,
    RequestError,
    Unauthenticated,
    UnknownParameter,
    UnsupportedMediaType,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnusable,
)

TABLE = [
    (InvalidJson("m"), 400, "invalid_request_error", "invalid_json"),
    (ClientError("m"), 400, "invalid_request_error", "invalid_value"),
    (UnknownParameter("m"), 400, "invalid_request_error", "unknown_parameter"),
    (ContextLengthExceeded("m"), 400, "invalid_request_error", "context_length_exceeded"),
    (PriceUnknown("m"), 400, "invalid_request_error", "price_unknown"),
    (Unauthenticated("m", code="missing_api_key"), 401, "authentication_error", "missing_api_key"),
    (Unauthenticated("m"), 401, "authentication_error", "invalid_api_key"),
    (PermissionRefused("m"), 403, "permission_error", "model_not_allowed"),
    (PermissionRefused("m", code="content_policy"), 403, "permission_error", "content_policy"),
    (PolicyRefusal("m"), 402, "insufficient_quota", "budget_exceeded"),
    (PolicyRefusal("m", code="max_cost_exceeded"), 402, "insufficient_quota", "max_cost_exceeded"),
    (NotFound("m"), 404, "not_found_error", "model_not_found"),
    (PayloadTooLarge("m"), 413, "invalid_request_error", "payload_too_large"),
    (UnsupportedMediaType("m"), 415, "invalid_request_error", "unsupported_media_type"),
    (RateLimited("m"), 429, "rate_limit_error", "rate_limit_exceeded"),
    (UpstreamFailed("m"), 502, "api_error", "upstream_error"),
    (LedgerUnavailable("m"), 503, "api_error", "ledger_unavailable"),
    (Overloaded("m"), 503, "api_error", "overloaded"),
    (UpstreamTimeout("m"), 504, "api_error", "upstream_timeout"),
    (UpstreamRejected("m", status=422, code="bad", param="p", metadata={}), 422, "invalid_request_error", "bad"),
]


@pytest.mark.parametrize(("error", "status", "kind", "code"), TABLE)
def test_an_error_keeps_its_status_type_and_code_on_v1(error: RequestError, status: int, kind: str, code: str) -> None:
    """On /v1 the code is the string of the table in design.md."""
    shown = orjson.loads(error_body(error, Surface.OPENAI))["error"]
    assert error_status(error, Surface.OPENAI) == status
    assert (shown["type"], shown["code"], shown["message"]) == (kind, code, "m")
    assert shown["param"] == error.param


@pytest.mark.parametrize(("error", "status", "kind", "code"), TABLE)
def test_an_error_has_an_integer_code_on_api_v1(error: RequestError, status: int, kind: str, code: str) -> None:
    """On /api/v1 the code is the status and the string moves to the metadata."""
    shown = orjson.loads(error_body(error, Surface.OPENROUTER))["error"]
    assert shown["code"] == status == error_status(error, Surface.OPENROUTER)
    assert (shown["type"], shown["metadata"]["error_code"]) == (kind, code)


@pytest.mark.parametrize(("error", "status", "kind", "code"), TABLE)
def test_an_error_has_openrouters_word_on_api_v1(error: RequestError, status: int, kind: str, code: str) -> None:
    """Its clients tell errors apart by it; on /v1 nobody asks."""
    del kind
    metadata = orjson.loads(error_body(error, Surface.OPENROUTER))["error"]["metadata"]
    assert metadata["error_type"] == error_type(status, code)
    assert "error_type" not in orjson.loads(error_body(error, Surface.OPENAI))["error"].get("metadata", {})


@pytest.mark.parametrize("surface", list(Surface))
def test_a_word_the_error_brings_stays(surface: Surface) -> None:
    """An upstream's own says more."""
    error = UpstreamRejected("m", status=400, code="x", param=None, metadata={"error_type": "image_too_large"})
    metadata = orjson.loads(error_body(error, surface))["error"]["metadata"]
    assert metadata["error_type"] == "image_too_large"


def test_our_own_credential_is_a_payment_on_api_v1() -> None:
    """As its status there says."""
    metadata = orjson.loads(error_body(UpstreamUnusable("m"), Surface.OPENROUTER))["error"]["metadata"]
    assert metadata["error_type"] == "payment_required"


@pytest.mark.parametrize("surface", list(Surface))
def test_the_routing_stands_beside_the_error(surface: Surface) -> None:
    """Where the client asked for it."""
    reply = error_reply(NotFound("m"), surface, routing={"requested": "chat"})
    assert orjson.loads(reply.body).keys() == {"error", "openrouter_metadata"}
    assert (b"content-length", b"%d" % len(reply.body)) in reply.headers
    assert orjson.loads(error_reply(NotFound("m"), surface).body).keys() == {"error"}


@pytest.mark.parametrize("code", ["upstream_credentials", "upstream_credits"])
def test_our_own_refused_credential_is_503_or_402_by_surface(code: str) -> None:
    """OpenRouter's SDK would repeat a 503 for an hour; both say that repeating does not help."""
    error = UpstreamUnusable("the gateway's credit is used up", code=code)
    assert error_status(error, Surface.OPENAI) == 503
    assert error_status(error, Surface.OPENROUTER) == 402
    assert orjson.loads(error_body(error, Surface.OPENROUTER))["error"]["code"] == 402
    assert (b"x-should-retry", b"false") in error_headers(error)


def test_the_attempts_stand_in_the_metadata_beside_what_the_error_brings() -> None:
    """What was tried is listed with the error's own metadata kept."""
    attempts = [{"provider": "sim", "model": "m", "reason": "timeout", "status": None, "ms": 12}]
    error = PolicyRefusal("m", metadata={"needed": "0.5"})
    shown = orjson.loads(error_body(error, Surface.OPENAI, attempts))["error"]
    assert shown["metadata"] == {"needed": "0.5", "attempts": attempts}
    assert error.metadata == {"needed": "0.5"}


def test_an_error_without_metadata_shows_none() -> None:
    """No empty object on /v1."""
    assert "metadata" not in orjson.loads(error_body(ClientError("m"), Surface.OPENAI))["error"]


def test_a_foreign_exception_is_a_bare_500() -> None:
    """Nothing of what it said is shown, on either surface."""
    error = KeyError("secret sk-abc at /srv/x")
    for surface in Surface:
        reply = error_reply(error, surface, request_id="r1")
        assert reply.status == 500
        assert b"sk-abc" not in reply.body
        assert b"/srv" not in reply.body
        assert orjson.loads(reply.body)["error"]["type"] == "api_error"


def test_metadata_that_is_no_json_does_not_make_a_second_error() -> None:
    """An odd value is named by its type."""
    shown = orjson.loads(error_body(ClientError("m", metadata={"odd": object()}), Surface.OPENAI))["error"]
    assert shown["metadata"]["odd"] == "<object>"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RateLimited("m", retry_after_s=0.2), b"1"),
        (RateLimited("m", retry_after_s=7.1), b"8"),
        (RateLimited("m", retry_after_s=1e12), b"%d" % RETRY_AFTER_S_MAX),
        (RateLimited("m"), None),
        (LedgerUnavailable("m"), b"1"),
        (Overloaded("m"), b"1"),
        (ClientError("m"), None),
    ],
)
def test_retry_after_is_whole_seconds_and_only_where_waiting_helps(error: RequestError, expected: bytes | None) -> None:
    """Rounded up, at least 1, bounded; our own overload always says one."""
    assert dict(error_headers(error)).get(b"retry-after") == expected


def test_a_401_says_how_to_authenticate_and_not_to_try_again() -> None:
    """S1: `www-authenticate: Bearer`."""
    headers = dict(error_headers(Unauthenticated("m"), request_id="abc"))
    assert headers == {b"x-request-id": b"abc", b"x-should-retry": b"false", b"www-authenticate": b"Bearer"}


def test_the_sdk_decides_itself_where_we_have_no_opinion() -> None:
    """No `x-should-retry` on 429, 502 and 504."""
    for error in (RateLimited("m"), UpstreamFailed("m"), UpstreamTimeout("m")):
        assert b"x-should-retry" not in dict(error_headers(error))


@pytest.mark.parametrize(
    ("path", "surface"),
    [
        ("/v1/models", Surface.OPENAI),
        ("/api/v1/models", Surface.OPENROUTER),
        ("/api/v1", Surface.OPENROUTER),
        ("/api/v1x", Surface.OPENAI),
        ("/", Surface.OPENAI),
    ],
)
def test_the_path_tells_the_surface(path: str, surface: Surface) -> None:
    """Only `/api/v1` itself and what is below it is OpenRouter's."""
    assert surface_of(path) is surface


async def test_a_reply_is_sent_whole_with_its_length() -> None:
    """Status, headers and body go out in two ASGI messages."""
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    reply = error_reply(NotFound("m"), Surface.OPENAI, request_id="r-1")
    await send_reply(send, reply)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 404
    assert (b"content-length", b"%d" % len(reply.body)) in reply.headers
    assert sent[1]["body"] == reply.body
