"""Anthropic's token counts, and the usage they become (floor 1a, pure; openrouter.md 7.2, 7.3).

Anthropic counts what was read from and written to its cache beside the input; OpenAI's total holds all of it. A stream
counts twice, when it begins and when it ends: later figures replace earlier ones, each by itself, and are never added.
A total that cannot be read makes the whole usage count as missing, since half of one would book too little.
"""

from __future__ import annotations

from proxy.codecs.anthropic.values import object_of, objects_of
from proxy.codecs.wire import JsonObject
from proxy.usage import Usage

TOKENS_MAX = 10**12
"""A count above it is no count."""
_TOTALS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_PARTS = (
    ("cache_creation", "ephemeral_5m_input_tokens"),
    ("cache_creation", "ephemeral_1h_input_tokens"),
    ("output_tokens_details", "thinking_tokens"),
    ("server_tool_use", "web_search_requests"),
)


class Totals:
    """The counts of one message, as far as they are known."""

    __slots__ = ("_counts", "_is_final", "_is_readable")

    def __init__(self) -> None:
        """Begin knowing nothing."""
        self._counts: dict[str, int] = {}
        self._is_final = False
        self._is_readable = True

    def add(self, usage: object, *, is_final: bool) -> None:
        """Take in a `usage` object; until a final one, the output it counts has only begun."""
        if not isinstance(usage, dict):
            return
        counts = self._read(usage)
        steps = [self._read(step) for step in objects_of(usage.get("iterations"))]
        # Compaction and advisors are steps of their own: their sum is the bill, the counts beside them are not.
        counts |= {name: sum(step.get(name, 0) for step in steps) for name in {name for step in steps for name in step}}
        for name, count in counts.items():
            if count or not self._counts.get(name):
                self._counts[name] = count
        self._is_final = self._is_final or is_final

    def usage(self) -> Usage | None:
        """Give what is known; the output is 0 until its final count came, so that it is counted here instead."""
        if not self._counts or not self._is_readable:
            return None
        hour = self._written_for_an_hour()
        known = Usage(
            input_tokens=self._input(),
            output_tokens=self._count("output_tokens"),
            cached_tokens=self._count("cache_read_input_tokens"),
            cache_write_tokens=self._written() - hour,
            cache_write_1h_tokens=hour,
            reasoning_tokens=self._count("thinking_tokens"),
            web_searches=self._count("web_search_requests"),
        )
        return known if self._is_final else known._replace(output_tokens=0, reasoning_tokens=0)

    def write(self) -> JsonObject | None:
        """Write the final usage in OpenAI's shape; None when it is not known."""
        if not self._counts or not self._is_readable or not self._is_final:
            return None
        into = {"cached_tokens": self._count("cache_read_input_tokens"), "cache_write_tokens": self._written()}
        if hour := self._written_for_an_hour():
            into["cache_write_1h_tokens"] = hour
        output_tokens = self._count("output_tokens")
        written: JsonObject = {
            "prompt_tokens": self._input(),
            "completion_tokens": output_tokens,
            "total_tokens": self._input() + output_tokens,
            "prompt_tokens_details": into,
            "completion_tokens_details": {"reasoning_tokens": self._count("thinking_tokens")},
        }
        if searches := self._count("web_search_requests"):
            written["server_tool_use_details"] = {"web_search_requests": searches}
        return written

    def _read(self, usage: JsonObject) -> dict[str, int]:
        found = {name: usage.get(name) for name in _TOTALS}
        found |= {name: object_of(usage.get(group)).get(name) for group, name in _PARTS}
        counts = {name: value for name, value in found.items() if type(value) is int and 0 <= value <= TOKENS_MAX}
        if any(found[name] is not None and name not in counts for name in _TOTALS):
            self._is_readable = False
        return counts

    def _count(self, name: str) -> int:
        return self._counts.get(name, 0)

    def _input(self) -> int:
        return self._count("input_tokens") + self._written() + self._count("cache_read_input_tokens")

    def _written(self) -> int:
        parts = self._count("ephemeral_5m_input_tokens") + self._count("ephemeral_1h_input_tokens")
        return self._counts.get("cache_creation_input_tokens", parts)

    def _written_for_an_hour(self) -> int:
        """Give the dearer part of what was written; only a stream's beginning splits it, and its end may count more."""
        hour = self._count("ephemeral_1h_input_tokens")
        is_all = bool(hour) and not self._count("ephemeral_5m_input_tokens")
        return self._written() if is_all else min(hour, self._written())


def read_usage(reply: JsonObject) -> Usage | None:
    """Read back what `Totals.write` wrote, out of a reply or chunk; None when it holds none."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    into, out = object_of(usage.get("prompt_tokens_details")), object_of(usage.get("completion_tokens_details"))
    hour = into.get("cache_write_1h_tokens", 0)
    return Usage(
        input_tokens=usage.get("prompt_tokens", 0),
        output_tokens=usage.get("completion_tokens", 0),
        cached_tokens=into.get("cached_tokens", 0),
        cache_write_tokens=into.get("cache_write_tokens", 0) - hour,
        cache_write_1h_tokens=hour,
        reasoning_tokens=out.get("reasoning_tokens", 0),
        web_searches=object_of(usage.get("server_tool_use_details")).get("web_search_requests", 0),
    )
