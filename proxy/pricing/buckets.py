"""Inclusive counts split so that each token is charged once (part of `pricing`, pure)."""

from __future__ import annotations

from typing import NamedTuple

from proxy.usage import Usage


class Buckets(NamedTuple):
    """Token counts that do not overlap: each is charged at one price, and together they are the whole."""

    uncached_input: int = 0
    """Text read fresh: what is left of the input after the kinds below."""
    cached: int = 0
    cached_audio: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    image_input: int = 0
    text_output: int = 0
    """Reasoning included: where it is priced apart its price is that of all output."""
    audio_output: int = 0
    image_output: int = 0

    @property
    def input_tokens(self) -> int:
        """Sum what was read: the figure tier thresholds are compared with."""
        read = self.cached + self.cached_audio + self.cache_write + self.cache_write_1h
        return self.uncached_input + read + self.audio_input + self.image_input

    @property
    def output_tokens(self) -> int:
        """Sum what was written."""
        return self.text_output + self.audio_output + self.image_output


def decompose(usage: Usage) -> tuple[Buckets, tuple[str, ...]]:
    """Split inclusive counts into disjoint buckets, none below 0; what had to be clamped is named, never raised.

    Cached tokens come out of text first: the rest of them overlaps audio (then pictures), which is then charged as
    cached, not twice.
    """
    if usage.has_no_parts:
        return Buckets(uncached_input=usage.input_tokens, text_output=usage.output_tokens), ()
    anomalies: list[str] = []
    input_tokens = _take(usage.input_tokens, usage.input_tokens, "negative_input", anomalies)
    cached = _take(usage.cached_tokens, input_tokens, "cached_above_input", anomalies)
    cached_audio = _take(usage.cached_audio_tokens, cached, "cached_audio_above_cached", anomalies)
    left = input_tokens - cached
    cache_write_1h = _take(usage.cache_write_1h_tokens, left, "cache_write_above_input", anomalies)
    left -= cache_write_1h
    cache_write = _take(usage.cache_write_tokens, left, "cache_write_above_input", anomalies)
    left -= cache_write
    audio_input = min(_take(usage.audio_input_tokens, input_tokens, "audio_above_input", anomalies), left)
    left -= audio_input
    image_input = min(_take(usage.image_input_tokens, input_tokens, "images_above_input", anomalies), left)
    output_tokens = _take(usage.output_tokens, usage.output_tokens, "negative_output", anomalies)
    audio_output = _take(usage.audio_output_tokens, output_tokens, "audio_above_output", anomalies)
    image_output = _take(usage.image_output_tokens, output_tokens - audio_output, "images_above_output", anomalies)
    _take(usage.reasoning_tokens, output_tokens, "reasoning_above_output", anomalies)
    buckets = Buckets(
        uncached_input=left - image_input,
        cached=cached - cached_audio,
        cached_audio=cached_audio,
        cache_write=cache_write,
        cache_write_1h=cache_write_1h,
        audio_input=audio_input,
        image_input=image_input,
        text_output=output_tokens - audio_output - image_output,
        audio_output=audio_output,
        image_output=image_output,
    )
    return buckets, tuple(dict.fromkeys(anomalies))


def contradictions(usage: Usage) -> tuple[str, ...]:
    """Name the counts that cannot be true beside the others."""
    return () if usage.has_no_parts else decompose(usage)[1]


def _take(tokens: int, available: int, anomaly: str, anomalies: list[str]) -> int:
    """Give the count if it lies between 0 and what is available, else the nearer of the two and name it."""
    taken = max(0, min(tokens, available))
    if taken != tokens:
        anomalies.append(anomaly)
    return taken
