"""Readable English of a wanted length: simple sentences, one token a word, the same for the same chance."""

from __future__ import annotations

from random import Random
from typing import Final

_ADJECTIVES: Final = (
    *("big", "old", "small", "green", "quiet", "bright", "early", "late", "strong"),
    *("warm", "cold", "deep", "wide", "open", "clear", "fast", "long", "young"),
)
_NOUNS: Final = (
    *("river", "house", "garden", "road", "bridge", "station", "market", "letter", "window", "island"),
    *("forest", "teacher", "doctor", "driver", "winter", "summer", "morning", "city", "table", "question"),
    *("answer", "story", "library", "engine", "harbor", "mountain", "valley", "village"),
)
_VERBS: Final = (
    *("follows", "finds", "leaves", "watches", "keeps", "reaches", "crosses"),
    *("needs", "shows", "brings", "remembers", "passes", "opens", "holds"),
)
_PLACES: Final = ("near", "behind", "beside", "above", "below", "across", "before", "after", "around", "through")
_ADVERBS: Final = ("quickly", "slowly", "often", "always", "again", "today", "together", "carefully")


def write_words(chance: Random, tokens: int) -> list[str]:
    """Write exactly `tokens` pieces of text, the last of them a full stop when there are at least two."""
    if tokens == 1:
        return ["Yes"]
    pieces: list[str] = []
    while (room := tokens - len(pieces)) > 0:
        sentence = _write_sentence(chance)
        if room - len(sentence) == 1:
            # One piece alone is no sentence, so this one takes it in.
            sentence.insert(-1, f" {chance.choice(_ADVERBS)}")
        if pieces:
            sentence[0] = f" {sentence[0]}"
        pieces += sentence if len(sentence) <= room else [*sentence[: room - 1], "."]
    return pieces


def _write_sentence(chance: Random) -> list[str]:
    words = [chance.choice(_ADJECTIVES), chance.choice(_NOUNS), chance.choice(_VERBS), "the", chance.choice(_NOUNS)]
    words += [chance.choice(_PLACES), "the", chance.choice(_ADJECTIVES), chance.choice(_NOUNS)]
    return ["The", *(f" {word}" for word in words[: chance.choice((5, 5, 9))]), "."]
