"""What a client hears of its routing, and what OpenRouter's fields do to a request on its whole way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.codecs.wire import Surface
from proxy.errors import ClientError, ContextLengthExceeded, NotFound, PermissionRefused
from proxy.gateway.exchange import Exchange
from proxy.pricing import ModelFacts
from proxy.routing.principal import Principal
from proxy.routing.table import Dialect, Route, Table, Target
from tests.gateway.stage import (
    FACTS,
    PRICES,
    Stage,
    a_provider,
    a_stage,
    a_table,
    a_target,
    refused,
    streamed,
    whole,
)
from tests.gateway.telling import refuse, states, tell

ASKS = {"x-openrouter-metadata": "enabled"}
CUT: dict[str, Any] = {"transforms": ["middle-out"]}
LONG = [{"role": "user", "content": f"{index}: " + "far away " * 30} for index in range(40)]


def routed(name: str, *, facts: ModelFacts = FACTS) -> Target:
    """Make a target of OpenRouter's."""
    return replace(a_target(name, facts=facts), provider=a_provider(name.partition("/")[0], dialect=Dialect.OPENROUTER))


def sent(stage: Stage) -> list[Any]:
    """Give the bodies sent upstream."""
    return [body for _, body in stage.upstream.calls]


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_cut_is_told_in_a_header(*, is_stream: bool) -> None:
    """With what went and what stayed, and the upstream got what stayed."""
    small = a_target("one/gpt-4o", facts=ModelFacts(PRICES, context_tokens=2_000))
    stage = await a_stage(streamed() if is_stream else whole(), table=a_table(small))
    told = await tell(stage, stage.asked(messages=LONG, stream=is_stream, **CUT))
    kept = len(sent(stage)[0]["messages"])
    assert kept < 40
    assert told.answer.headers.get("x-turnpike-transforms") == f"middle-out; dropped={40 - kept}; kept={kept}"


async def test_what_openrouter_may_cut_is_told_in_a_header() -> None:
    """It does not say whether it did."""
    stage = await a_stage(whole(), table=a_table(routed("or/m", facts=ModelFacts(PRICES))))
    told = await tell(stage, stage.asked(**CUT))
    assert told.answer.headers.get("x-turnpike-transforms") == "middle-out; by=openrouter"
    assert sent(stage)[0]["transforms"] == ["middle-out"]


async def test_what_a_target_does_not_take_is_told_in_a_header() -> None:
    """Left out by the plan and by the codec."""
    fussy = a_target("one/m", facts=replace(FACTS, capabilities={"unsupported": frozenset({"top_k"})}))
    stage = await a_stage(whole(), table=a_table(fussy))
    told = await tell(stage, stage.asked(top_k=4, reasoning={"effort": "high"}))
    assert told.answer.headers.get("x-turnpike-dropped") == "top_k, reasoning"
    assert not {"top_k", "reasoning"} & sent(stage)[0].keys()


async def test_what_was_left_alone_is_not_told() -> None:
    """No header says nothing."""
    stage = await a_stage(whole())
    told = await tell(stage, stage.asked(**CUT))
    assert not {"x-turnpike-transforms", "x-turnpike-dropped"} & told.answer.headers.keys()
    assert "transforms" not in sent(stage)[0]


# ---------------------------------------------------------------- metadata


async def test_an_answer_tells_its_routing_to_who_asked() -> None:
    """Who was tried, who served; OpenRouter tells its own."""
    stage = await a_stage(refused(500), whole(), table=a_table("one/m", "two/m"))
    told = await tell(stage, stage.asked(forwarded=ASKS))
    made = orjson.loads(told.body)["openrouter_metadata"]
    assert (made["requested"], made["strategy"], made["attempt"]) == ("chat", "fallback", 2)
    assert [part["selected"] for part in made["endpoints"]["available"]] == [False, True]
    quiet = await a_stage(whole())
    assert "openrouter_metadata" not in orjson.loads((await tell(quiet, quiet.asked())).body)
    theirs = await a_stage(whole(), table=a_table(routed("or/m")))
    assert "openrouter_metadata" not in orjson.loads((await tell(theirs, theirs.asked(forwarded=ASKS))).body)


async def test_a_stream_tells_its_routing_in_the_last_chunk() -> None:
    """Once."""
    stage = await a_stage(streamed())
    told = await tell(stage, stage.asked(stream=True, forwarded=ASKS, surface=Surface.OPENROUTER))
    having = [index for index, chunk in enumerate(told.chunks) if "openrouter_metadata" in chunk]
    assert having == [len(told.chunks) - 2]


async def test_a_failure_tells_its_routing() -> None:
    """Nobody served; before there was a plan there is nothing to tell."""
    stage = await a_stage(refused(500), table=a_table("one/m", "two/m"))
    _, exchange = await refuse(stage, stage.asked(forwarded=ASKS))
    routing = exchange.routing()
    assert routing is not None
    assert (routing["attempt"], [part["status"] for part in routing["attempts"]]) == (2, [500, 500])
    assert (await refuse(stage, stage.asked()))[1].routing() is None
    assert Exchange(stage.asked(forwarded=ASKS), stage.service).routing() is None


# ---------------------------------------------------------------- refused before the upstream


async def test_an_overlong_request_costs_nothing() -> None:
    """No call, no hold, no row."""
    stage = await a_stage(whole(), table=a_table(a_target("one/m", facts=ModelFacts(PRICES, context_tokens=500))))
    error, _ = await refuse(stage, stage.asked(messages=LONG))
    assert isinstance(error, ContextLengthExceeded)
    assert (stage.upstream.calls, await stage.rows()) == ([], [])


async def test_privacy_nobody_vouches_for_costs_nothing() -> None:
    """404 in OpenRouter's words."""
    stage = await a_stage(whole())
    error, _ = await refuse(stage, stage.asked(provider={"zdr": True}))
    assert isinstance(error, NotFound)
    assert error.message.startswith("No endpoints found matching your data policy.")
    assert (stage.upstream.calls, await stage.rows()) == ([], [])


# ---------------------------------------------------------------- models


MODELS = Table(
    "t",
    {},
    {
        "chat": Route("chat", (routed("or/a"),)),
        "next": Route("next", (a_target("one/b", facts=replace(FACTS, prices=PRICES)),)),
        "secret": Route("secret", (a_target("two/c"),)),
    },
)


async def test_every_model_tried_has_its_row() -> None:
    """The client's `models` are our own chain and never sent on."""
    stage = await a_stage(refused(502), whole(), table=MODELS)
    told = await tell(stage, stage.asked(models=["next"], route="fallback"))
    assert [(row.provider, row.model) for row in await stage.rows()] == [("or", "a"), ("one", "b")]
    assert [state for state, _ in await states(stage)] == ["voided", "posted"]
    assert told.answer.headers["x-turnpike-provider"] == "one"
    assert all(not {"models", "route"} & body.keys() for body in sent(stage))
    assert sent(stage)[0]["provider"]["max_price"] == {"prompt": 1.0, "completion": 2.0}


async def test_a_model_off_the_keys_list_is_refused_wherever_it_is_named() -> None:
    """403 before anything is called."""
    stage = await a_stage(whole(), table=MODELS)
    asked = stage.asked(models=["secret"])
    listed = replace(asked, principal=Principal("app", models=("chat", "next"), has_budget=True))
    error, _ = await refuse(stage, listed)
    assert isinstance(error, PermissionRefused)
    assert stage.upstream.calls == []


async def test_a_wish_that_contradicts_itself_is_refused_before_any_call() -> None:
    """The same request gets the same answer whether the first target is up or not."""
    stage = await a_stage(refused(502), whole(), table=a_table(routed("or/a"), "one/b"))
    error, _ = await refuse(stage, stage.asked(reasoning={"effort": "high"}, reasoning_effort="low"))
    assert isinstance(error, ClientError)
    assert stage.upstream.calls == []
