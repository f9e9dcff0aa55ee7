"""OpenAI's chat completions, spoken by most providers, and OpenRouter's superset of it (floor 1a, pure).

Both are one codec: OpenRouter's own fields go on to OpenRouter and are left out for everyone else. Replies are already
in the shape our clients want, so a stream is relayed as it came and only the events that matter are parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeGuard

import orjson

from proxy.codecs import failures
from proxy.codecs.objects import parse_event, parse_object
from proxy.codecs.plainness import fit_call_ids, plain_messages, plain_tools, say_effort
from proxy.codecs.wire import UNKNOWN_ABILITIES, USUAL_SERVICES, Abilities, Call, Frame, JsonObject, Reading
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.money import NANO_PER_USD, to_nano_usd
from proxy.sse import DONE, data_of
from proxy.usage import Usage

OPENROUTER_FIELDS = frozenset(
    {
        "models",
        "route",
        "provider",
        "plugins",
        "transforms",
        "preset",
        "reasoning",
        "include_reasoning",
        "usage",
        "session_id",
        "trace",
        "debug",
        "stop_server_tools_when",
    }
)
"""Request fields only OpenRouter knows (openrouter.md 1.2); `user` and `prediction` are OpenAI's too."""
OWN_FIELDS = frozenset({"turnpike"})
COST_USD_MAX = 1_000_000
COST_NANO_USD_MAX = COST_USD_MAX * NANO_PER_USD
"""A reported cost above a million dollars is nonsense, not a bill."""
_TICKS_PER_NANO = 10
"""xAI counts its bill in 1e-10 USD: 1,721,250 ticks were $0.000172125 for grok-3-mini in a recorded answer."""
_MATTERS = re.compile(rb'"(?:usage|error|finish_reason)"\s*+:\s*+(?!null)')
_OBJECT, _OBJECT_END = b"data: {", b"}\n\n"
_TOKENS_MAX = 10**12
_SEARCHES = ("num_search_queries", "num_sources_used")
_SEARCH_GROUPS = ("server_tool_use_details", "server_tool_use")
_SEARCHING = frozenset({*_SEARCHES, *_SEARCH_GROUPS})
_NAME_CHARACTERS_MAX = 32
_TOTALS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


class OpenAICodec:
    """The codec of one provider that answers in OpenAI's shape."""

    __slots__ = ("_asks_usage", "_call_id_chars", "_cap_field", "_dropped", "_is_openrouter")

    def __init__(
        self,
        *,
        is_openrouter: bool,
        asks_usage: bool = True,
        cap_field: str = "max_tokens",
        call_id_chars: int | None = None,
    ) -> None:
        """Fix how this provider differs: the fields it knows, `stream_options.include_usage`, where a cap goes.

        `call_id_chars` is the one length that ids of tool calls may have; None is any.
        """
        self._dropped = OWN_FIELDS if is_openrouter else OWN_FIELDS | OPENROUTER_FIELDS
        self._is_openrouter = is_openrouter
        self._asks_usage = asks_usage
        self._cap_field = cap_field
        self._call_id_chars = call_id_chars

    def encode(
        self, body: JsonObject, *, model: str, output_tokens_max: int | None, abilities: Abilities = UNKNOWN_ABILITIES
    ) -> Call:
        """Write the body again under the provider's own model id; usage is always asked for, for the books' sake."""
        is_stream = body.get("stream") is True
        written = {name: value for name, value in body.items() if name not in self._dropped}
        written["model"] = model
        dropped: tuple[str, ...] = ()
        if not self._is_openrouter:
            written["messages"] = plain_messages(body["messages"], model=model)
            if self._call_id_chars is not None:
                written["messages"] = fit_call_ids(written["messages"], self._call_id_chars)
            if "tools" in written:
                written["tools"] = plain_tools(written["tools"])
            dropped = say_effort(body, written, abilities)
        if not self._asks_usage:
            written.pop("stream_options", None)
        elif is_stream:
            options = body.get("stream_options")
            written["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        if output_tokens_max is not None:
            self._cap(written, output_tokens_max)
        return Call(path="/chat/completions", body=orjson.dumps(written), is_stream=is_stream, dropped=dropped)

    def stream(self, reading: Reading) -> OpenAIStream:
        """Begin to read one streamed reply."""
        return OpenAIStream(parse_all=reading.parse_all)

    def read_reply(self, body: bytes, reading: Reading) -> JsonObject:
        """Parse a JSON reply; raises `UpstreamError` when it is not a JSON object."""
        return parse_object(body)

    def read_usage(self, reply: JsonObject) -> Usage | None:
        """Find the usage of a reply or chunk."""
        return read_usage(reply)

    def read_failure(self, status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes) -> Failure:
        """Classify a reply whose status is not 200."""
        return failures.read_failure(status, headers, body, asked=asked)

    def _cap(self, written: JsonObject, output_tokens_max: int) -> None:
        named = [name for name in ("max_completion_tokens", "max_tokens") if isinstance(written.get(name), int)]
        for name in named:
            written[name] = min(written[name], output_tokens_max)
        if not named:
            written[self._cap_field] = output_tokens_max


class OpenAIStream:
    """Reads one stream; it has no state, because nothing needs translating."""

    __slots__ = ("_parse_all",)

    usage: Usage | None = None
    """All of it stands in the chunks."""

    def __init__(self, *, parse_all: bool) -> None:
        """Parse every chunk, or only those with usage, an error or a finish reason."""
        self._parse_all = parse_all

    def decode(self, event: bytes) -> Sequence[Frame]:
        """Read one event; raises `UpstreamError` when its data is neither `[DONE]` nor a JSON object."""
        if event.startswith(_OBJECT) and event.endswith(_OBJECT_END) and event.count(b"\n") == 2:
            data = event[6:-2]  # as all but the last event of most streams are
        else:
            data = (data_of(event) or b"").strip()
            if not data:
                return (Frame(event),)
        if data == DONE:
            return (Frame(event, None, True),)  # noqa: FBT003 -- a NamedTuple made on the hot path, by position
        if not (data.startswith(b"{") and data.endswith(b"}")):
            raise UpstreamError(Failure(FailureKind.BROKEN_STREAM, "The provider sent an event that is not JSON."))
        if self._parse_all or _MATTERS.search(data):
            return (parse_event(event, data),)
        return (Frame(event),)

    def close(self) -> Sequence[Frame]:
        """Add nothing: what came is the answer."""
        return ()


def read_usage(reply: JsonObject) -> Usage | None:
    """Read usage wherever it stands: `usage`, or Groq's `x_groq.usage`; None when there is none.

    Counts of OpenAI, OpenRouter, Groq, DeepSeek, xAI and Azure (openrouter.md 7.2, 7.3).
    """
    usage = _object(reply.get("usage")) or _object(_object(reply.get("x_groq")).get("usage"))
    if not usage:
        return None
    counts, service = _Counts(usage).read(), reply.get("service_tier")
    if service is None or not _is_name(service) or service in USUAL_SERVICES:
        return counts
    return counts._replace(service_tier=service)


class _Counts:
    """Reads one usage object, noting every figure that cannot be true."""

    def __init__(self, usage: JsonObject) -> None:
        self._usage = usage
        self._anomalies: list[str] = []

    def read(self) -> Usage:
        usage = self._usage
        into = _object(usage.get("prompt_tokens_details"))
        out = _object(usage.get("completion_tokens_details"))
        reasoning = self._count(out, "reasoning_tokens") if out else 0
        input_tokens = self._input()
        output_tokens = self._output(input_tokens, reasoning)
        if not into and not out and usage.keys() <= _TOTALS:
            return Usage(input_tokens, output_tokens, anomalies=self._noted())
        cached = self._count(into, "cached_tokens") or self._cached_elsewhere()
        cached_audio = self._count(_object(into.get("cached_tokens_details")), "audio_tokens")
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached,
            cache_write_tokens=self._count(into, "cache_write_tokens"),
            audio_input_tokens=max(0, self._count(into, "audio_tokens") - cached_audio),
            reasoning_tokens=reasoning,
            audio_output_tokens=self._count(out, "audio_tokens"),
            cost_nano_usd=self._cost(),
            is_byok=usage.get("is_byok") is True,
            anomalies=self._noted(),
            cached_audio_tokens=cached_audio,
            image_input_tokens=self._count(into, "image_tokens"),
            image_output_tokens=self._count(out, "image_tokens"),
            web_searches=self._searches(),
        )

    def _noted(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._anomalies)) if self._anomalies else ()

    def _cached_elsewhere(self) -> int:
        """Find the cached tokens where DeepSeek, Moonshot and Mistral put them."""
        names = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
        return next((count for name in names if (count := self._count(self._usage, name))), 0)

    def _searches(self) -> int:
        """Count what the provider searched, as OpenRouter, Anthropic's proxies, Perplexity and xAI tell it."""
        if _SEARCHING.isdisjoint(self._usage):
            return 0
        groups = (_object(self._usage.get(name)) for name in _SEARCH_GROUPS)
        counts = [self._count(group, "web_search_requests") for group in groups]
        return max(*counts, *(self._count(self._usage, name) for name in _SEARCHES))

    def _input(self) -> int:
        """Take the total, or make it of DeepSeek's cache hits and misses."""
        if total := self._count(self._usage, "prompt_tokens"):
            return total
        return sum(self._count(self._usage, name) for name in ("prompt_cache_hit_tokens", "prompt_cache_miss_tokens"))

    def _output(self, input_tokens: int, reasoning: int) -> int:
        """Add the reasoning that xAI leaves out: told by its total, so it holds behind any name."""
        output, total = self._count(self._usage, "completion_tokens"), self._count(self._usage, "total_tokens")
        if reasoning and total == input_tokens + output + reasoning:
            return output + reasoning
        if total and total != input_tokens + output:
            self._anomalies.append("total_tokens_differ")
        return output

    def _cost(self) -> int | None:
        ticks = self._usage.get("cost_in_usd_ticks")
        if self._usage.get("cost") is None and ticks is not None:
            return self._bill(ticks)
        cost = self._amount(self._usage.get("cost"))
        if cost is None or self._usage.get("is_byok") is not True:
            return cost
        # With the operator's own key at the maker, `cost` is only OpenRouter's fee (openrouter.md 7.1).
        upstream = self._upstream_cost(_object(self._usage.get("cost_details")))
        return None if upstream is None else cost + upstream

    def _upstream_cost(self, details: JsonObject) -> int | None:
        """Give what the maker charges, whole or in its parts; None when nobody says: a fee alone is no bill."""
        whole = self._amount(details.get("upstream_inference_cost"))
        if whole is not None:
            return whole
        names = ("upstream_inference_prompt_cost", "upstream_inference_completions_cost")
        parts = [self._amount(details.get(name)) for name in names]
        return None if None in parts else sum(part or 0 for part in parts)

    def _bill(self, ticks: object) -> int | None:
        if not (_is_whole(ticks) and 0 <= ticks <= COST_NANO_USD_MAX * _TICKS_PER_NANO):
            self._anomalies.append("cost_unreadable")
            return None
        return -(-ticks // _TICKS_PER_NANO)

    def _amount(self, value: object) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._anomalies.append("cost_unreadable")
            return None
        if not 0 <= value <= COST_USD_MAX:
            self._anomalies.append("cost_out_of_range")
            return None
        return to_nano_usd(Decimal(repr(value)))

    def _count(self, fields: JsonObject, name: str) -> int:
        value = fields.get(name)
        if value is None:
            return 0
        if type(value) is int and 0 <= value <= _TOKENS_MAX:
            return value
        self._anomalies.append(f"{name}_unreadable")
        return 0


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: object) -> TypeGuard[str]:
    """Tell whether a provider's word may go into the books."""
    return isinstance(value, str) and value.isidentifier() and len(value) <= _NAME_CHARACTERS_MAX


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
