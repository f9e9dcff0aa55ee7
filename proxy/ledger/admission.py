"""What every ledger decides alike (floor 2, pure): who is let in, under which id, and how attempts end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from proxy.ledger.records import AttemptEnd, AttemptState, KeyGone, Refused
from proxy.money import Budget
from proxy.policy.limits import Balance, Window, find_shortfall

ERROR_OWNER_DIED = "owner_died"
"""`error` of an attempt whose process died while it was pending."""
ERROR_UNSETTLED = "unsettled"
"""`error` of an attempt that was still pending when its request was settled without naming it."""
ERROR_ABANDONED = "client_left"
"""`error` of an attempt that never began, because its caller had left before it was told that it may."""


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


def judge_key(key: KeyState | None, *, at_s: float, revision: int | None) -> KeyGone | None:
    """Tell why a key may not be used, None when it may; no `revision` asks for none (a request already let in)."""
    if key is None or not key.is_enabled or (key.expires_at_s is not None and key.expires_at_s <= at_s):
        return KeyGone(is_stale=False)
    if revision is not None and revision != key.revision:
        return KeyGone(is_stale=True)
    return None


def judge_budget(
    key_name: str, budget: Budget, *, window: Window, balance: Balance, needed_nano_usd: int
) -> Refused | None:
    """Tell why an amount does not fit into a key's budget, None when it does."""
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
