"""The rest of a request: the cap on output, sampling, stops, users, tiers, Anthropic's own fields, and what is lost."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pytest

from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError
from tests.codecs.anthropic.asking import MODEL, USER, encode, text, written

THINKS: JsonObject = {"type": "enabled", "budget_tokens": 2_000}


def test_a_call_in_its_plainest_form() -> None:
    """The path behind a base URL that ends in the version, the version's header, and a cap, which is demanded."""
    call = encode()
    assert (call.path, call.is_stream, call.dropped, call.schema_tool) == ("/messages", False, (), None)
    assert call.headers == {"anthropic-version": "2023-06-01"}
    assert orjson.loads(call.body) == {
        "model": MODEL,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("Hi")]}],
    }


def test_a_codec_without_words_about_the_model_asks_for_what_was_asked() -> None:
    """Abilities are optional, as in its Protocol."""
    call = AnthropicCodec().encode({"messages": [USER]}, model="m", output_tokens_max=None)
    assert orjson.loads(call.body)["model"] == "m"


@pytest.mark.parametrize(("stream", "is_stream"), [(True, True), (False, False), (None, False)])
def test_a_stream_is_asked_for(stream: Any, is_stream: bool) -> None:
    """`stream_options` mean nothing to Anthropic: it always counts."""
    call = encode(stream=stream, stream_options={"include_usage": True})
    assert call.is_stream is is_stream
    assert orjson.loads(call.body).get("stream", False) is is_stream
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("named", "ceiling", "cap", "expected", "dropped"),
    [
        ({}, None, None, 4096, ()),
        ({}, 64_000, None, 64_000, ()),
        ({}, None, 100, 100, ()),
        ({}, None, 100_000, 100_000, ()),
        ({}, 64_000, 100, 100, ()),
        ({}, 100, 64_000, 100, ()),
        ({"max_tokens": 10}, None, None, 10, ()),
        ({"max_tokens": 10}, 64_000, 100, 10, ()),
        ({"max_tokens": 1_000}, 64_000, 100, 100, ()),
        ({"max_completion_tokens": 10, "max_tokens": 20}, None, None, 20, ()),
        ({"max_completion_tokens": 20, "max_tokens": 10}, None, None, 20, ()),
        ({"max_completion_tokens": None, "max_tokens": 10}, None, None, 10, ()),
        ({"max_tokens": 100_000}, 64_000, None, 64_000, ("max_tokens",)),
        ({"max_completion_tokens": 70_000, "max_tokens": 5}, 64_000, 10, 10, ("max_completion_tokens",)),
    ],
)
def test_the_cap_on_output(
    named: JsonObject, ceiling: int | None, cap: int | None, expected: int, dropped: tuple[str, ...]
) -> None:
    """The client's, of two the higher, below the model's ceiling and ours; never above what is held."""
    call = encode(cap=cap, abilities=Abilities(output_tokens_max=ceiling), **named)
    assert orjson.loads(call.body)["max_tokens"] == expected
    assert call.dropped == dropped


@pytest.mark.parametrize("cap", [0, -1, "10", 1.5, [], {}])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_cap_that_is_none_is_refused(name: str, cap: Any) -> None:
    """Rather than guessed."""
    with pytest.raises(ClientError) as caught:
        encode(**{name: cap})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("asked", "more", "kept", "dropped"),
    [
        ({"temperature": 0.5}, {}, {"temperature": 0.5}, ()),
        ({"temperature": 0}, {}, {"temperature": 0}, ()),
        ({"temperature": 1}, {}, {"temperature": 1}, ()),
        ({"temperature": 1.5}, {}, {"temperature": 1}, ("temperature",)),
        ({"temperature": 2}, {}, {"temperature": 1}, ("temperature",)),
        ({"temperature": None, "top_p": None, "top_k": None}, {}, {}, ()),
        ({"top_p": 0.5, "top_k": 40}, {}, {"top_p": 0.5, "top_k": 40}, ()),
        ({"top_k": 0}, {}, {}, ()),
        ({"temperature": 0.5, "top_p": 0.5}, {}, {"temperature": 0.5}, ("top_p",)),
        ({"temperature": 0.5, "top_p": 1}, {}, {"temperature": 0.5}, ()),
        ({"temperature": 1, "top_p": 0.5}, {}, {"top_p": 0.5}, ()),
        ({"temperature": 1, "top_p": 1}, {}, {"temperature": 1}, ()),
        ({"temperature": 1.5, "top_p": 0.5}, {}, {"top_p": 0.5}, ("temperature",)),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"thinking": THINKS}, {}, ("temperature", "top_p", "top_k")),
        ({"temperature": 1, "top_p": 0.95}, {"thinking": THINKS}, {"top_p": 0.95}, ()),
        ({"temperature": 0.5}, {"thinking": {"type": "disabled"}}, {"temperature": 0.5}, ()),
    ],
)
def test_sampling(asked: JsonObject, more: JsonObject, kept: JsonObject, dropped: tuple[str, ...]) -> None:
    """Within Anthropic's range, not two at once, and hardly any while the model thinks."""
    call = encode(**asked, **more)
    body = orjson.loads(call.body)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == kept
    assert call.dropped == dropped


@pytest.mark.parametrize(
    ("asked", "dropped"),
    [
        ({"temperature": 0.5, "top_p": 0.99, "top_k": 3}, ("temperature", "top_p", "top_k")),
        ({"temperature": 1, "top_p": 1}, ()),
    ],
)
def test_a_model_without_sampling_is_given_none(asked: JsonObject, dropped: tuple[str, ...]) -> None:
    """What asks for the default is no loss."""
    call = encode(**asked, abilities=Abilities(sampling=False))
    assert not {"temperature", "top_p", "top_k"} & set(orjson.loads(call.body))
    assert call.dropped == dropped


@pytest.mark.parametrize("value", ["hot", True, -0.5, [1]])
@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_by_no_number_is_refused(name: str, value: Any) -> None:
    """Rather than left out."""
    with pytest.raises(ClientError) as caught:
        encode(**{name: value})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("stop", "sent", "dropped"),
    [
        ("END", ["END"], ()),
        (["A", " B "], ["A", " B "], ()),
        (["A", "\n", ""], ["A"], ("stop",)),
        ("\n\n", None, ("stop",)),
        ([], None, ()),
        (None, None, ()),
    ],
)
def test_stops(stop: Any, sent: list[str] | None, dropped: tuple[str, ...]) -> None:
    """White space alone would be refused; that it is left out is told."""
    call = encode(stop=stop)
    assert orjson.loads(call.body).get("stop_sequences") == sent
    assert call.dropped == dropped


@pytest.mark.parametrize("stop", [5, [5], {"a": "b"}, ["A", None]])
def test_a_stop_that_is_no_text_is_refused(stop: Any) -> None:
    """As OpenAI does."""
    with pytest.raises(ClientError) as caught:
        encode(stop=stop)
    assert caught.value.param == "stop"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"user": "ann@mail.example"}, "ann@mail.example"),
        ({"safety_identifier": "x"}, "x"),
        ({"metadata": {"user_id": "y", "team": "z"}}, "y"),
        ({"user": "u", "safety_identifier": "x", "metadata": {"user_id": "y"}}, "u"),
        ({"user": "", "safety_identifier": "x"}, "x"),
        ({"user": "", "metadata": {"team": "z"}}, None),
        ({"user": 5, "metadata": "x"}, None),
        ({}, None),
    ],
)
def test_a_user_is_told_by_a_digest(fields: JsonObject, name: str | None) -> None:
    """Never by name: Anthropic refuses addresses and numbers, and it is none of its business."""
    digest = {"user_id": hashlib.sha256(name.encode()).hexdigest()} if name else None
    call = encode(**fields)
    assert orjson.loads(call.body).get("metadata") == digest
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("tier", "sent", "dropped"),
    [
        ("auto", "auto", ()),
        ("default", "standard_only", ()),
        ("standard_only", "standard_only", ()),
        ("flex", None, ("service_tier",)),
        ("priority", None, ("service_tier",)),
        (5, None, ("service_tier",)),
        (None, None, ()),
    ],
)
def test_service_tiers(tier: Any, sent: str | None, dropped: tuple[str, ...]) -> None:
    """Anthropic's two have their names; others cannot be had there."""
    call = encode(service_tier=tier)
    assert orjson.loads(call.body).get("service_tier") == sent
    assert call.dropped == dropped


def test_fields_of_anthropic_s_own_pass() -> None:
    """As they came; a client that writes them knows whom it speaks to."""
    own: JsonObject = {
        "thinking": {"type": "enabled", "budget_tokens": 2_000, "x": 1},
        "top_k": 5,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    }
    call = encode(**own)
    body = orjson.loads(call.body)
    assert {name: body.get(name) for name in own} == {**own, "top_k": None}
    assert call.dropped == ("top_k",)  # not while it thinks
    assert call.headers["anthropic-beta"] == "context-management-2025-06-27"


def test_compaction_has_a_header_of_its_own() -> None:
    """An edit of unknown kind adds none."""
    call = encode(context_management={"edits": [{"type": "compact_20260112"}, {"type": "new"}, 5]})
    assert call.headers["anthropic-beta"] == "context-management-2025-06-27,compact-2026-01-12"
    assert "anthropic-beta" not in encode(context_management={}).headers


@pytest.mark.parametrize("name", ["thinking", "cache_control", "output_config", "context_management"])
def test_fields_of_anthropic_s_own_are_objects(name: str) -> None:
    """Anything else is refused by name."""
    body: JsonObject = {name: "x"}
    with pytest.raises(ClientError) as caught:
        encode(**body)
    assert caught.value.param == name


HARMLESS: JsonObject = {
    "metadata": {"a": "b"},
    "store": True,
    "stream_options": {},
    "usage": {"include": True},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "models": ["a"],
    "route": "fallback",
    "provider": {"only": ["x"]},
    "plugins": [],
    "transforms": [],
    "preset": "p",
    "include_reasoning": True,
    "session_id": "s",
    "trace": {},
    "debug": {},
    "stop_server_tools_when": [],
    "turnpike": {"x": 1},
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1,
    "min_p": 0,
    "top_a": 0,
    "modalities": ["text"],
    "seed": None,
    "x_new": None,
}
LOST: JsonObject = {
    "n": 2,
    "logprobs": True,
    "top_logprobs": 3,
    "logit_bias": {"5": 1},
    "frequency_penalty": 0.5,
    "presence_penalty": -1,
    "repetition_penalty": 1.1,
    "min_p": 0.1,
    "top_a": 0.1,
    "modalities": ["text", "audio"],
    "seed": 0,
    "prediction": {},
    "audio": {},
    "functions": [],
    "function_call": "auto",
    "web_search_options": {},
    "image_config": {},
    "container": "c",
    "mcp_servers": [],
    "speed": "fast",
    "x_new": 1,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_change_the_answer_is_left_out_without_a_word(name: str) -> None:
    """Fields read elsewhere, and those that ask for what is done anyway."""
    call = encode(**{name: HARMLESS[name]})
    assert call.dropped == ()
    assert set(orjson.loads(call.body)) == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize("name", LOST)
def test_what_would_change_the_answer_is_named(name: str) -> None:
    """Left out, since Anthropic refuses what it does not know, and told to the client."""
    call = encode(**{name: LOST[name]})
    assert call.dropped == (name,)
    assert set(orjson.loads(call.body)) == {"model", "max_tokens", "messages"}


def test_losses_are_named_once_and_not_without_end() -> None:
    """And a name that could break out of a header is not."""
    odd: JsonObject = {"evil\r\nheader": 1, "ü": 1, "x" * 65: 1, "": 1, "good.one": 1}
    assert encode(**odd).dropped == ("good.one",)
    many: JsonObject = {f"x_{number}": 1 for number in range(50)}
    assert len(encode(**many).dropped) == 20
    body: JsonObject = {"temperature": 1.5, "thinking": THINKS}
    assert encode(**body).dropped == ("temperature",)


def test_a_body_is_written_for_the_provider_s_own_model() -> None:
    """Whatever the client calls it."""
    assert written()["model"] == MODEL
