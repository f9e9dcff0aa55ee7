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
USUAL_SERVICES = frozenset({"auto", "default", "standard", "on_demand"})
"""Values of `service_tier` that mean the usual price (OpenAI, Anthropic, Groq)."""


class Surface(StrEnum):
    """Which of our two faces the client speaks to."""

    OPENAI = "/v1"
    OPENROUTER = "/api/v1"


class Thinking(StrEnum):
    """How a model is told to reason before it answers (openrouter.md 8.3, 8.5)."""

    NONE = "none"
    """It cannot."""
    BUDGET = "budget"
    """By a number of tokens."""
    ADAPTIVE = "adaptive"
    """By an effort, and it decides for itself how long (Anthropic)."""
    LEVEL = "level"
    """By a named level (Google)."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one model takes, as far as a codec must know it to write a call (openrouter.md 8.7).

    The defaults are those of a model nothing is known of: it is given what was asked for.
    """

    output_tokens_max: int | None = None
    thinking: Thinking | None = None
    """None: not known."""
    sampling: bool = True
    """It takes `temperature`, `top_p` and `top_k`."""
    forced_tools: bool = True
    """It can be made to call a tool."""
    prefill: bool = True
    """It goes on from an assistant message at the end."""
    json_schema: bool = True
    """It has structured output of its own."""
    efforts: tuple[str, ...] = ()
    """Values of `reasoning_effort` it is known to take."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider, complete but for its base URL and credential."""

    path: str
    """Appended to the provider's `base_url`, with a leading slash; may hold a query."""
    body: bytes
    is_stream: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Not shown: the key of a pool is among them."""
    dropped: tuple[str, ...] = ()
    """Fields of the client's request that this target cannot honour: left out or softened, and the client is told."""
    schema_tool: str | None = None
    """A tool that stands for `response_format`: its input is the answer's content."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a codec must know to read the reply to a call."""

    call: Call
    created_s: int = 0
    """Seconds since the epoch, for dialects whose replies carry no time."""
    parse_all: bool = False
    """Every chunk is wanted as JSON, not only those that matter."""


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


UNKNOWN_ABILITIES = Abilities()


class StreamDecoder(Protocol):
    """Turns one upstream's events into OpenAI-shaped frames; holds the little state a translation needs."""

    @property
    def usage(self) -> Usage | None:
        """Give what the stream has said of usage outside the chunks it became, None when it says all of it there."""
        ...

    def decode(self, event: bytes) -> Sequence[Frame]:
        """Translate one whole event; raises `UpstreamError` for what cannot be read."""
        ...

    def close(self) -> Sequence[Frame]:
        """Give what still belongs to the answer when the upstream has ended the body without a terminal event."""
        ...


class Codec(Protocol):
    """One dialect, for one provider."""

    def encode(
        self, body: JsonObject, *, model: str, output_tokens_max: int | None, abilities: Abilities = UNKNOWN_ABILITIES
    ) -> Call:
        """Write the call for a parsed body; `output_tokens_max` is a cap of ours, None leaves the client's.

        Raises `ClientError` for what this dialect has no way to say.
        """
        ...

    def stream(self, reading: Reading) -> StreamDecoder:
        """Begin to read one streamed reply."""
        ...

    def read_reply(self, body: bytes, reading: Reading) -> JsonObject:
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
