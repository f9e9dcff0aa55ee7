"""Gemini's counts, vendor's way in and OpenAI's way out, and figures that cannot be true."""

from __future__ import annotations

import pytest

from proxy.codecs.google.usage import read_usage, write_usage
from proxy.codecs.wire import JsonObject
from proxy.usage import Usage
from tests.codecs.google.calls import CODEC

COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}
AUDIO = {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}, {"modality": "TEXT", "tokenCount": 2}]}
CACHED_AUDIO = [{"modality": "AUDIO", "tokenCount": 2}, {"modality": "TEXT", "tokenCount": 1}]


@pytest.mark.parametrize(
    ("counts", "is_grounded", "expected"),
    [
        (COUNTS, False, Usage(5, 3)),
        ({**COUNTS, "cachedContentTokenCount": 4}, False, Usage(5, 3, cached_tokens=4)),
        # thoughts beside the candidates, and inside them
        ({**COUNTS, "thoughtsTokenCount": 2, "totalTokenCount": 10}, False, Usage(5, 5, reasoning_tokens=2)),
        ({**COUNTS, "thoughtsTokenCount": 2}, False, Usage(5, 3, reasoning_tokens=2)),
        # tools that ran at Google: paid like the prompt, but for a search
        ({**COUNTS, "toolUsePromptTokenCount": 100, "totalTokenCount": 108}, False, Usage(105, 3)),
        ({**COUNTS, "toolUsePromptTokenCount": 100, "totalTokenCount": 108}, True, Usage(5, 3, web_searches=1)),
        (
            {
                "promptTokenCount": 10,
                "candidatesTokenCount": 9,
                "totalTokenCount": 19,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}, {"modality": "TEXT", "tokenCount": 6}],
                "candidatesTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 2},
                    {"modality": "IMAGE", "tokenCount": 7},
                ],
            },
            False,
            Usage(10, 9, audio_input_tokens=4, audio_output_tokens=2, image_output_tokens=7),
        ),
        # what is cached is charged as that, whatever it is; more of it than there is leaves none
        (
            {**COUNTS, **AUDIO, "cachedContentTokenCount": 3, "cacheTokensDetails": CACHED_AUDIO},
            False,
            Usage(5, 3, cached_tokens=3, cached_audio_tokens=2, audio_input_tokens=1),
        ),
        ({**COUNTS, "cacheTokensDetails": CACHED_AUDIO}, False, Usage(5, 3)),
        ({**COUNTS, **AUDIO, "cacheTokensDetails": "x"}, False, Usage(5, 3, audio_input_tokens=3)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 3}, False, Usage(5, 3)),
        ({**COUNTS, "totalTokenCount": 99}, False, Usage(5, 3, anomalies=("total_tokens_differ",))),
        ({"promptTokenCount": -1, "candidatesTokenCount": True, "thoughtsTokenCount": 10**13}, False, Usage()),
        ({"promptTokenCount": "5", "totalTokenCount": 5}, False, Usage(anomalies=("total_tokens_differ",))),
    ],
)
def test_counts(counts: JsonObject, is_grounded: bool, expected: Usage) -> None:
    """openrouter.md 7.2 and 7.3, and figures that cannot be true."""
    written = write_usage(counts, searches=int(is_grounded))
    assert read_usage({"usage": written}) == expected
    pictures = sum(one["tokenCount"] for one in counts.get("candidatesTokensDetails", []) if one["modality"] == "IMAGE")
    assert written["completion_tokens_details"]["image_tokens"] == pictures


@pytest.mark.parametrize("reply", [{}, {"usage": None}, {"usage": {}}, {"usage": 5}])
def test_no_usage(reply: JsonObject) -> None:
    """None is not nothing."""
    assert CODEC.read_usage(reply) is None
