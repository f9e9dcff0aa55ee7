"""The kinds of value a member of routes.yaml may have: how each is read, and what an editor is told (part of `files`).

Every kind reads a plain YAML value and gives the parsed one, or raises ValueError with the form wanted. Variables are
filled in here and only by the kinds meant for them: text, lists and parameters refuse `${VAR}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainValidator, ValidationInfo, WithJsonSchema

from proxy.codecs.plainness import check_effort
from proxy.codecs.wire import USUAL_SERVICES
from proxy.errors import ClientError
from proxy.files.environment import Credential, Environment, mentions_variable
from proxy.files.rules import parse_rule
from proxy.files.units import (
    parse_count,
    parse_duration_s,
    parse_pause_s,
    parse_positive_count,
    parse_positive_duration_s,
    parse_rate,
    parse_retention_s,
    parse_share,
    parse_speed_per_s,
)
from proxy.money import Budget, parse_amount, parse_budget, parse_token_price, parse_usd
from proxy.policy.limits import Rate
from proxy.policy.rules import Rule
from proxy.routing.extras import read_extras

NAME_CHARACTERS_MAX = 64
MODEL_CHARACTERS_MAX = 256
URL_CHARACTERS_MAX = 2048
HEADER_CHARACTERS_MAX = 4096
CONTENT_CHARACTERS_MAX = 32_768
REFRESH_S_MIN = 600.0
KEY_CHARACTERS_MIN = 8
KEY_CHARACTERS_MAX = 256
SECRET_CHARACTERS_MIN = 16

ENDINGS = ("cancel", "drain")
"""What may happen to a call whose client has left."""
PARAMS_REFUSED = frozenset({"model", "models", "messages", "prompt", "input", "stream", "turnpike"}).union(
    {"api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "extra_query"}
)
"""What a default may not set: the request's own substance, and where it goes."""
HEADERS_REFUSED = frozenset({"host", "connection", "content-length", "content-type", "transfer-encoding"}).union(
    {"accept-encoding", "expect", "upgrade", "te", "trailer"}
)
"""Headers that frame the message; the HTTP client writes them."""

_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]*")
_KEY = re.compile(r"[\x21-\x7e]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_ODD = re.compile(r"[\s\x00-\x1f\x7f]")

VARIABLES_ELSEWHERE = "variables are read only in secrets, URLs and headers; write the value itself"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What validation needs to know besides the file."""

    environment: Environment


def read_text(value: Any) -> str:
    """Take text, or a whole number where a name is wanted; ValueError says how to quote the rest."""
    if isinstance(value, str):
        if mentions_variable(value):
            raise ValueError(VARIABLES_ELSEWHERE)
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    msg = f"text is wanted, this is {_kind(value)}"
    if isinstance(value, (bool, float)):
        msg += f'; put it in quotes: "{str(value).lower()}"'
    raise ValueError(msg)


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    return {dict: "a mapping", list: "a list", int: "a number", float: "a number"}.get(type(value), "text")


def _unit(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return parse(str(value) if is_number else read_text(value))

    return read


def _of(info: ValidationInfo) -> Environment:
    surroundings = info.context
    assert isinstance(surroundings, Surroundings)
    return surroundings.environment


def _raw_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"text is wanted, this is {_kind(value)}; put it in quotes")


def _read_name(text: str) -> str:
    if not 0 < len(text) <= NAME_CHARACTERS_MAX or not text.isprintable() or text != text.strip():
        raise ValueError(f"a name has 1 to {NAME_CHARACTERS_MAX} visible characters")
    return text


def _read_provider_name(text: str) -> str:
    if len(text) > NAME_CHARACTERS_MAX or not _PROVIDER.fullmatch(text):
        raise ValueError(
            "a provider's name has letters, digits, `_`, `.` and `-` only; it stands before the first / of a target"
        )
    return text


def _read_tag_name(text: str) -> str:
    if not _TAG.fullmatch(text):
        raise ValueError(f"such a name has 1 to {NAME_CHARACTERS_MAX} letters, digits, `_`, `.` and `-`")
    return text


def _read_model_name(text: str) -> str:
    if not 0 < len(text) <= MODEL_CHARACTERS_MAX or _ODD.search(text):
        raise ValueError(f"a model's name has 1 to {MODEL_CHARACTERS_MAX} characters and no blanks")
    if text.count("*") > 1:
        raise ValueError("a name may hold one * only")
    return text


def _read_content(text: str) -> str:
    if not text.strip():
        raise ValueError("the answer is empty; write the text that clients get")
    if len(text) > CONTENT_CHARACTERS_MAX:
        raise ValueError(f"an answer has at most {CONTENT_CHARACTERS_MAX} characters")
    return text


def _read_on_disconnect(text: str) -> str:
    if text not in ENDINGS:
        raise ValueError(f"{text!r} is not a way to end; write {' or '.join(f'`{ending}`' for ending in ENDINGS)}")
    return text


def _read_url(value: Any, info: ValidationInfo) -> str:
    url = _of(info).expand(_raw_text(value)).strip().rstrip("/")
    form = "write it as https://host/v1, up to and including the version"
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(f"not a URL; {form}") from None
    if len(url) > URL_CHARACTERS_MAX or _ODD.search(url) or not url.isascii():
        raise ValueError(f"a URL has at most {URL_CHARACTERS_MAX} ASCII characters and no blanks; {form}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not has_port:
        raise ValueError(f"not an http or https URL; {form}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a base_url may hold no user, password, query or fragment; a key goes into `api_key`")
    return url


def _read_webhook(value: Any, info: ValidationInfo) -> str:
    url = _of(info).expand(_raw_text(value)).strip()
    form = "write it as https://host/path, best as ${NAME}"
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(f"not a URL; {form}") from None
    # A backslash is a path's character to one parser and ends the host to another.
    if len(url) > URL_CHARACTERS_MAX or _ODD.search(url) or not url.isascii() or "\\" in url:
        raise ValueError(f"a URL has at most {URL_CHARACTERS_MAX} ASCII characters, no blanks, no backslash; {form}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not has_port:
        raise ValueError(f"not an http or https URL; {form}")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError(f"a webhook's URL may hold no user, password or fragment; {form}")
    return url


def _read_webhook_secret(value: Any, info: ValidationInfo) -> str:
    text = _of(info).expand(_raw_text(value))
    if not SECRET_CHARACTERS_MIN <= len(text) <= KEY_CHARACTERS_MAX or not _KEY.fullmatch(text):
        most = f"{SECRET_CHARACTERS_MIN} to {KEY_CHARACTERS_MAX}"
        raise ValueError(f"a webhook's secret has {most} visible ASCII characters and no blanks")
    return text


def _read_header_value(value: Any, info: ValidationInfo) -> str:
    text = _of(info).expand(_raw_text(value)).strip()
    if len(text) > HEADER_CHARACTERS_MAX or not _HEADER_VALUE.fullmatch(text):
        raise ValueError(f"a header's value is one line of at most {HEADER_CHARACTERS_MAX} Latin-1 characters")
    return text


def _read_header_name(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError("not a header's name; it has letters, digits and `-` only")
    if text.lower() in HEADERS_REFUSED:
        raise ValueError(f"the header {text} is written by Turnpike itself; leave it out")
    return text


def _read_credential(value: Any, info: ValidationInfo) -> Credential:
    text = _raw_text(value)
    if not text.strip():
        raise ValueError("the key is empty; write ${NAME}, or leave api_key out for a server that wants none")
    return _of(info).credential(text)


def _read_client_key(value: Any, info: ValidationInfo) -> str:
    if isinstance(value, (int, float)):
        raise ValueError("a key of digits only must be put in quotes, or its zeros are lost")  # noqa: TRY004 - pydantic gathers ValueErrors
    text = _of(info).expand(_raw_text(value))
    if not KEY_CHARACTERS_MIN <= len(text) <= KEY_CHARACTERS_MAX or not _KEY.fullmatch(text):
        raise ValueError(
            f"a key has {KEY_CHARACTERS_MIN} to {KEY_CHARACTERS_MAX} visible ASCII characters and no blanks"
        )
    return text


def _read_key_sha256(value: Any, info: ValidationInfo) -> str:
    text = _of(info).expand(_raw_text(value))
    if not _SHA256.fullmatch(text):
        raise ValueError("not a SHA-256; write its 64 hex digits in quotes")
    return text.lower()


def read_params(value: Any) -> dict[str, Any]:
    """Read defaults for request fields; ValueError names what may not be one."""
    if not isinstance(value, dict):
        raise ValueError(f"a mapping of request fields is wanted, this is {_kind(value)}")  # noqa: TRY004 - pydantic gathers ValueErrors
    refused = sorted(PARAMS_REFUSED.intersection(value))
    if refused:
        raise ValueError(f"`{refused[0]}` cannot be a default; it belongs to the request")
    _refuse_variables(value)
    try:
        read_extras(value)
        check_effort(value)
    except ClientError as error:
        raise ValueError(error.message) from None  # better read here than on every request
    return value


def _refuse_variables(value: Any) -> None:
    if isinstance(value, str) and mentions_variable(value):
        raise ValueError(VARIABLES_ELSEWHERE)
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_variables(member)


def _parse_length(text: str) -> int:
    """Read `200k` or `200k tokens`."""
    return parse_positive_count(text.strip().removesuffix(" tokens"))


def _read_service(text: str) -> str:
    if text in USUAL_SERVICES:
        raise ValueError(f"`{text}` is the usual service; its prices are `input`, `output` and so on beside this")
    if not text.isidentifier() or len(text) > NAME_CHARACTERS_MAX:
        raise ValueError("not a service_tier; write its name as the provider does: flex, priority")
    return text


def _parse_refresh_s(text: str) -> float:
    seconds = parse_duration_s(text)
    if seconds < REFRESH_S_MIN:
        raise ValueError(f"{text!r} is too often; prices change by the day, write at least 10m")
    return seconds


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


_DURATION = r"^\d+(\.\d+)? ?(ms|s|m|h|d)$"
_MONEY = r"^\$\d+(\.\d+)?"
_COUNT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+ ?[kKmM]?$"}]}

Text = Annotated[str, BeforeValidator(read_text)]
Name = Annotated[Text, AfterValidator(_read_name)]
ProviderName = Annotated[str, AfterValidator(_read_provider_name)]
TagName = Annotated[str, AfterValidator(_read_tag_name)]
TagText = Annotated[Text, AfterValidator(_read_tag_name)]
ModelName = Annotated[str, AfterValidator(_read_model_name)]
ModelText = Annotated[Text, AfterValidator(_read_model_name)]
Content = Annotated[Text, AfterValidator(_read_content)]
OnDisconnect = Annotated[Text, AfterValidator(_read_on_disconnect), WithJsonSchema({"enum": [*ENDINGS]})]

Url = Annotated[str, PlainValidator(_read_url), _schema(r"^(https?://|\$\{|os\.environ/)", "https://api.openai.com/v1")]
WebhookUrl = Annotated[str, PlainValidator(_read_webhook), _schema(r"^(https?://|\$\{|os\.environ/)", "${ALERT_URL}")]
WebhookSecret = Annotated[str, PlainValidator(_read_webhook_secret), _schema(".", "${ALERT_SECRET}")]
AlertRule = Annotated[
    Rule, PlainValidator(_unit(parse_rule)), _schema(r"^[a-z0-9_]+ ?([<>].*)?$", "spend > 80%", "provider_down")
]
HeaderName = Annotated[str, AfterValidator(_read_header_name)]
HeaderValue = Annotated[str, PlainValidator(_read_header_value), WithJsonSchema({"type": "string"})]
ProviderKey = Annotated[Credential, PlainValidator(_read_credential), _schema(".", "${OPENAI_API_KEY}")]
ClientKey = Annotated[str, PlainValidator(_read_client_key), _schema(".", "${MOBILE_KEY}")]
KeySha256 = Annotated[str, PlainValidator(_read_key_sha256), _schema(r"^([0-9a-fA-F]{64}|\$\{.*)$")]

Duration = Annotated[float, PlainValidator(_unit(parse_duration_s)), _schema(_DURATION, "200ms", "3s")]
Wait = Annotated[float, PlainValidator(_unit(parse_positive_duration_s)), _schema(_DURATION, "3s", "15m")]
Retention = Annotated[
    float | None, PlainValidator(_unit(parse_retention_s)), _schema(r"^(\d+ ?[dy]|forever)$", "90d", "2y", "forever")
]
Pause = Annotated[float, PlainValidator(_unit(parse_pause_s)), _schema(_DURATION, "2s", "500ms")]
RateLimit = Annotated[
    Rate,
    PlainValidator(_unit(parse_rate)),
    _schema(r"^\d+ ?[kKmM]?( ?(requests?|tokens?))? ?/ ?\d* ?[A-Za-z]+$", "60/min", "20/10s", "100k tokens/min"),
]
Count = Annotated[int, PlainValidator(_unit(parse_count)), WithJsonSchema(_COUNT)]
PositiveCount = Annotated[int, PlainValidator(_unit(parse_positive_count)), WithJsonSchema(_COUNT)]
Speed = Annotated[float, PlainValidator(_unit(parse_speed_per_s)), _schema(r"^\d+(\.\d+)? ?/ ?s$", "50/s")]
Share = Annotated[float, PlainValidator(_unit(parse_share)), _schema(r"^\d+(\.\d+)? ?%$", "25%", "100%")]
Amount = Annotated[int, PlainValidator(_unit(parse_amount)), _schema(_MONEY + "$", "$0.50")]
Allowance = Annotated[
    Budget,
    PlainValidator(_unit(parse_budget)),
    _schema(_MONEY + r"( ?/ ?(hour|day|week|month|total))?$", "$5/day", "$200/month", "$20"),
]
TokenPrice = Annotated[
    Decimal, PlainValidator(_unit(parse_token_price)), _schema(_MONEY + r" ?/ ?1?[mMkK]$", "$1.25/M", "$0/M")
]
PiecePrice = Annotated[Decimal, PlainValidator(_unit(parse_usd)), _schema(_MONEY + "$", "$0.001")]
InputLength = Annotated[int, PlainValidator(_unit(_parse_length)), _schema(r"^\d+ ?[kKmM]?( tokens)?$", "200k")]
ServiceName = Annotated[Text, AfterValidator(_read_service)]
RefreshPeriod = Annotated[float, PlainValidator(_unit(_parse_refresh_s)), _schema(_DURATION, "24h")]
Params = Annotated[
    dict[str, Any],
    PlainValidator(read_params),
    WithJsonSchema({"type": "object", "propertyNames": {"not": {"enum": sorted(PARAMS_REFUSED)}}}),
]
