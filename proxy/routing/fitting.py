"""Prompts and the contexts they must fit into (floor 1b, pure; openrouter.md 2).

A target whose context is known refuses an overlong request here, before the upstream, in OpenRouter's words; where the
request or the alias wants middle-out, its middle is cut instead. Counting takes long, so the caller counts, in a
thread, and only for the candidates named by `list_doubtful`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.errors import ContextLengthExceeded
from proxy.routing.eligibility import Reason, Skipped
from proxy.routing.holds import OUTPUT_TOKENS_FLOOR
from proxy.routing.middle_out import middle_out
from proxy.routing.plan import MIDDLE_OUT, Candidate, Plan
from proxy.routing.principal import OUTPUT_CAPS, asked_output_tokens
from proxy.routing.table import Dialect
from proxy.routing.transforms import PromptTokens, overflow_message, room_of
from proxy.tokens import surplus_percent

CLAUDE_MESSAGES_MAX = 1_000
"""What OpenRouter holds Anthropic's models to when it cuts (openrouter.md 2.1); when we cut for it, so do we."""


def list_doubtful(plan: Plan, input_bounds: Sequence[int]) -> list[int]:
    """Give the candidates whose prompt may be too long: those whose context is below what cheap bounds allow."""
    return [
        index
        for index, (candidate, bound) in enumerate(zip(plan.candidates, input_bounds, strict=True))
        if _may_be_too_long(candidate, bound)
    ]


def fit_contexts(plan: Plan, counts: Mapping[int, PromptTokens]) -> Plan:
    """Cut or leave out what is too long by these counts, by candidate; slow only where it cuts.

    Raises `ContextLengthExceeded`, with the figures of the largest target, when nothing is left and only length stands
    in the way.
    """
    fitted: list[tuple[Candidate, bool]] = []
    skipped = list(plan.skipped)
    overflows: list[tuple[int, str]] = []
    for index, given in enumerate(plan.candidates):
        context = given.target.facts.context_tokens
        counted = counts.get(index)
        if context is None or counted is None:
            fitted.append((given, False))
            continue
        candidate = given if plan.asked_output_tokens is not None else _lower_default(given, counted, context)
        if not _is_too_long(candidate, counted, context):
            fitted.append((candidate, False))
        elif (cut := _cut(candidate, counted, context)) is not None:
            fitted.append((cut, True))
        elif not _is_surely_too_long(candidate, counted, context):
            fitted.append((candidate, False))
        else:
            told = _tell(candidate, counted, context)
            overflows.append((context, told))
            skipped.append(Skipped(candidate.target, told, Reason.CONTEXT))
    if overflows and not fitted:
        message = max(overflows)[1]
        raise ContextLengthExceeded(message, param="messages", metadata={"error_type": "context_length_exceeded"})
    if plan.route.prefers_larger:
        # A fixed answer stays the last resort.
        fitted.sort(key=lambda pair: (pair[0].target.provider.is_static, pair[1]))
    return plan._replace(candidates=tuple(candidate for candidate, _ in fitted), skipped=tuple(skipped))


def _lower_default(candidate: Candidate, counted: PromptTokens, context_tokens: int) -> Candidate:
    """Lower a default output cap, which no client asked for, to what the prompt leaves (openrouter.md 2.1)."""
    cap = asked_output_tokens(candidate.body)
    left = room_of(context_tokens, reserved_output_tokens=0, fixed_tokens=counted.text + counted.tools)
    if cap is None or cap <= left or left < OUTPUT_TOKENS_FLOOR:
        return candidate
    caps = {name: min(value, left) for name in OUTPUT_CAPS if isinstance(value := candidate.body.get(name), int)}
    return candidate._replace(body={**candidate.body, **caps}, output_tokens_max=left)


def _may_be_too_long(candidate: Candidate, input_bound: int) -> bool:
    context = candidate.target.facts.context_tokens
    if context is None or candidate.target.provider.is_static:
        return False
    most = _messages_max(candidate)
    is_crowd = most is not None and len(candidate.body["messages"]) > most
    return is_crowd or input_bound + (asked_output_tokens(candidate.body) or 0) > context


def _is_too_long(candidate: Candidate, counted: PromptTokens, context_tokens: int) -> bool:
    most = _messages_max(candidate)
    is_crowd = most is not None and len(candidate.body["messages"]) > most
    total = counted.text + counted.tools + (asked_output_tokens(candidate.body) or 0)
    return is_crowd or total > context_tokens


def _is_surely_too_long(candidate: Candidate, counted: PromptTokens, context_tokens: int) -> bool:
    """Tell whether it is too long by the lowest count there is; where counts are guesses, the provider decides."""
    least = (counted.text + counted.tools) * 100 // surplus_percent(candidate.target.model)
    return least + (asked_output_tokens(candidate.body) or 0) > context_tokens


def _messages_max(candidate: Candidate) -> int | None:
    target = candidate.target
    is_claude = target.provider.dialect is Dialect.OPENROUTER and target.model.startswith("anthropic/")
    return CLAUDE_MESSAGES_MAX if is_claude and candidate.middle_out == "ours" else None


def _cut(candidate: Candidate, counted: PromptTokens, context_tokens: int) -> Candidate | None:
    """Give the candidate with its middle cut out, None when that is not wanted or does not help."""
    if candidate.middle_out != "ours":
        return None
    room = room_of(
        context_tokens,
        reserved_output_tokens=asked_output_tokens(candidate.body),
        fixed_tokens=counted.fixed,
    )
    cut = middle_out(candidate.body["messages"], counted, room_tokens=room, messages_max=_messages_max(candidate))
    if not cut.fits:
        return None
    told = f"{MIDDLE_OUT}; dropped={cut.dropped}; kept={cut.kept}" if cut.is_cut else None
    return candidate._replace(body={**candidate.body, "messages": cut.messages}, transforms=told)


def _tell(candidate: Candidate, counted: PromptTokens, context_tokens: int) -> str:
    return overflow_message(
        context_tokens,
        text_tokens=counted.text,
        tool_tokens=counted.tools,
        output_tokens=asked_output_tokens(candidate.body),
    )
