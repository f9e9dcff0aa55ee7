"""What every ledger decides alike (floor 2, pure): who is let in, under which id, how attempts end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from proxy.ledger.records import (
    Admission,
    Advance,
    AttemptEnd,
    AttemptStart,
    AttemptState,
    KeyGone,
    Limited,
    Refused,
    Unpriced,
)
from proxy.policy.calendar import Window, find_window
from proxy.policy.limits import (
    Balance,
    Flow,
    Measure,
    Quota,
    Rate,
    Shortfall,
    find_shortfall,
    find_wait_s,
    tell_quota,
)
from proxy.policy.scopes import Rules, Subject, is_upstream, join_rules, scopes_of

ERROR_OWNER_DIED = "owner_died"
"""`error` of an attempt whose process died while it was pending."""
ERROR_UNSETTLED = "unsettled"
"""`error` of an attempt that was still pending when its request was settled without naming it."""
ERROR_ABANDONED = "client_left"
"""`error` of an attempt that never began, because its caller had left before it was told that it may."""
PARALLEL_RETRY_AFTER_S = 1.0
"""What a client is asked to wait for another of its requests to end."""

Refusal = Refused | Limited | Unpriced | KeyGone


class Standing(Protocol):
    """How things stand in the transaction that decides."""

    def find_rules(self, subject: Subject) -> Rules:
        """Give every rule that holds for an attempt."""
        ...

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Give the balance of a scope's window."""
        ...

    def find_flow(self, scope: str, rate: Rate, at_s: float) -> Flow:
        """Give what a scope has let through in a rate's window that ends now."""
        ...

    def count_open(self, scope: str) -> int:
        """Count a scope's attempts under way."""
        ...


class KeyState(NamedTuple):
    """What an admission must know of its key, as it stands in the same transaction."""

    is_enabled: bool
    expires_at_s: float | None
    revision: int


class PendingAttempt(NamedTuple):
    """A hold that is open."""

    seq: int
    request_id: str
    number: int
    at_s: float
    hold_nano_usd: int
    is_priced: bool
    reserve: Reserve | None
    subject: Subject


class Reserve(NamedTuple):
    """What rates of tokens were charged with for an attempt, until its true count is known."""

    tokens: int
    slots: tuple[tuple[str, int, int], ...]
    """Scope, window in seconds and slot."""


class Charge(NamedTuple):
    """What a rate's piece of time is to be charged with."""

    scope: str
    window_s: int
    slot: int
    requests: int
    tokens: int


class Grant(NamedTuple):
    """What comes with being let in."""

    charges: tuple[Charge, ...] = ()
    quotas: tuple[Quota, ...] = ()
    slots: tuple[tuple[str, int, int], ...] = ()
    """Of the rates of tokens, to which the attempts' true counts are to be told."""

    def reserve(self, start: AttemptStart) -> Reserve | None:
        """Give what an attempt's end has to correct, None when nothing."""
        return Reserve(start.tokens, self.slots) if self.slots else None


NO_CHARGE = Grant()


class _Asked(NamedTuple):
    """What is asked of the rules of one scope."""

    hold_nano_usd: int
    tokens: int
    requests: int
    attempts: int


class _Asks:
    """What an admission, or a request's next attempt, asks of each scope."""

    __slots__ = ("_alone", "_entered", "_starts", "_upstream")

    def __init__(
        self, starts: Sequence[tuple[Subject, AttemptStart]], *, requests: int, entered: str | None = None
    ) -> None:
        """Ask for these together; `requests` is 0 for a request that was counted before, but not in scope `entered`."""
        self._entered = entered
        first = starts[0][1]
        self._starts = starts
        self._alone = _Asked(first.hold_nano_usd, first.tokens, requests, 1) if len(starts) == 1 else None
        self._upstream = self._alone if requests else _Asked(first.hold_nano_usd, first.tokens, 1, 1)
        """Of a scope to which the attempt is a request of its own, as each is to an upstream's."""

    def of(self, scope: str) -> _Asked:
        """Tell what is asked of one scope."""
        if self._alone is not None and self._upstream is not None:
            return self._upstream if scope == self._entered or is_upstream(scope) else self._alone
        mine = [start for subject, start in self._starts if scope in scopes_of(subject)]
        holds, tokens = sum(start.hold_nano_usd for start in mine), sum(start.tokens for start in mine)
        return _Asked(holds, tokens, len(mine) if is_upstream(scope) else 1, len(mine))


class _Ending(NamedTuple):
    """The attempt that ends as another begins: what it gives back."""

    attempt: PendingAttempt
    posted_nano_usd: int
    scopes: frozenset[str]


def subject_of(admission: Admission, start: AttemptStart) -> Subject:
    """Give one attempt of an admission as limits see it."""
    return Subject(
        admission.key_name,
        admission.tenant,
        admission.user,
        admission.tags,
        start.alias or admission.alias or admission.route,
        start.provider,
        start.model,
        start.upstream_key,
        start.payer,
        admission.parent,
        start.patterns,
    )


def next_subject(subject: Subject, start: AttemptStart) -> Subject:
    """Give a request's next attempt as limits see it."""
    return subject._replace(
        alias=start.alias or subject.alias,
        provider=start.provider,
        model=start.model,
        upstream_key=start.upstream_key,
        payer=start.payer,
        patterns=start.patterns,
    )


def judge_admission(admission: Admission, key: KeyState | None, standing: Standing) -> Refusal | Grant:
    """Tell why a request may not come in, or what comes with it."""
    if key is None or not _is_usable(key, admission.at_s):
        return KeyGone(is_stale=False)
    if key.revision != admission.key_revision:
        return KeyGone(is_stale=True)
    starts = [(subject_of(admission, start), start) for start in admission.attempts]
    rules = standing.find_rules(starts[0][0])
    if len(starts) > 1:
        rules = join_rules([standing.find_rules(subject) for subject, _start in starts])
    if rules.is_empty:
        return NO_CHARGE
    asks, at_s = _Asks(starts, requests=1), admission.at_s
    refusal = _judge_pricing(rules, admission.attempts) or (rules.parallel and _judge_open(rules, asks, standing))
    if refusal:
        return refusal
    grant = _judge_rates(rules, asks, standing, at_s) if rules.rates else NO_CHARGE
    if isinstance(grant, Limited) or not rules.budgets:
        return grant
    return _judge_budgets(rules, asks, standing, at_s, is_redirected=admission.is_redirected) or grant


def judge_step(step: Advance, ended: PendingAttempt, key: KeyState | None, standing: Standing) -> Refusal | Grant:
    """Tell why a request's next attempt may not begin, or what comes with it: as if the one before it had ended.

    The revision is not asked: the request was let in under its key, and whatever changed since holds from the next on.
    Nor is a rate that counts requests, which this one has passed; only those of upstream calls are, and those of
    another model that the request has asked for besides.
    """
    if key is None or not _is_usable(key, step.at_s):
        return KeyGone(is_stale=False)
    begins, at_s = step.begins, step.at_s
    subject = next_subject(ended.subject, begins)
    rules = standing.find_rules(subject)
    if rules.is_empty:
        return NO_CHARGE
    entered = f"model:{subject.alias}" if subject.alias != ended.subject.alias else None
    asks = _Asks([(subject, begins)], requests=0, entered=entered)
    ending = _Ending(ended, find_posted_nano_usd(step.ended), scopes_of(ended.subject))
    refusal = _judge_pricing(rules, (begins,)) or _judge_open(rules, asks, standing, ending)
    if refusal is not None:
        return refusal
    grant = _judge_rates(rules, asks, standing, at_s)
    if isinstance(grant, Limited):
        return grant
    return _judge_budgets(rules, asks, standing, at_s, is_redirected=True, ending=ending) or grant


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


def count_tokens(end: AttemptEnd, reserved_tokens: int) -> int:
    """Tell how many tokens an attempt used in truth: what was reserved when nobody counted them."""
    if end.state is AttemptState.VOIDED:
        return 0
    return end.usage.input_tokens + end.usage.output_tokens or reserved_tokens


def _is_usable(key: KeyState, at_s: float) -> bool:
    return key.is_enabled and (key.expires_at_s is None or at_s < key.expires_at_s)


def _judge_pricing(rules: Rules, starts: Sequence[AttemptStart]) -> Unpriced | None:
    """A wall without a price would be none; most often the plan has left such targets out before."""
    if all([start.is_priced for start in starts]):  # noqa: C419  # a list is quicker
        return None
    return next((Unpriced(scope) for scope, budget in rules.budgets if not budget.is_soft), None)


def _judge_open(rules: Rules, asks: _Asks, standing: Standing, ending: _Ending | None = None) -> Limited | None:
    for scope, limit, wait_s in rules.parallel:
        ended = int(ending is not None and scope in ending.scopes)
        if standing.count_open(scope) - ended + asks.of(scope).attempts > limit:
            return Limited(scope, None, limit, None, PARALLEL_RETRY_AFTER_S, wait_s)
    return None


def _judge_rates(rules: Rules, asks: _Asks, standing: Standing, at_s: float) -> Limited | Grant:
    """Ask every rate; the one that makes wait longest refuses."""
    refused: list[Limited] = []
    flows: dict[tuple[str, int], Flow] = {}
    charges: dict[tuple[str, int], Charge] = {}
    quotas: dict[Measure, Quota] = {}
    slots: list[tuple[str, int, int]] = []
    for scope, rate, patience_s in rules.rates:
        _hold, tokens, requests, _attempts = asks.of(scope)
        place, slot = (scope, rate.window_s), rate.slot_of(at_s)
        flow = flows.get(place)
        if flow is None:
            flow = flows[place] = standing.find_flow(scope, rate, at_s)
            charges[place] = Charge(scope, rate.window_s, slot, requests, tokens)
        if rate.measure is Measure.TOKENS:
            slots.append((scope, rate.window_s, slot))
        if not requests:
            continue
        wait_s = find_wait_s(rate, flow, at_s, tokens=tokens)
        if wait_s is None:
            _keep_tightest(quotas, tell_quota(rate, flow, at_s, tokens=tokens))
        else:
            refused.append(Limited(scope, rate.measure, rate.limit, rate.window_s, wait_s, patience_s))
    if refused:
        return max(refused, key=lambda one: one.retry_after_s)
    return Grant(tuple(charges.values()), tuple(quotas.values()), tuple(slots)) if charges else NO_CHARGE


def _keep_tightest(quotas: dict[Measure, Quota], quota: Quota) -> None:
    known = quotas.get(quota.measure)
    if known is None or quota.remaining < known.remaining:
        quotas[quota.measure] = quota


def _judge_budgets(  # what is asked, of whom, when, and under which circumstances
    rules: Rules,
    asks: _Asks,
    standing: Standing,
    at_s: float,
    *,
    is_redirected: bool,
    ending: _Ending | None = None,
) -> Refused | None:
    """Ask every budget; of the walls without room the one with the least left refuses."""
    walls: list[Refused] = []
    soft: Refused | None = None
    for scope, budget in rules.budgets:
        if budget.is_soft and (budget.when_spent is None or is_redirected):
            continue
        window = find_window(budget.period, at_s, budget.timezone)
        balance = standing.find_balance(scope, window)
        if ending is not None and scope in ending.scopes and window.has(ending.attempt.at_s):
            balance = balance.plus(ending.posted_nano_usd, -ending.attempt.hold_nano_usd)
        shortfall = find_shortfall(budget, window, balance, needed_nano_usd=asks.of(scope).hold_nano_usd)
        if shortfall is None:
            continue
        refused = _refuse(scope, shortfall, when_spent=None if is_redirected else budget.when_spent)
        if budget.is_soft:
            soft = soft or replace(refused, is_soft=True)
        else:
            walls.append(refused)
    if not walls:
        return soft
    tightest = min(walls, key=lambda one: one.left_nano_usd)
    instead = next((one.when_spent for one in walls if one.when_spent is not None), None)
    return replace(tightest, when_spent=instead) if instead != tightest.when_spent else tightest


def _refuse(scope: str, shortfall: Shortfall, *, when_spent: str | None) -> Refused:
    return Refused(
        scope=scope,
        needed_nano_usd=shortfall.needed_nano_usd,
        left_nano_usd=shortfall.left_nano_usd,
        limit_nano_usd=shortfall.limit_nano_usd,
        held_nano_usd=shortfall.held_nano_usd,
        resets_at_s=shortfall.resets_at_s,
        when_spent=when_spent,
    )
