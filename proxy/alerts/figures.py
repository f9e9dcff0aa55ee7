"""What the rules of a table are held against, read from the ledger (part of `alerts`, floor 4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from proxy.ledger.incidents import ProviderOddities
from proxy.ledger.protocol import Ledger
from proxy.policy.calendar import find_window
from proxy.policy.figures import (
    BudgetFigure,
    CreditFigure,
    DriftFigure,
    EventFigure,
    Figures,
    ProviderFigure,
    RecentFigure,
    SpendFigure,
)
from proxy.policy.readings import DOWN_ATTEMPTS, DOWN_S, EVENTS_S, RECENT_S
from proxy.policy.rules import Rule, Signal
from proxy.policy.scopes import GLOBAL

FigureT = TypeVar("FigureT", CreditFigure, DriftFigure)


class Accounts(Protocol):
    """The providers' own figures, as they were last asked for."""

    async def credits(self) -> Sequence[CreditFigure] | None:
        """Give what is left of each account; None when that is not known, or too old to say."""
        ...

    async def drifts(self) -> Sequence[DriftFigure] | None:
        """Give for each account what was billed and what we booked; None when that is not known."""
        ...


class NoAccounts:
    """Nobody asks the providers: `upstream_credits` and `drift` tell nothing."""

    async def credits(self) -> None:
        """Know nothing."""

    async def drifts(self) -> None:
        """Know nothing."""


async def read_figures(
    rules: Collection[Rule], ledger: Ledger, accounts: Accounts, *, providers: Collection[str], now_s: float
) -> Figures:
    """Read what these rules ask for and nothing else; raises `LedgerUnavailable`."""
    wanted = {rule.signal for rule in rules}
    has_shares = any(rule.signal is Signal.SPEND and rule.share_ppm is not None for rule in rules)
    oddities: Sequence[ProviderOddities] = ()
    if wanted & {Signal.UNKNOWN_PRICE, Signal.OVERRUN}:
        oddities = await ledger.signals.oddities(ended_s=now_s - EVENTS_S)
    has_recent = bool(wanted & {Signal.ERROR_RATE, Signal.P95_FIRST_TOKEN})
    return Figures(
        budgets=await _read_budgets(ledger, now_s) if has_shares else (),
        spends=await _read_spends(rules, ledger, now_s),
        providers=await _read_providers(ledger, providers, now_s) if Signal.PROVIDER_DOWN in wanted else (),
        recent=await _read_recent(ledger, now_s) if has_recent else None,
        unknown_prices=tuple(EventFigure(one.provider, one.unknown_model, one.unknown_prices) for one in oddities),
        overruns=tuple(EventFigure(one.provider, one.overrun_model, one.overruns) for one in oddities),
        credits=_freeze(await accounts.credits()) if Signal.UPSTREAM_CREDITS in wanted else None,
        drifts=_freeze(await accounts.drifts()) if Signal.DRIFT in wanted else None,
    )


async def _read_budgets(ledger: Ledger, now_s: float) -> tuple[BudgetFigure, ...]:
    return tuple(
        BudgetFigure(one.scope, one.period, one.limit_nano_usd, one.posted_nano_usd, one.resets_at_s)
        for one in await ledger.list_budgets(now_s)
    )


async def _read_spends(rules: Collection[Rule], ledger: Ledger, now_s: float) -> tuple[SpendFigure, ...]:
    """Sum each scope and period once, however many rules ask for it."""
    asked = dict.fromkeys(
        (scope, rule.period, rule.timezone)
        for rule in rules
        if rule.period is not None
        for scope in rule.scopes or (GLOBAL,)
    )
    found = []
    for scope, period, timezone in asked:
        window = find_window(period, now_s, timezone)
        found.append(SpendFigure(scope, period, timezone, await ledger.signals.spend(scope, window), window.ends_s))
    return tuple(found)


async def _read_providers(ledger: Ledger, providers: Collection[str], now_s: float) -> tuple[ProviderFigure, ...]:
    """Give every provider of the table; one that was not called says nothing, so what is open of it stays open."""
    endings = await ledger.signals.endings(ended_s=now_s - DOWN_S, attempts_max=DOWN_ATTEMPTS)
    answered = {one.provider: one.answered for one in endings}
    return tuple(ProviderFigure(name, answered.get(name, ())) for name in sorted({*providers, *answered}))


async def _read_recent(ledger: Ledger, now_s: float) -> RecentFigure:
    found = await ledger.signals.recent(ended_s=now_s - RECENT_S)
    return RecentFigure(found.requests, found.failed, found.streams, found.first_token_ms_p95)


def _freeze(found: Sequence[FigureT] | None) -> tuple[FigureT, ...] | None:
    return None if found is None else tuple(found)
