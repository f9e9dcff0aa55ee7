"""Plans made to fit: contexts counted off the loop, dialects asked what they can say."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest

from proxy.app.parts import make_codec
from proxy.codecs.wire import Codec
from proxy.errors import ClientError, ContextLengthExceeded
from proxy.gateway.fitting import fit_plan
from proxy.pricing import ModelFacts
from proxy.routing.eligibility import Reason
from proxy.routing.plan import Plan, make_plan
from proxy.routing.table import Catalogue, Dialect, Provider, Target
from proxy.routing.transforms import PromptTokens, count_prompt
from tests.routing.made import ANYONE, plan_of, static, table, target

ONE: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": f"{index}: " + "far away " * 30} for index in range(40)]
}
UNSAYABLE: dict[str, Any] = {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]}]}


def anthropic(name: str = "anthropic/claude-sonnet-4-5", **more: Any) -> Target:
    """Make a target of Anthropic's."""
    return target(name, owner={"dialect": Dialect.ANTHROPIC}, **more)


def sized(name: str, context_tokens: int) -> Target:
    """Make a target of this context."""
    return target(name, facts=ModelFacts(context_tokens=context_tokens))


async def fit(plan: Plan) -> tuple[Plan, list[int]]:
    """Fit it as an exchange does."""
    body = plan.candidates[0].body if plan.candidates else ONE
    return await fit_plan(plan, body_bytes=len(orjson.dumps(dict(body))), codec_of=make_codec)


def names(plan: Plan) -> list[str]:
    """Give the targets left."""
    return [candidate.target.name for candidate in plan.candidates]


# ---------------------------------------------------------------- contexts


async def test_what_surely_fits_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan goes on as it is, with a bound of each input."""
    monkeypatch.setattr("proxy.gateway.fitting.count_prompt", None)
    plan = plan_of(sized("openai/a", 100_000), "groq/b", body=ONE)
    fitted, bounds = await fit(plan)
    assert fitted is plan
    assert len(bounds) == 2
    assert all(bound >= len(orjson.dumps(ONE)) for bound in bounds)


async def test_what_may_be_too_long_is_counted_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each model, and only for those in doubt."""
    seen: list[tuple[str, str]] = []

    def count(body: dict[str, Any], model: str) -> PromptTokens:
        seen.append((model, threading.current_thread().name))
        return count_prompt(body, model)

    monkeypatch.setattr("proxy.gateway.fitting.count_prompt", count)
    plan = plan_of(sized("openai/m", 5_000), sized("azure/m", 5_000), sized("xai/n", 5_000), "groq/m", body=LONG)
    fitted, bounds = await fit(plan)
    assert sorted(model for model, _ in seen) == ["m", "n"]
    assert threading.current_thread().name not in {name for _, name in seen}
    assert (names(fitted), len(bounds)) == (names(plan), 4)


async def test_an_overlong_request_is_refused_or_goes_on() -> None:
    """Before the upstream; the bounds are those of whoever is left."""
    fitted, bounds = await fit(plan_of(sized("openai/a", 100), sized("groq/b", 100_000), body=LONG))
    assert (names(fitted), len(bounds)) == (["groq/b"], 1)
    assert [skip.kind for skip in fitted.skipped] == [Reason.CONTEXT]
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 200 tokens"):
        await fit(plan_of(sized("openai/a", 100), sized("groq/b", 200), body=LONG))


async def test_a_prompt_is_cut_where_that_is_wanted() -> None:
    """And its bound never falls below what is sent."""
    plan = plan_of(sized("openai/gpt-4o", 2_000), body=LONG)
    kept = tuple(candidate._replace(middle_out="ours") for candidate in plan.candidates)
    plan = plan._replace(candidates=kept, skipped=())
    fitted, (bound,) = await fit(plan)
    (candidate,) = fitted.candidates
    assert len(candidate.body["messages"]) < 40
    assert bound >= count_prompt(dict(candidate.body), "gpt-4o").text


async def test_a_default_cap_refuses_nothing() -> None:
    """A cap the client never sent is lowered to what the context leaves (openrouter.md 2.1, note B)."""
    made = target("openai/gpt-4o", facts=ModelFacts(context_tokens=8_192), params={"max_tokens": 8_000})
    routes = table({"chat": [made]})
    planned = make_plan({**LONG, "model": "chat"}, principal=ANYONE, table=routes, facts=Catalogue().find)
    fitted, _ = await fit(planned)
    assert names(fitted) == ["openai/gpt-4o"]


async def test_a_plan_without_candidates_passes() -> None:
    """Who is left out, and why, is told elsewhere."""
    plan = plan_of(body=ONE)
    assert await fit(plan) == (plan, [])


# ---------------------------------------------------------------- dialects


async def test_a_dialect_that_cannot_say_a_request_is_left_out() -> None:
    """Others stay, in their order."""
    fitted, bounds = await fit(plan_of("openai/a", anthropic(), "groq/b", body=UNSAYABLE))
    assert (names(fitted), len(bounds)) == (["openai/a", "groq/b"], 2)
    (skip,) = fitted.skipped
    assert (skip.target.name, skip.kind) == ("anthropic/claude-sonnet-4-5", Reason.ABILITY)
    assert "`file_id`" in skip.reason


async def test_without_any_other_target_the_client_hears_what_cannot_be_said() -> None:
    """400 with the part at fault."""
    with pytest.raises(ClientError, match="`file_id`") as caught:
        await fit(plan_of(anthropic(), anthropic("second/claude-haiku-4-5"), body=UNSAYABLE))
    assert (caught.value.status, caught.value.param) == (400, "messages[0].content[0].file")


@pytest.mark.parametrize(("required", "left"), [(False, 2), (True, 1)])
async def test_a_dialect_that_loses_a_field_is_left_out_where_all_are_required(left: int, *, required: bool) -> None:
    """Otherwise it is called without the field, and the client is told."""
    body = {**ONE, "logit_bias": {"1": 5}}
    fitted, _ = await fit(plan_of(anthropic(), "openai/a", body=body, requires_parameters=required))
    assert len(fitted.candidates) == left
    for skip in fitted.skipped:
        assert (skip.target.provider.dialect, skip.kind) == (Dialect.ANTHROPIC, Reason.CONDITION)
        assert skip.reason == "it does not take logit_bias, and `provider.require_parameters` is set"


async def test_a_request_every_dialect_can_say_keeps_all() -> None:
    """The plan's candidates are the very same."""
    plan = plan_of(anthropic(), "openai/a", body=ONE, requires_parameters=True)
    fitted, _ = await fit(plan)
    assert (fitted.candidates, fitted.skipped) == (plan.candidates, ())


async def test_reasoning_an_openai_model_is_not_known_to_take_counts_as_lost() -> None:
    """Its codec drops it and says so; under `require_parameters` the target is none."""
    body = {**ONE, "reasoning": {"effort": "high"}}
    fitted, _ = await fit(plan_of("openai/a", "or/b", body=body, requires_parameters=True))
    assert names(fitted) == ["or/b"]
    (skip,) = fitted.skipped
    assert (skip.target.name, skip.kind) == ("openai/a", Reason.CONDITION)
    assert skip.reason == "it does not take reasoning, and `provider.require_parameters` is set"
    fitted, _ = await fit(plan_of("openai/a", "or/b", body=body))
    assert names(fitted) == ["openai/a", "or/b"]


@pytest.mark.parametrize("fields", [{}, {"reasoning": {"exclude": True}}, {"reasoning_effort": "high"}, {"seed": 1}])
async def test_what_the_openai_dialect_says_in_full_is_not_lost(fields: dict[str, Any]) -> None:
    """All of it required, the target stays."""
    plan = plan_of("openai/a", body={**ONE, **fields}, requires_parameters=True)
    fitted, _ = await fit(plan)
    assert (fitted.candidates, fitted.skipped) == (plan.candidates, ())


async def test_only_who_must_say_all_is_asked_for_it() -> None:
    """A call in OpenAI's words is not written twice when nothing depends on it, nor ever one of OpenRouter's."""
    plan = plan_of("openai/a", "or/b", body=ONE)
    fitted, _ = await fit_plan(plan, body_bytes=9, codec_of=no_codec)
    assert fitted is plan
    plan = plan_of("or/a", "or/b", body=ONE, requires_parameters=True)
    fitted, _ = await fit_plan(plan, body_bytes=9, codec_of=no_codec)
    assert fitted is plan


def no_codec(_provider: Provider) -> Codec:
    """Fail whoever asks."""
    raise AssertionError("nobody was to be asked")


async def test_a_fixed_answer_stands_when_all_is_required() -> None:
    """It serves whatever is asked."""
    body = {**ONE, "reasoning": {"effort": "high"}}
    fitted, _ = await fit(plan_of("openai/a", static(), body=body, requires_parameters=True))
    assert names(fitted) == ["static/fixed"]


async def test_all_is_required_by_the_operators_word_as_well() -> None:
    """`params: {provider: {require_parameters: true}}` of the model."""
    strict = anthropic(params={"provider": {"require_parameters": True}})
    routes = table({"chat": [strict]})
    body = {**ONE, "model": "chat", "logit_bias": {"1": 5}}
    fitted, _ = await fit(make_plan(body, principal=ANYONE, table=routes, facts=Catalogue().find))
    assert names(fitted) == []
