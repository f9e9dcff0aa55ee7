"""The shapes codecs and their callers share (floor 1a, pure): a call out, an event in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar

from proxy.errors import Failure
from proxy.usage import Usage

JsonObject = dict[str, Any]
ProviderT_contra = TypeVar("ProviderT_contra", contravariant=True)


class Surface(StrEnum):
    """Which of our two faces the client speaks to."""

    OPENAI = "/v1"
    OPENROUTER = "/api/v1"


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider, complete but for its base URL and credential."""

    path: str
    """Appended to the provider's `base_url`, with a leading slash."""
    body: bytes
    is_stream: bool
    headers: Mapping[str, str] = field(default_factory=dict)


def is_deeper(value: object, levels: int) -> bool:
    """Tell whether objects and lists are nested more than `levels` deep; what is too deep cannot be written again."""
    layer: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        children = (child for parent in layer for child in (parent.values() if isinstance(parent, dict) else parent))
        layer = [child for child in children if isinstance(child, dict | list)]
    return bool(layer)


class Frame(NamedTuple):
    """One server-sent event in OpenAI's shape, on its way from an upstream to a client."""

    raw: bytes
    """The event's bytes, blank line included; empty when nothing is to be relayed."""
    chunk: JsonObject | None = None
    """Its JSON, only when it matters: usage, an error, a finish reason, or the reader asked for all."""
    is_done: bool = False
    """The terminal `[DONE]`."""


class StreamDecoder(Protocol):
    """Turns one upstream's events into OpenAI-shaped frames; holds the little state a translation needs."""

    def decode(self, event: bytes) -> Sequence[Frame]:
        """Translate one whole event; raises `UpstreamError` for what cannot be read."""
        ...


class Codec(Protocol):
    """One dialect, for one provider."""

    def encode(self, body: JsonObject, *, model: str, output_tokens_max: int | None) -> Call:
        """Write the call for a parsed body; `output_tokens_max` is a cap of ours, None leaves the client's."""
        ...

    def stream(self, *, parse_all: bool) -> StreamDecoder:
        """Begin to read one streamed reply."""
        ...

    def read_reply(self, body: bytes) -> JsonObject:
        """Read a whole JSON reply into OpenAI's shape; raises `UpstreamError` when it is none."""
        ...

    def read_usage(self, reply: JsonObject) -> Usage | None:
        """Find the usage of a reply or chunk, None when it has none."""
        ...

    def read_failure(self, status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes) -> Failure:
        """Classify a reply whose status is not 200 to the call whose body was `asked`."""
        ...


def say_nothing() -> None:
    """Stand in for a caller of `Upstream.open` that does not ask when its call is on the way."""


class UpstreamReply(Protocol):
    """One reply whose status and headers are in and whose body may still be on its way; whoever opened it closes it."""

    @property
    def status(self) -> int:
        """Give the HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Give the few headers that matter, names in lower case."""
        ...

    async def read(self) -> bytes:
        """Wait for the next piece, b"" at the proper end; raises `UpstreamError` when the body is cut or unreadable."""
        ...

    async def read_all(self, bytes_max: int) -> bytes:
        """Read the rest of the body; raises `UpstreamError` also when it is longer than `bytes_max`."""
        ...

    async def close(self) -> None:
        """Let go, of the connection too unless the body was read to its end; never waits, and twice is once."""
        ...


class Upstream(Protocol[ProviderT_contra]):
    """A way to call providers; used as `Upstream[Provider]`, since this floor does not know the routing table."""

    async def open(
        self,
        provider: ProviderT_contra,
        call: Call,
        *,
        connect_timeout_s: float,
        on_sent: Callable[[], None] = say_nothing,
    ) -> UpstreamReply:
        """Send the call, wait for status and headers; all other clocks are the caller's. Raises `UpstreamError`.

        `on_sent` is called as the first byte goes out: until then the call cannot have cost anything.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
