"""Figures of the books held against rules (floor 1a, pure): how much of what, and whether that is too much.

A limit is left by a margin: what was told at 10 % is over at 9 %. Rates and percentiles need `REQUESTS_MIN` to begin,
a provider `DOWN_ATTEMPTS` failures in a row; what is too little to tell begins nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from proxy.money import Period
from proxy.policy.figures import BudgetFigure, DriftFigure, EventFigure, Figures, ProviderFigure, SpendFigure
from proxy.policy.incidents import Level, Reading
from proxy.policy.rules import PPM, Rule, Signal, show_ms, show_share, show_usd
from proxy.policy.scopes import GLOBAL

RECENT_S = 300
"""What `error_rate` and `p95_first_token` look back on: requests that ended in the last five minutes."""
REQUESTS_MIN = 20
"""Requests (streams, for `p95_first_token`) without which no rate is told."""
DOWN_S = 600
"""How long ago an attempt may have ended to say something about its provider."""
DOWN_ATTEMPTS = 5
"""Failures in a row, the newest, that say that a provider is down."""
UP_ATTEMPTS = 3
"""Answers in a row, the newest, that say that it is up again."""
EVENTS_S = 900
"""An attempt of unknown price, or an overrun, keeps its incident open for so long."""
MARGIN_PPM = 100_000
"""An incident ends a tenth clear of its limit, so that a figure which trembles around it is told once."""
DRIFT_PPM = 5_000
"""What `drift` alone means: more than 0.5 % of what was billed,"""
DRIFT_NANO_USD = 1_000_000_000
"""or more than $1."""

GATEWAY = "gateway"
"""Subject of what is about all requests together."""


ENDINGS: Mapping[str, str] = {
    Signal.SPEND: "a new period has begun, or it is no longer watched",
    Signal.PROVIDER_DOWN: "the provider has left routes.yaml",
    Signal.UNKNOWN_PRICE: f"no attempt of unknown price in the last {EVENTS_S // 60} minutes",
    Signal.OVERRUN: f"no overrun in the last {EVENTS_S // 60} minutes",
}
"""Why an incident is over whose subject is not measured any more."""


def measure(rule: Rule, figures: Figures) -> list[Reading] | None:
    """Hold one rule against the figures, a reading for each subject; None when they are not known."""
    return _MEASURES[rule.signal](rule, figures)


def _measure_spend(rule: Rule, figures: Figures) -> list[Reading] | None:
    if rule.amount_nano_usd is not None:
        return _measure_amounts(rule, rule.amount_nano_usd, figures.spends)
    if figures.budgets is None:
        return None
    return [_read_budget(rule, one) for one in figures.budgets if not rule.scopes or one.scope in rule.scopes]


def _read_budget(rule: Rule, one: BudgetFigure) -> Reading:
    assert rule.share_ppm is not None
    share = _share(one.posted_nano_usd, one.limit_nano_usd)
    spent = f"{show_usd(one.posted_nano_usd)} of {show_usd(one.limit_nano_usd)}{_per(one.period)}"
    return Reading(
        rule=rule.text,
        subject=f"{one.scope}/{one.period}",
        level=_above(one.posted_nano_usd * PPM, rule.share_ppm * one.limit_nano_usd),
        figure=show_share(share),
        what=f"{_name(one.scope)} has spent {spent} ({show_share(share)})",
        advice=f"raise the budget{_or_wait(one.resets_at_s)}",
        turn=int(one.resets_at_s or 0),
    )


def _measure_amounts(rule: Rule, limit: int, spends: Iterable[SpendFigure] | None) -> list[Reading] | None:
    if spends is None:
        return None
    wanted = rule.scopes or (GLOBAL,)
    return [
        Reading(
            rule=rule.text,
            subject=f"{one.scope}/{one.period}",
            level=_above(one.posted_nano_usd, limit),
            figure=show_usd(one.posted_nano_usd),
            what=f"{_name(one.scope)} has spent {show_usd(one.posted_nano_usd)}{_per(one.period)}",
            advice="`turnpike usage --by key,model` tells who spent it; a budget is a wall",
            turn=one.ends_s or 0,
        )
        for one in spends
        if (one.period, one.timezone) == (rule.period, rule.timezone) and one.scope in wanted
    ]


def _measure_credits(rule: Rule, figures: Figures) -> list[Reading] | None:
    limit = rule.amount_nano_usd
    assert limit is not None
    if figures.credits is None:
        return None
    return [
        Reading(
            rule=rule.text,
            subject=f"provider:{one.provider}",
            level=_below(one.left_nano_usd, limit),
            figure=show_usd(one.left_nano_usd),
            what=f"{show_usd(one.left_nano_usd)} of credit is left at {one.provider}",
            advice="top up the account there before it refuses calls",
        )
        for one in figures.credits
    ]


def _measure_providers(rule: Rule, figures: Figures) -> list[Reading] | None:
    if figures.providers is None:
        return None
    return [_read_provider(rule, one) for one in figures.providers]


def _read_provider(rule: Rule, one: ProviderFigure) -> Reading:
    newest, last = one.answered[:DOWN_ATTEMPTS], one.answered[:UP_ATTEMPTS]
    failed = newest.count(False)
    is_down = failed == DOWN_ATTEMPTS
    is_up = len(last) == UP_ATTEMPTS and all(last)
    return Reading(
        rule=rule.text,
        subject=f"provider:{one.provider}",
        level=Level.OVER if is_down else Level.CLEAR if is_up else Level.BETWEEN,
        figure=f"{failed} of {len(newest)}",
        what=f"{failed} of the last {len(newest)} attempts at {one.provider} failed",
        advice="`turnpike export --since 1h` names the errors; backups answer for it where a model has one",
    )


def _measure_errors(rule: Rule, figures: Figures) -> list[Reading] | None:
    recent = figures.recent
    assert rule.share_ppm is not None
    if recent is None:
        return None
    share = _share(recent.failed, recent.requests)
    level = _above(recent.failed * PPM, rule.share_ppm * recent.requests)
    return [
        Reading(
            rule=rule.text,
            subject=GATEWAY,
            level=_if_enough(level, recent.requests),
            figure=show_share(share),
            what=f"{recent.failed} of {recent.requests} requests of the last {RECENT_S // 60} minutes failed "
            f"({show_share(share)})",
            advice="`turnpike usage --by provider,model` tells where",
        )
    ]


def _measure_first_tokens(rule: Rule, figures: Figures) -> list[Reading] | None:
    recent = figures.recent
    assert rule.limit_ms is not None
    if recent is None:
        return None
    p95_ms = recent.first_token_ms_p95 or 0
    streams = f"{recent.streams} streams of the last {RECENT_S // 60} minutes"
    return [
        Reading(
            rule=rule.text,
            subject=GATEWAY,
            level=_if_enough(_above(p95_ms, rule.limit_ms), recent.streams),
            figure=show_ms(p95_ms),
            what=f"the 95th percentile to the first token is {show_ms(p95_ms)}, over {streams}",
            advice="put a quicker target first, or lower `first_token` so that the next one is tried sooner",
        )
    ]


def _measure_unknown(rule: Rule, figures: Figures) -> list[Reading] | None:
    advice = "give the model a `price` in routes.yaml: nobody knows what it costs"
    return _read_events(rule, figures.unknown_prices, "had no known price", advice)


def _measure_overruns(rule: Rule, figures: Figures) -> list[Reading] | None:
    advice = "the truth is booked; check the model's `price` and output limit in routes.yaml"
    return _read_events(rule, figures.overruns, "cost more than was held", advice)


def _read_events(rule: Rule, events: Sequence[EventFigure] | None, happening: str, advice: str) -> list[Reading] | None:
    if events is None:
        return None
    return [
        Reading(
            rule=rule.text,
            subject=f"provider:{one.provider}",
            level=Level.OVER,
            figure=str(one.attempts),
            what=f"{one.attempts} {'attempt' if one.attempts == 1 else 'attempts'} of the last {EVENTS_S // 60} minutes"
            f" at {one.provider} {happening}, {one.model} among them",
            advice=advice,
        )
        for one in events
        if one.attempts
    ]


def _measure_drift(rule: Rule, figures: Figures) -> list[Reading] | None:
    if figures.drifts is None:
        return None
    return [_read_drift(rule, one) for one in figures.drifts]


def _read_drift(rule: Rule, one: DriftFigure) -> Reading:
    apart = abs(one.billed_nano_usd - one.booked_nano_usd)
    is_bare = rule.share_ppm is None and rule.amount_nano_usd is None
    share_ppm = DRIFT_PPM if is_bare else rule.share_ppm
    amount = DRIFT_NANO_USD if is_bare else rule.amount_nano_usd
    levels = []
    if share_ppm is not None:
        levels.append(_above(apart * PPM, share_ppm * one.billed_nano_usd))
    if amount is not None:
        levels.append(_above(apart, amount))
    booked, billed = show_usd(one.booked_nano_usd), show_usd(one.billed_nano_usd)
    return Reading(
        rule=rule.text,
        subject=f"provider:{one.provider}",
        level=_highest(levels),
        figure=show_usd(apart),
        what=f"{one.provider} billed {billed}, {booked} is booked: {show_usd(apart)} apart",
        advice="see which model's price is out of date, or who else uses the account",
    )


def _highest(levels: Sequence[Level]) -> Level:
    return min(levels, key=list(Level).index)


def _above(value: int, limit: int) -> Level:
    """Tell how a value stands to an upper limit; values may be products, so nothing is divided."""
    if value > limit:
        return Level.OVER
    return Level.CLEAR if value * PPM <= limit * (PPM - MARGIN_PPM) else Level.BETWEEN


def _below(value: int, limit: int) -> Level:
    if value < limit:
        return Level.OVER
    return Level.CLEAR if value * PPM >= limit * (PPM + MARGIN_PPM) else Level.BETWEEN


def _if_enough(level: Level, count: int) -> Level:
    """Begin nothing on too few; to end, few that are well are enough, and none at all too."""
    return Level.BETWEEN if level is Level.OVER and count < REQUESTS_MIN else level


def _share(part: int, whole: int) -> int:
    return part * PPM // whole if whole else 0


def _name(scope: str) -> str:
    return "the gateway" if scope == GLOBAL else scope.replace(":", " ", 1)


def _per(period: str) -> str:
    return {Period.TOTAL: " in all", Period.DAY: " today"}.get(Period(period), f" this {period}")


def _or_wait(resets_at_s: float | None) -> str:
    if resets_at_s is None:
        return ""
    return f", or wait until {datetime.fromtimestamp(resets_at_s, UTC):%Y-%m-%dT%H:%MZ}"


_MEASURES: Mapping[Signal, Callable[[Rule, Figures], list[Reading] | None]] = {
    Signal.SPEND: _measure_spend,
    Signal.UPSTREAM_CREDITS: _measure_credits,
    Signal.PROVIDER_DOWN: _measure_providers,
    Signal.ERROR_RATE: _measure_errors,
    Signal.P95_FIRST_TOKEN: _measure_first_tokens,
    Signal.UNKNOWN_PRICE: _measure_unknown,
    Signal.OVERRUN: _measure_overruns,
    Signal.DRIFT: _measure_drift,
}
