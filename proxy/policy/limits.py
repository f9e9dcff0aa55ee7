"""When a limit has room (floor 1a, pure): budgets, rates and parallel requests, and what a refusal says.

Every ledger decides with these functions, so two backends cannot disagree about who is let in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from proxy.money import Budget
from proxy.policy.calendar import Window

RATE_SLOTS = 60
"""Pieces a rate's window is cut into: the window slides on by one piece at a time."""


_WINDOW_WORDS = {1: "s", 60: "min", 3_600: "h", 86_400: "day"}


class Measure(StrEnum):
    """What a rate counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"


class Rate(NamedTuple):
    """So many requests, or tokens, in any stretch of time this long."""

    measure: Measure
    limit: int
    window_s: int

    def slot_of(self, at_s: float) -> int:
        """Give the piece of time that a moment lies in, counted from the epoch."""
        return int(at_s * RATE_SLOTS // self.window_s)

    def find_slots(self, at_s: float) -> tuple[int, int]:
        """Give the first and the last piece of time that count at a moment.

        The last lies a window ahead, for a clock that is set back: by little, and what was let in goes on to count; by
        more, and nobody is refused until it has caught up.
        """
        slot = self.slot_of(at_s)
        return slot - RATE_SLOTS, slot + RATE_SLOTS

    def slot_start_s(self, slot: int) -> float:
        """Give the moment a piece begins."""
        return slot * self.window_s / RATE_SLOTS


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that holds for one place, all of it at once; empty, nothing does."""

    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()
    parallel: int | None = None
    """Attempts under way."""
    wait_s: float = 0.0
    """How long a request may queue for a rate or a parallel limit before it is refused."""
    users: Limits | None = None
    """What each `user` of a request gets."""
    tags: tuple[tuple[str, Limits], ...] = ()
    """What each value of a tag gets, by the tag's name."""

    @property
    def has_hard_budget(self) -> bool:
        """Tell whether some budget here is a wall, a user's and a tag's included."""
        inner = (*(() if self.users is None else (self.users,)), *(limits for _, limits in self.tags))
        return any(not budget.is_soft for budget in self.budgets) or any(one.has_hard_budget for one in inner)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Balance:
    """What one window holds: settled money and money still held, nano-USD."""

    posted_nano_usd: int
    held_nano_usd: int

    def plus(self, posted_nano_usd: int, held_nano_usd: int) -> Balance:
        """Add to both sides; what is released or taken back is negative."""
        return Balance(self.posted_nano_usd + posted_nano_usd, self.held_nano_usd + held_nano_usd)


class Flow(NamedTuple):
    """What a rate's window has let through."""

    requests: int
    tokens: int
    oldest_slot: int | None
    """Its oldest piece that counts anything."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a budget has no room; all amounts nano-USD."""

    needed_nano_usd: int
    left_nano_usd: int
    limit_nano_usd: int
    held_nano_usd: int
    resets_at_s: int | None
    """None: it never does."""


class Quota(NamedTuple):
    """How a rate stands behind an admission: what `x-ratelimit-*` says."""

    measure: Measure
    limit: int
    remaining: int
    resets_in_s: float
    """Until all of it is there again."""


def format_rate(rate: Rate) -> str:
    """Write a rate as routes.yaml does: `60/min`, `20/10s`, `100000 tokens/min`."""
    word = "" if rate.measure is Measure.REQUESTS else f" {rate.measure.value}"
    return f"{rate.limit}{word}/{_WINDOW_WORDS.get(rate.window_s) or f'{rate.window_s}s'}"


def find_left_nano_usd(limit_nano_usd: int, balance: Balance) -> int:
    """Tell what is left of a limit, never below 0."""
    return max(0, limit_nano_usd - balance.posted_nano_usd - balance.held_nano_usd)


def find_shortfall(budget: Budget, window: Window, balance: Balance, *, needed_nano_usd: int) -> Shortfall | None:
    """Tell why an amount does not fit into a budget's window, None when it does; the last nano may be used.

    A soft budget is no wall: it has no room only once it is spent.
    """
    taken = balance.posted_nano_usd + balance.held_nano_usd
    if taken < budget.limit_nano_usd if budget.is_soft else taken + needed_nano_usd <= budget.limit_nano_usd:
        return None
    return Shortfall(
        needed_nano_usd=needed_nano_usd,
        left_nano_usd=find_left_nano_usd(budget.limit_nano_usd, balance),
        limit_nano_usd=budget.limit_nano_usd,
        held_nano_usd=balance.held_nano_usd,
        resets_at_s=window.ends_s,
    )


def find_wait_s(rate: Rate, flow: Flow, at_s: float, *, tokens: int) -> float | None:
    """Tell how long until one more may come, None when it may now.

    A request with more tokens than the whole rate allows may come when nothing else has: it could never otherwise.
    """
    if rate.measure is Measure.REQUESTS:
        has_room = flow.requests < rate.limit
    else:
        has_room = flow.tokens < rate.limit and (flow.tokens + tokens <= rate.limit or not flow.tokens)
    if has_room:
        return None
    oldest = rate.slot_of(at_s) if flow.oldest_slot is None else flow.oldest_slot
    return max(rate.slot_start_s(oldest + RATE_SLOTS + 1) - at_s, rate.window_s / RATE_SLOTS)


def tell_quota(rate: Rate, flow: Flow, at_s: float, *, tokens: int) -> Quota:
    """Tell how a rate stands once this request has been counted."""
    is_requests = rate.measure is Measure.REQUESTS
    used = flow.requests + 1 if is_requests else flow.tokens + tokens
    newest = rate.slot_start_s(rate.slot_of(at_s) + RATE_SLOTS + 1)
    return Quota(rate.measure, rate.limit, max(0, rate.limit - used), newest - at_s)
