"""What a client hears of it: parameters left out, how it was routed, streams that break, the last resort."""

from __future__ import annotations

from typing import Any

import pytest

from tests.behaviours.openrouter import SURFACES, Stage, events_of, text_of
from tests.faults import makers
from tests.faults.client import Ended
from tests.faults.steps import Mode

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_parameter_a_target_refuses_is_not_sent(stage: Stage) -> None:
    """The answer comes all the same: a backup is a backup."""
    answer = await stage.ask("picky", logprobs=True, top_logprobs=2, temperature=0.1)
    assert answer.status == 200
    sent = stage.sent("one")
    assert not {"logprobs", "top_logprobs"} & set(sent)
    assert sent["temperature"] == 0.1


async def test_the_header_names_what_was_dropped_for_a_provider(stage: Stage) -> None:
    """What its entry in the catalogue says it does not take."""
    answer = await stage.ask("picky", logprobs=True, top_logprobs=2, temperature=0.1)
    assert answer.headers["x-turnpike-dropped"] == "logprobs, top_logprobs"


async def test_the_header_names_what_a_dialect_cannot_say(stage: Stage) -> None:
    """Anthropic has no seed and no penalties; what it has goes out."""
    answer = await stage.ask("sonnet", seed=1, presence_penalty=0.5, top_k=5, max_tokens=50)
    assert answer.status == 200
    assert set(answer.headers["x-turnpike-dropped"].split(", ")) == {"presence_penalty", "seed"}
    assert stage.sent("claude")["top_k"] == 5


@pytest.mark.parametrize(("model", "fields"), [("picky", {"logprobs": True}), ("sonnet", {"seed": 1})])
async def test_required_parameters_are_not_dropped(stage: Stage, model: str, fields: dict[str, Any]) -> None:
    """`require_parameters`: a target that would leave one out is none, and the next one answers."""
    wanted = {"require_parameters": True}
    answer = await stage.ask(model, provider=wanted, **fields)
    assert (answer.status, stage.calls) == (404, 0)
    answer = await stage.ask(model, models=["b"], provider=wanted, **fields)
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, "two")
    assert set(fields) <= set(stage.sent("two"))
    assert "x-turnpike-dropped" not in answer.headers


# ---------------------------------------------------------------- metadata, broken streams


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_metadata_tells_how_it_was_routed(stage: Stage, surface: str, *, is_stream: bool) -> None:
    """With `X-OpenRouter-Metadata: enabled` only: who was asked, who was tried, who served."""
    fields: dict[str, Any] = {"stream": is_stream, "models": ["sonnet"], "surface": surface}
    if is_stream:
        fields["stream_options"] = {"include_usage": True}
    answer = await stage.ask("broken", headers={"X-OpenRouter-Metadata": "enabled"}, **fields)
    told = [chunk for chunk in (events_of(answer) if is_stream else [answer.json]) if "openrouter_metadata" in chunk]
    assert len(told) == 1
    metadata = told[0]["openrouter_metadata"]
    assert (metadata["requested"], metadata["strategy"], metadata["attempt"]) == ("broken", "fallback", 2)
    assert [(one["provider"], one["status"]) for one in metadata["attempts"]] == [("one", 502), ("claude", 200)]
    assert [one["selected"] for one in metadata["endpoints"]["available"]] == [False, True]
    answer = await stage.ask("broken", **fields)
    assert b"openrouter_metadata" not in answer.body


async def test_metadata_stands_beside_an_error(stage: Stage) -> None:
    """Where nobody served there is nobody selected."""
    answer = await stage.ask("broken", surface="/api/v1", headers={"X-OpenRouter-Metadata": "enabled"})
    assert answer.status == 502
    metadata = answer.json["openrouter_metadata"]
    assert [one["selected"] for one in metadata["endpoints"]["available"]] == [False]


@pytest.mark.parametrize(
    ("model", "name", "mode"),
    [
        ("sonnet", "claude", makers.error_event_anthropic()),
        ("flash", "gemini", makers.error_event_gemini()),
    ],
)
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_translated_stream_that_breaks_says_so(
    stage: Stage, model: str, name: str, mode: Mode, surface: str
) -> None:
    """OpenRouter's frame on `/api/v1`, the error alone on `/v1`; no `[DONE]`, no clean end, and it is booked."""
    stage.ups[name].replace_script([mode])
    answer = await stage.ask(model, stream=True, surface=surface)
    assert (answer.status, answer.end) == (200, Ended.CUT)
    assert b"[DONE]" not in answer.body
    *said, last = events_of(answer)
    deltas = [choice["delta"] for chunk in said for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == makers.TEXT
    if surface == "/v1":
        assert set(last) == {"error"}
        assert isinstance(last["error"]["code"], str)
    else:
        assert isinstance(last["error"]["code"], int)
        assert last["choices"][0]["finish_reason"] == "error"
        assert (last["id"], last["model"], last["provider"]) == (said[0]["id"], said[0]["model"], name)
    (row,) = await stage.rows(answer)
    assert (row.state, row.usage.input_tokens) == ("posted", makers.TOKENS.prompt)
    assert row.cost_nano_usd
    assert row.error


# ---------------------------------------------------------------- the last resort


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_fixed_answer_when_all_else_fails(stage: Stage, surface: str, *, is_stream: bool) -> None:
    """200 with the operator's text behind two failures, free, with a row of its own."""
    answer = await stage.ask("last", stream=is_stream, surface=surface)
    assert (answer.status, answer.end) == (200, Ended.COMPLETE)
    assert (answer.headers["x-turnpike-provider"], answer.headers["x-turnpike-attempts"]) == ("static", "3")
    if is_stream:
        deltas = [choice["delta"] for chunk in events_of(answer) for choice in chunk["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Please try again later."
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert text_of(answer) == "Please try again later."
        assert answer.headers["x-turnpike-cost"] == "0.000000000"
        assert answer.json["usage"]["cost"] == 0
    rows = await stage.rows(answer)
    assert [(row.provider, row.error) for row in rows] == [
        ("one", "server_error"),
        ("two", "rate_limited"),
        ("static", None),
    ]
    assert [row.cost_nano_usd for row in rows] == [0, 0, 0]


async def test_a_fixed_answer_stands_under_privacy_and_tools(stage: Stage) -> None:
    """It sends nothing anywhere, so no condition keeps it away: the open target in front of it is not asked."""
    answer = await stage.ask("static-behind-claude", provider={"zdr": True}, tools=[a_tool()])
    assert (answer.status, text_of(answer)) == (200, "Please try again later.")
    assert stage.calls == 0


def a_tool() -> dict[str, Any]:
    """Write a tool."""
    return {"type": "function", "function": {"name": "wind", "parameters": {"type": "object", "properties": {}}}}
