"""What every ledger decides alike about late truths (floor 2, pure): what changes, and what the journal says of it."""

from __future__ import annotations

from typing import NamedTuple

from proxy.ledger.admission import ERROR_OWNER_DIED, ERROR_UNSETTLED, PendingAttempt
from proxy.ledger.records import AttemptState
from proxy.ledger.resolution import Correction, Progress, ProgressByAttempt, Truth
from proxy.usage import CostSource

ERRORS_GIVEN_UP = (ERROR_OWNER_DIED, ERROR_UNSETTLED)
"""What was posted under these was booked by somebody who did not know; who does may still say so."""
_SOURCES = tuple(CostSource)
"""Best first."""


class Dead(NamedTuple):
    """A process that no longer lives, and what it left word of."""

    owner_id: str
    now_s: float
    progress: ProgressByAttempt


class Booked(NamedTuple):
    """An attempt as it stands in the books."""

    attempt: PendingAttempt
    state: AttemptState
    cost_nano_usd: int | None
    cost_source: CostSource | None
    tokens: int
    """Counted so far, 0 when nobody did."""


class Change(NamedTuple):
    """What a truth changes."""

    state: AttemptState
    posted_nano_usd: int
    """Difference of the balances' posted side."""
    held_nano_usd: int
    tokens: int
    """Difference for the rates of tokens."""
    is_overrun: bool
    correction: Correction | None
    """None: it is the first that is booked."""


class Verdict(NamedTuple):
    """What becomes of a dead owner's attempt."""

    can_look_up: bool
    estimate_nano_usd: int | None
    progress: Progress | None


def judge_dead(attempt: PendingAttempt, progress: ProgressByAttempt) -> Verdict:
    """Tell what is known of an attempt whose owner died; an estimate never goes beyond what was held."""
    known = progress.get((attempt.request_id, attempt.number))
    if known is None:
        return Verdict(can_look_up=False, estimate_nano_usd=None, progress=None)
    cost = known.cost_nano_usd
    estimate = None if cost is None or not attempt.is_priced else min(cost, attempt.hold_nano_usd)
    return Verdict(known.can_look_up and known.generation_id is not None, estimate, known)


def judge_truth(booked: Booked, truth: Truth) -> Change | None:
    """Tell what a truth changes; None when the attempt is still open, or nothing better is said than is known."""
    attempt, state = booked.attempt, booked.state
    cost = truth.cost_nano_usd or 0
    is_known = _is_worse(truth.cost_source, booked.cost_source) or (state is AttemptState.VOIDED and not cost)
    if state is AttemptState.PENDING or is_known:
        return None
    is_first = state is AttemptState.UNRESOLVED
    was = 0 if is_first else booked.cost_nano_usd or 0
    correction = Correction(booked.cost_nano_usd, booked.cost_source, cost - was, truth.cost_source, truth.reason)
    return Change(
        state=AttemptState.VOIDED if truth.cost_source is None else AttemptState.POSTED,
        posted_nano_usd=cost - was,
        held_nano_usd=-attempt.hold_nano_usd if is_first else 0,
        tokens=_find_token_difference(booked, truth),
        is_overrun=cost > attempt.hold_nano_usd,
        correction=None if is_first else correction,
    )


def is_given_up(state: AttemptState, error: str | None) -> bool:
    """Tell whether an attempt's own settlement would still be news."""
    return state is AttemptState.UNRESOLVED or (state is AttemptState.POSTED and error in ERRORS_GIVEN_UP)


def judge_exhausted(attempt: PendingAttempt, estimate_nano_usd: int | None) -> tuple[int | None, CostSource]:
    """Tell what is booked when nobody could be asked in time: the checkpoint, else the whole hold."""
    if not attempt.is_priced:
        return None, CostSource.UNKNOWN
    if estimate_nano_usd is None:
        return attempt.hold_nano_usd, CostSource.HELD
    return estimate_nano_usd, CostSource.ESTIMATED


def _is_worse(told: CostSource | None, booked: CostSource | None) -> bool:
    return told is not None and booked is not None and _SOURCES.index(told) > _SOURCES.index(booked)


def _find_token_difference(booked: Booked, truth: Truth) -> int:
    reserve = booked.attempt.reserve
    if reserve is None:
        return 0
    known = booked.tokens or (0 if booked.state is AttemptState.VOIDED else reserve.tokens)
    if truth.cost_source is None:
        return -known
    usage = truth.usage
    return (usage.input_tokens + usage.output_tokens or known) - known
