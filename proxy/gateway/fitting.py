"""Plans made to fit (part of the gateway, floor 4): contexts counted in a thread, dialects asked what they can say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proxy.codecs.wire import Codec
from proxy.errors import ClientError
from proxy.gateway.admission import bound_cheaply
from proxy.routing.eligibility import Reason, Skipped
from proxy.routing.fitting import fit_contexts, list_doubtful
from proxy.routing.plan import Candidate, Plan
from proxy.routing.table import Dialect, Provider
from proxy.routing.transforms import PromptTokens, count_prompt

CodecOf = Callable[[Provider], Codec]
TRANSLATED = frozenset({Dialect.ANTHROPIC, Dialect.GOOGLE})
"""Dialects with things they cannot say: whether a request has one is known only by writing it."""


async def fit_plan(plan: Plan, *, body_bytes: int, codec_of: CodecOf) -> tuple[Plan, list[int]]:
    """Leave out or cut what cannot be sent as it is; gives the plan with a cheap bound of each candidate's input.

    Raises `ContextLengthExceeded` when every target is too small, and the `ClientError` of a dialect when nothing is
    left because of it.
    """
    if any([_is_doubtful(candidate, plan) for candidate in plan.candidates]):  # noqa: C419  # a list is quicker
        plan = _keep_sayable(plan, codec_of)
    bounds = bound_cheaply(plan, body_bytes)
    doubtful = list_doubtful(plan, bounds)
    if not doubtful:
        return plan, bounds
    plan = await asyncio.to_thread(_fit_slowly, plan, doubtful)
    return plan, bound_cheaply(plan, body_bytes)


def _fit_slowly(plan: Plan, doubtful: Sequence[int]) -> Plan:
    """Count each family of models once, then cut."""
    by_model: dict[str, PromptTokens] = {}
    counts: dict[int, PromptTokens] = {}
    for index in doubtful:
        candidate = plan.candidates[index]
        model = candidate.target.model
        if model not in by_model:
            by_model[model] = count_prompt(dict(candidate.body), model)
        counts[index] = by_model[model]
    return fit_contexts(plan, counts)


def _keep_sayable(plan: Plan, codec_of: CodecOf) -> Plan:
    """Leave out targets whose dialect cannot say what the request asks, or not all of it when all of it is required."""
    kept: list[Candidate] = []
    skipped = list(plan.skipped)
    refusal: ClientError | None = None
    for candidate in plan.candidates:
        try:
            lost = _find_lost(candidate, codec_of)
        except ClientError as error:
            refusal = refusal or error
            skipped.append(Skipped(candidate.target, error.message, Reason.ABILITY))
            continue
        if lost and plan.requires_parameters:
            told = f"it does not take {', '.join(lost)}, and `provider.require_parameters` is set"
            skipped.append(Skipped(candidate.target, told, Reason.CONDITION))
        else:
            kept.append(candidate)
    if refusal is not None and not kept:
        raise refusal
    return plan._replace(candidates=tuple(kept), skipped=tuple(skipped))


def _is_doubtful(candidate: Candidate, plan: Plan) -> bool:
    """Tell whether only writing the call can show what gets lost; OpenRouter takes everything as it is."""
    dialect = candidate.target.provider.dialect
    return dialect in TRANSLATED or (plan.requires_parameters and dialect is not Dialect.OPENROUTER)


def _find_lost(candidate: Candidate, codec_of: CodecOf) -> tuple[str, ...]:
    target = candidate.target
    if target.provider.dialect is Dialect.OPENROUTER or target.provider.is_static:
        return ()
    return (
        codec_of(target.provider)
        .encode(dict(candidate.body), model=target.model, output_tokens_max=None, abilities=target.abilities)
        .dropped
    )
