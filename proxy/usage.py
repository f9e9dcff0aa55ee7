"""What one attempt used, in tokens, whoever reported it (floor 0, pure).

Inside Turnpike counts are *inclusive*: `input_tokens` holds cached, cache-write and audio tokens, `output_tokens` holds
reasoning and audio tokens; the others say how much of these they are. Codecs translate each vendor's way of counting
into this one, and `pricing` splits it into disjoint buckets.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class CostSource(StrEnum):
    """Where a booked cost comes from, best first."""

    REPORTED = "reported"
    """The provider named the amount."""
    COMPUTED = "computed"
    """The provider's token counts times our price."""
    ESTIMATED = "estimated"
    """Tokens counted here times our price."""
    HELD = "held"
    """Nobody can tell: the whole hold is booked."""
    UNKNOWN = "unknown"
    """Tokens without a price and no limit in money: cost is null, never 0."""


_NO_PARTS = (0, 0, 0, 0, 0, 0)
"""From `cached_tokens` to `audio_output_tokens`."""
_NO_RARE_PARTS = (0, 0, 0, 0, None)
"""From `image_input_tokens` to `service_tier`."""


class Usage(NamedTuple):
    """Token counts of one attempt, inclusive totals and their parts, all >= 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Part of `input_tokens` read from the provider's prompt cache."""
    cache_write_tokens: int = 0
    """Part of `input_tokens` written to a 5-minute (or the only) prompt cache."""
    cache_write_1h_tokens: int = 0
    """Part of `input_tokens` written to a 1-hour prompt cache; not in `cache_write_tokens`."""
    audio_input_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of `output_tokens` spent on reasoning."""
    audio_output_tokens: int = 0
    cost_nano_usd: int | None = None
    """What the provider says it charges in all (OpenRouter: `cost`, for BYOK plus the upstream's own charge)."""
    is_byok: bool = False
    anomalies: tuple[str, ...] = ()
    """Figures that contradict each other, named, for the row and a counter."""
    cached_audio_tokens: int = 0
    """Part of `cached_tokens`; audio known to be cached is not in `audio_input_tokens`."""
    image_input_tokens: int = 0
    """Part of `input_tokens`, where the provider counts them apart."""
    image_output_tokens: int = 0
    """Part of `output_tokens` that are pictures."""
    images: int = 0
    """Pictures in the prompt, counted here, and only where they have a price besides their tokens."""
    web_searches: int = 0
    """Searches the provider made and charges by the piece."""
    service_tier: str | None = None
    """The service that was given (`flex`, `priority`), None for the usual one."""

    @property
    def has_no_parts(self) -> bool:
        """Tell whether it is plain text in and out, nothing of it priced apart; most usage is.

        Asked several times in every request, so the fields are compared by their places.
        """
        is_plain = self[2:8] == _NO_PARTS and self[12:] == _NO_RARE_PARTS
        return is_plain and self.input_tokens >= 0 and self.output_tokens >= 0

    @property
    def is_empty(self) -> bool:
        """Tell whether it reports nothing at all: then it is treated as missing."""
        return not (self.input_tokens or self.output_tokens or self.cost_nano_usd)


def merge_usage(earlier: Usage | None, later: Usage) -> Usage:
    """Take usage that repeats figure by figure: the last one that was told (reliability.md 3.3), and never a sum.

    An amount told earlier stands only while the counts do not grow beyond those beside it, and never for a fee alone.
    """
    if earlier is None:
        return later
    counts = {name: getattr(later, name) or getattr(earlier, name) for name in _COUNTS}
    is_grown = later.input_tokens > earlier.input_tokens or later.output_tokens > earlier.output_tokens
    is_fee = later.is_byok and not earlier.is_byok
    keeps = later.cost_nano_usd is None and not (is_grown or is_fee)
    cost = earlier.cost_nano_usd if keeps else later.cost_nano_usd
    return later._replace(**counts, cost_nano_usd=cost, is_byok=later.is_byok or earlier.is_byok)


TOKEN_COUNTS = tuple(name for name in Usage._fields if name.endswith("_tokens"))
_COUNTS = (*TOKEN_COUNTS, "web_searches", "service_tier")
