"""What every ledger decides alike (floor 2, pure): who is let in, under which id, how attempts end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from proxy.ledger.records import Admission, Admitted, Advance, AttemptEnd, AttemptState, KeyGone, Refused
from proxy.money import Budget
from proxy.policy.limits import Balance, Window, find_shortfall, find_window

ERROR_OWNER_DIED = "owner_died"
"""`error` of an attempt whose process died while it was pending."""
ERROR_UNSETTLED = "unsettled"
"""`error` of an attempt that was still pending when its request was settled without naming it."""
ERROR_ABANDONED = "client_left"
"""`error` of an attempt that never began, because its caller had left before it was told that it may."""


Outcome = Admitted | Refused | KeyGone
FindBalance = Callable[[str, Window], Balance]
"""Gives the balance of a key's window, as it stands in the same transaction."""


class KeyState(NamedTuple):
    """What an admission must know of its key, as it stands in the same transaction."""

    is_enabled: bool
    expires_at_s: float | None
    revision: int
    budget: Budget | None


class PendingAttempt(NamedTuple):
    """A hold that is open."""

    seq: int
    number: int
    key_name: str
    at_s: float
    hold_nano_usd: int
    is_priced: bool


def name_scope(key_name: str) -> str:
    """Name a key's budget as balances and refusals do."""
    return f"key:{key_name}"


def judge_admission(admission: Admission, key: KeyState | None, find_balance: FindBalance) -> Refused | KeyGone | None:
    """Tell why a request may not come in, None when it may."""
    if key is None or not _is_usable(key, admission.at_s):
        return KeyGone(is_stale=False)
    if key.revision != admission.key_revision:
        return KeyGone(is_stale=True)
    if key.budget is None:
        return None
    window = find_window(key.budget.period, admission.at_s)
    balance = find_balance(admission.key_name, window)
    return _judge_budget(
        admission.key_name, key.budget, window=window, balance=balance, needed_nano_usd=find_held_nano_usd(admission)
    )


def judge_step(
    step: Advance, ended: PendingAttempt, key: KeyState | None, find_balance: FindBalance
) -> Refused | KeyGone | None:
    """Tell why a request's next attempt may not begin, None when it may: as if the one before it had ended.

    The revision is not asked: the request was let in under its key, and whatever changed since holds from the next on.
    """
    if key is None or not _is_usable(key, step.at_s):
        return KeyGone(is_stale=False)
    if key.budget is None:
        return None
    window = find_window(key.budget.period, step.at_s)
    balance = find_balance(ended.key_name, window)
    if window.has(ended.at_s):
        balance = balance.plus(find_posted_nano_usd(step.ended), -ended.hold_nano_usd)
    return _judge_budget(
        ended.key_name, key.budget, window=window, balance=balance, needed_nano_usd=step.begins.hold_nano_usd
    )


def find_free_id(wished: str, is_taken: Callable[[str], bool]) -> str:
    """Find the id a request gets: as wished, else with `-2`, `-3` and so on.

    The number is galloped up and then halved down, so a client that sends one id a million times costs forty
    look-ups each, not a million. It ends at a free number whose predecessor is taken: the smallest one as long as
    nobody wished for suffixed ids himself.
    """
    if not is_taken(wished):
        return wished
    taken, free = 1, 2
    while is_taken(f"{wished}-{free}"):
        taken, free = free, free * 2
    while free - taken > 1:
        middle = (taken + free) // 2
        if is_taken(f"{wished}-{middle}"):
            taken = middle
        else:
            free = middle
    return f"{wished}-{free}"


def pair_ends(
    pending: Iterable[PendingAttempt], ended: Sequence[AttemptEnd]
) -> list[tuple[PendingAttempt, AttemptEnd | None]]:
    """Give each pending attempt its end; None for one that nobody named, which is then posted in full."""
    by_number = {end.number: end for end in ended}
    return [(attempt, by_number.get(attempt.number)) for attempt in pending]


def find_posted_nano_usd(end: AttemptEnd) -> int:
    """Tell what an end adds to the posted side: nothing when voided, nothing known when the cost is unknown."""
    return (end.cost_nano_usd or 0) if end.state is AttemptState.POSTED else 0


def find_held_nano_usd(admission: Admission) -> int:
    """Tell what an admission holds in all."""
    return sum([start.hold_nano_usd for start in admission.attempts])


def _is_usable(key: KeyState, at_s: float) -> bool:
    return key.is_enabled and (key.expires_at_s is None or at_s < key.expires_at_s)


def _judge_budget(
    key_name: str, budget: Budget, *, window: Window, balance: Balance, needed_nano_usd: int
) -> Refused | None:
    shortfall = find_shortfall(budget, window, balance, needed_nano_usd=needed_nano_usd)
    if shortfall is None:
        return None
    return Refused(
        scope=name_scope(key_name),
        needed_nano_usd=shortfall.needed_nano_usd,
        left_nano_usd=shortfall.left_nano_usd,
        limit_nano_usd=shortfall.limit_nano_usd,
        held_nano_usd=shortfall.held_nano_usd,
        resets_at_s=shortfall.resets_at_s,
    )
