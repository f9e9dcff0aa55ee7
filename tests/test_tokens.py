"""Tokens: bounds that hold, counts that are right, and no shape of a body that breaks them."""

from __future__ import annotations

import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import tokens
from proxy.tokens import (
    AUDIO_TOKENS,
    FILE_TOKENS,
    GROK_TOKENS,
    IMAGE_4O_MINI_TOKENS,
    IMAGE_ORIGINAL_TOKENS,
    IMAGE_TOKENS,
    IMAGE_TOKENS_TYPICAL,
    LINK_TOKENS,
    REFERENCE_TOKENS_TYPICAL,
    REPLY_TOKENS,
    REQUEST_TOKENS,
    SEARCH_TOKENS,
    SLICE_CHARS,
    TOOLS_TOKENS,
    VIDEO_TOKENS,
    Family,
    bound_input,
    count,
    estimate_input,
    estimate_message,
    family_of,
    input_bound,
    surplus_percent,
    text_of_reply,
    text_of_request,
    warm,
)

RAW_FAMILIES = (Family.O200K, Family.CL100K, Family.LLAMA, Family.DEEPSEEK, Family.QWEN, Family.MISTRAL, Family.GEMMA)
LIGATURE = "\ufdfa"  # NFKC makes 18 characters of this one


def saying(*content: Any) -> dict[str, Any]:
    """Make a request of one message per content."""
    return {"messages": [{"role": "user", "content": item} for item in content]}


def bound_of(body: dict[str, Any], model: str = "") -> int:
    """Bound a body as the gateway does, with the length of what is sent."""
    return input_bound(body, len(orjson.dumps(body)), model=model)


# ---------------------------------------------------------------- families


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o", Family.O200K),
        ("openai/gpt-4o-mini:nitro", Family.O200K),
        ("gpt-4.1", Family.O200K),
        ("gpt-5.4-2026-03-05", Family.O200K),
        ("o3-mini", Family.O200K),
        ("openai/gpt-oss-120b", Family.O200K),
        ("chatgpt-4o-latest", Family.O200K),
        ("gpt-4", Family.CL100K),
        ("gpt-4-turbo-2024-04-09", Family.CL100K),
        ("gpt-3.5-turbo", Family.CL100K),
        ("gpt-35-turbo", Family.CL100K),
        ("claude-2.1", Family.CLAUDE),
        ("claude-3-haiku-20240307", Family.CLAUDE),
        ("anthropic/claude-3.5-sonnet", Family.CLAUDE),
        ("claude-opus-4-20250514", Family.CLAUDE),
        ("claude-opus-4-1-20250805", Family.CLAUDE),
        ("anthropic/claude-sonnet-4.5", Family.CLAUDE),
        ("claude-haiku-4-5@20251001", Family.CLAUDE),
        ("claude-opus-4-6", Family.CLAUDE),
        ("claude-opus-4-7", Family.CLAUDE_NEW),
        ("anthropic/claude-opus-4.8:beta", Family.CLAUDE_NEW),
        ("claude-sonnet-5-5", Family.CLAUDE_NEW),
        ("claude-fable-5", Family.CLAUDE_NEW),
        ("claude-something-else", Family.CLAUDE_NEW),
        ("google/gemini-2.5-pro", Family.GEMMA),
        ("meta-llama/Llama-3.3-70B-Instruct", Family.LLAMA),
        ("deepseek-chat", Family.DEEPSEEK),
        ("Qwen/Qwen3-32B", Family.QWEN),
        ("mistralai/mixtral-8x22b", Family.MISTRAL),
        ("codestral-2508", Family.MISTRAL),
        ("moonshotai/kimi-k3", Family.KIMI),
        ("z-ai/glm-4.6", Family.GLM),
        ("x-ai/grok-4", Family.UNKNOWN),
        ("", Family.UNKNOWN),
    ],
)
def test_a_family_is_told_by_the_name(model: str, family: Family) -> None:
    """Provider prefix, date and variant do not matter; an unknown Claude is a new one, which counts more."""
    assert family_of(model) is family


# ---------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("text", "family", "expected"),
    [
        ("", Family.O200K, 0),
        ("hello world", Family.O200K, 2),
        ("hello world", Family.CL100K, 2),
        ("hello world", Family.CLAUDE, 3),  # 2 * 1.35 = 2.7
        ("hello world", Family.CLAUDE_NEW, 4),  # 2 * 1.75 = 3.5
        ("<|endoftext|>", Family.O200K, 7),  # not the one special token it spells
        ("antidisestablishmentarianism", Family.CL100K, 6),
    ],
)
def test_known_texts_have_known_counts(text: str, family: Family, expected: int) -> None:
    """Counts of the public encodings; a derived family rounds up."""
    assert count(text, family) == expected


@pytest.mark.parametrize("family", list(Family))
def test_every_family_can_count(family: Family) -> None:
    """Each vocabulary a family names is shipped with the tokenizer."""
    assert count("The quick brown fox jumps over the lazy dog.", family) >= 9


def test_a_long_text_counts_in_slices_as_it_would_whole() -> None:
    """Slices are cut where a tokenizer cuts too: nothing is added at the seams."""
    line = "Prices, latencies and 12,345 other figures; naïve façades.\n"
    whole = line * (3 * SLICE_CHARS // len(line))
    assert count(whole, Family.O200K) == count(line, Family.O200K) * (3 * SLICE_CHARS // len(line))


@given(st.text(alphabet="ab \n", max_size=60))
def test_slices_are_short_and_make_up_the_text(text: str) -> None:
    """No character is lost or counted twice, with and without a place to cut."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tokens, "SLICE_CHARS", 7)
        pieces = list(tokens._slices(text))  # noqa: SLF001 -- the seams cannot be seen from outside
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 7 for piece in pieces)


def test_text_beyond_the_cap_counts_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of many megabytes costs no minute of tokenizing, and its count is only too high."""
    monkeypatch.setattr(tokens, "CHARS_MAX", 11)
    assert count("hello world" + "éé", Family.O200K) == 2 + 4


def test_warming_loads_the_vocabularies_of_the_models_in_use() -> None:
    """What is loaded at a start does not keep a request waiting."""
    tokens._tokenizer.cache_clear()  # noqa: SLF001 -- what is loaded cannot be seen from outside
    warm()
    assert tokens._tokenizer.cache_info().currsize == 1  # noqa: SLF001 -- as above
    warm(["openai/gpt-4o", "anthropic/claude-opus-5", "gpt-4"])
    assert tokens._tokenizer.cache_info().currsize == 2  # noqa: SLF001 -- as above


# ---------------------------------------------------------------- bounds


def test_text_is_bounded_by_the_bytes_of_the_body() -> None:
    """A byte-level tokenizer gives no more tokens than bytes."""
    assert input_bound(saying("hello"), 1_000) == 1_000 + REQUEST_TOKENS


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, TOOLS_TOKENS),
        ({"tools": [{"function": {"name": "f"}}, {"type": "custom"}]}, TOOLS_TOKENS),
        ({"functions": [{"name": "f"}]}, TOOLS_TOKENS),
        ({"response_format": {"type": "json_schema"}}, TOOLS_TOKENS),
        ({"plugins": [{"id": "web"}]}, SEARCH_TOKENS),
        ({"web_search_options": {"search_context_size": "low"}}, SEARCH_TOKENS),
        ({"tools": [{"type": "web_search"}]}, TOOLS_TOKENS + SEARCH_TOKENS),
    ],
)
def test_what_the_provider_adds_is_part_of_the_bound(fields: dict[str, Any], added: int) -> None:
    """Instructions for tools and pages found by a search are billed as input."""
    assert input_bound(saying("hi") | fields, 100) == 100 + REQUEST_TOKENS + added


def test_grok_brings_instructions_of_its_own() -> None:
    """Seen in a recorded answer: 680 tokens for a question of three words."""
    assert input_bound(saying("Who are you"), 100, model="x-ai/grok-4") == 100 + GROK_TOKENS


@pytest.mark.parametrize(
    ("part", "inline", "tokens_max"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, 0, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": "https://x/y.png"}, 0, IMAGE_TOKENS),
        ({"type": "input_image", "detail": "original"}, 0, IMAGE_ORIGINAL_TOKENS),
        ({"type": "image_url", "image_url": {"url": "u", "detail": "original"}}, 0, IMAGE_ORIGINAL_TOKENS),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}, 90_022, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, 24, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": "data:text/plain," + "A" * 90}}, 106, FILE_TOKENS),
        ({"type": "image_url", "image_url": 5}, 0, IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "A" * 16_000, "format": "wav"}}, 16_000, 1_000),
        ({"type": "input_audio", "input_audio": {"data": "A" * 100, "format": "flac"}}, 100, AUDIO_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "A" * 60_000}}, 60_000, 60_000),
        ({"type": "input_audio", "input_audio": {"data": None}}, 0, AUDIO_TOKENS),
        ({"type": "input_audio"}, 0, AUDIO_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "gs://x/y", "format": "flac"}}, 0, LINK_TOKENS),
        ({"type": "audio_url", "audio_url": {"url": "https://x/y.mp3"}}, 0, LINK_TOKENS),
        ({"type": "file", "file": {"file_id": "file-1"}}, 0, LINK_TOKENS),
        ({"type": "file", "file": {"file_data": "https://x/y.pdf"}}, 0, LINK_TOKENS),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}, 30, FILE_TOKENS),
        ({"type": "file", "file": {"file_data": "A" * 60_000}}, 60_000, 60_000),
        ({"type": "input_file", "file_data": "A" * 9}, 9, FILE_TOKENS),
        ({"type": "video_url", "video_url": {"url": "http://x/y.mp4"}}, 0, LINK_TOKENS),
        ({"type": "input_video", "video_url": "data:video/mp4;base64,AA"}, 24, VIDEO_TOKENS),
    ],
)
def test_what_is_not_text_counts_by_what_it_may_hold(part: dict[str, Any], inline: int, tokens_max: int) -> None:
    """A reference has a flat bound; a data URL counts by that bound or its bytes, whichever is right for its kind."""
    body = saying([{"type": "text", "text": "See:"}, part])
    assert input_bound(body, 200_000) == 200_000 + REQUEST_TOKENS + tokens_max - inline


def test_gpt_4o_mini_counts_images_many_times_over() -> None:
    """It sells images at the price of its big sister by multiplying their tokens."""
    body = saying([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])
    assert input_bound(body, 0, model="openai/gpt-4o-mini") == REQUEST_TOKENS + IMAGE_4O_MINI_TOKENS


def test_what_an_assistant_made_before_is_read_again() -> None:
    """Images it painted and speech it is remembered by stand in the next request's input."""
    message = {"role": "assistant", "images": [{"type": "image_url", "image_url": {"url": "u"}}], "audio": {"id": "a"}}
    assert input_bound({"messages": [message]}, 0) == REQUEST_TOKENS + IMAGE_TOKENS + AUDIO_TOKENS


@settings(max_examples=200)
@given(st.lists(st.text(max_size=40) | st.just(LIGATURE * 9), max_size=4), st.sampled_from(RAW_FAMILIES))
def test_no_tokenizer_gives_more_tokens_than_the_bound(contents: list[str], family: Family) -> None:
    """Any text in any script, in every vocabulary we have."""
    body = saying(*contents)
    assert count(text_of_request(body), family) <= bound_of(body)


contents = st.text(max_size=60) | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=20)})
    | st.just({"type": "image_url", "image_url": {"url": "https://x/y.png"}})
    | st.just({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    max_size=3,
)


@given(st.lists(contents, max_size=4), st.sampled_from(["gpt-4o", "claude-opus-5", "gemini-2.5-pro", "who-knows"]))
def test_the_tight_bound_is_never_below_the_estimate(messages: list[Any], model: str) -> None:
    """What would be booked for a request without usage fits into its second hold."""
    body = saying(*messages)
    assert estimate_input(body, model) <= bound_input(body, model)


@pytest.mark.parametrize(
    ("model", "percent"),
    [("gpt-4o", 100), ("claude-sonnet-4-5", 135), ("anthropic/claude-opus-5", 175), ("gemini-3-pro", 100), ("x", 100)],
)
def test_a_count_is_raised_where_it_is_a_guess(model: str, percent: int) -> None:
    """Claude's tokenizer is not public; what was measured is added."""
    assert surplus_percent(model) == percent


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Say hello."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ],
)
def test_a_message_counts_as_it_does_in_its_request(message: dict[str, Any]) -> None:
    """Its share of the chat template included."""
    assert estimate_message(message, "gpt-4o") + REPLY_TOKENS == estimate_input({"messages": [message]}, "gpt-4o")


@pytest.mark.parametrize(
    ("plugins", "added"),
    [
        ([], 0),
        ([{"id": "context-compression"}], 0),
        ([{"id": "web", "enabled": False}], 0),
        ([{"id": "web"}], SEARCH_TOKENS),
        ([{"id": "context-compression"}, {"id": "file-parser"}], SEARCH_TOKENS),
        ("web", 0),
    ],
)
def test_a_plugin_may_add_to_the_prompt(plugins: object, added: int) -> None:
    """Those that are on, but for the one that shortens it."""
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    assert input_bound({**body, "plugins": plugins}, 100) - input_bound(body, 100) == added


def test_an_estimate_adds_the_template_and_typical_references() -> None:
    """Three tokens a message, one for a name, three for the reply; an image and a file as they usually are."""
    body = saying("hello world", [{"type": "image_url", "image_url": "u"}, {"type": "file", "file": {"file_id": "f"}}])
    body["messages"][0]["name"] = "ann"
    words = count("hello world\nann", Family.O200K)
    template = 2 * 3 + 1 + REPLY_TOKENS
    assert estimate_input(body, "gpt-4o") == words + template + IMAGE_TOKENS_TYPICAL + REFERENCE_TOKENS_TYPICAL


def test_a_short_recording_is_estimated_by_its_length() -> None:
    """What cannot be more than ten tokens is not estimated at three thousand."""
    body = saying([{"type": "input_audio", "input_audio": {"data": "A" * 160, "format": "mp3"}}])
    assert estimate_input(body, "gpt-4o-audio-preview") == 10 + 3 + REPLY_TOKENS


def test_the_tight_bound_has_a_tenth_and_margins() -> None:
    """2 tokens and a tenth, rounded up, 6 for the message, what the provider adds."""
    assert bound_input(saying("hello world"), "gpt-4o") == 3 + 6 + REQUEST_TOKENS


def test_an_unknown_model_is_bounded_by_its_characters_too() -> None:
    """A third of the characters, when the default vocabulary finds fewer tokens than that."""
    assert bound_input(saying("a" * 3_000), "who-knows") >= 1_100 + REQUEST_TOKENS


def test_claude_is_bounded_after_compatibility_forms_are_spelled_out() -> None:
    """One character that NFKC turns into eighteen cannot slip below the hold."""
    assert bound_input(saying(LIGATURE * 100), "claude-sonnet-5") > 100 * 18 // 2
    assert bound_input(saying(LIGATURE * 100), "gpt-4o") < 100 * 4 + REQUEST_TOKENS
    composed = "e\u0301 " * 1000  # what NFKC makes shorter is tokenized, and never dearer than as it was sent
    assert bound_input(saying(composed), "claude-sonnet-5") <= bound_of(saying(composed), "claude-sonnet-5")


def test_compatibility_forms_are_spelled_out_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """NFKC keeps Python's lock: over megabytes of ligatures it would stop every stream for seconds."""
    lengths: list[int] = []

    def normalize(_form: str, text: str) -> str:
        lengths.append(len(text))
        return text

    monkeypatch.setattr(unicodedata, "normalize", normalize)
    bound_input(saying(LIGATURE * 100_000), "claude-sonnet-5")
    assert sum(lengths) == 100_000
    assert max(lengths) <= tokens.SLICE_CHARS


# ---------------------------------------------------------------- text


def test_all_text_that_reaches_the_model_is_in_the_request() -> None:
    """Messages, names, calls made before, parts of a kind we do not know, tools and the schema of the answer."""
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [{"type": "text", "text": "Hi"}, {"type": "odd", "x": "y"}]},
            {"role": "assistant", "content": None, "refusal": "No.", "function_call": {"name": "g", "arguments": "{}"}},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]},
            {"role": "assistant", "tool_calls": [{"custom": {"name": "h", "input": "free"}}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}], "reasoning_content": "Hm."},
            {"role": "tool", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "Finds."}}],
        "functions": [],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer"}},
    }
    text = text_of_request(body).split("\n")
    assert text == [
        "Be brief.",
        "Hi",
        '{"type":"odd","x":"y"}',
        "ann",
        "No.",
        "g",
        "{}",
        "f",
        '{"a":1}',
        "h",
        "free",
        "Hm.",
        "Never.",
        "42",
        '[{"type":"function","function":{"name":"f","description":"Finds."}}]',
        '{"type":"json_schema","json_schema":{"name":"answer"}}',
    ]


def test_references_hold_no_text() -> None:
    """A data URL is not read as words."""
    body = saying([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    assert text_of_request(body) == ""


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "one"}, "one"),
        ({"content": "b", "reasoning": "a", "reasoning_details": [{"text": "a"}]}, "ab"),
        ({"content": "b", "reasoning": "", "reasoning_content": "a"}, "ab"),
        ({"reasoning_details": [{"text": "a"}, {"summary": "b"}, {"data": "secret"}]}, "ab"),
        ({"audio": {"id": "x", "data": "AAAA", "transcript": "spoken"}}, "spoken"),
        ({"content": [{"type": "text", "text": "a"}, "odd"]}, "a"),
        ({"content": 5, "tool_calls": [{"function": {"name": None, "arguments": "{}"}}, 7]}, "{}"),
        ({}, ""),
    ],
)
def test_the_text_of_a_reply_is_all_a_model_wrote(message: dict[str, Any], text: str) -> None:
    """Reasoning once, though OpenRouter sends it twice; encrypted reasoning cannot be read."""
    assert text_of_reply({"choices": [{"message": message}]}) == text


def test_every_choice_of_a_reply_counts() -> None:
    """All of them are paid for."""
    assert text_of_reply({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}) == "ab"


NAMES = [
    *("type", "content", "text", "image_url", "url", "file", "input_audio", "data", "tool_calls", "function"),
    *("messages", "tools", "choices", "delta", "message", "audio", "images", "reasoning_details", "name"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner | st.sampled_from(["image_url", "file", "input_audio", "video_url", "data:image/png;base64,AA"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["messages", "tools", "choices", "plugins"]), json_values, max_size=4))
def test_no_shape_of_a_body_breaks_a_bound_or_a_text(body: dict[str, Any]) -> None:
    """Bodies come from clients and replies from servers: both may hold anything."""
    assert bound_of(body) >= 0
    assert estimate_input(body, "gpt-4o") <= bound_input(body, "gpt-4o")
    assert isinstance(text_of_reply(body), str)
