"""Short ways to say what tests put into the books."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admission, Advance, AttemptEnd, AttemptStart, AttemptState, KeyRecord, Settlement
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits
from proxy.usage import CostSource, Usage

NOON_S = 1_795_176_000.0
"""2026-11-20 12:00 UTC, a Friday."""
HOUR_S = 3_600.0
DAY_S = 86_400.0


def key(name: str = "app", limit: int | None = 100, period: Period = Period.DAY, **more: object) -> KeyRecord:
    """A client key with a budget of so many nano-USD."""
    limits = NO_LIMITS if limit is None else Limits(budgets=(Budget(limit, period),))
    return KeyRecord(name=name, digest=f"digest of {name}", limits=limits, **more)  # type: ignore[arg-type]  # a test's


def start(number: int = 1, hold: int = 10, *, provider: str = "sim", is_priced: bool = True) -> AttemptStart:
    """An upstream call about to begin."""
    return AttemptStart(number, provider, f"{provider}/model", hold, is_priced)


def ask(
    request_id: str = "r",
    hold: int = 10,
    *,
    key_name: str = "app",
    revision: int = 1,
    at_s: float = NOON_S,
    attempts: Sequence[AttemptStart] = (),
) -> Admission:
    """A request that asks to be let in, with one attempt unless told otherwise."""
    return Admission(
        request_id=request_id,
        key_name=key_name,
        key_revision=revision,
        tenant="acme",
        route="chat",
        app=None,
        is_stream=True,
        at_s=at_s,
        attempts=tuple(attempts) or (start(1, hold),),
    )


def posted(
    number: int = 1, cost: int | None = 5, *, usage: Usage | None = None, error: str | None = None
) -> AttemptEnd:
    """An attempt that cost something; None is a cost nobody knows."""
    return AttemptEnd(
        number=number,
        state=AttemptState.POSTED,
        cost_nano_usd=cost,
        cost_source=CostSource.UNKNOWN if cost is None else CostSource.COMPUTED,
        usage=usage or Usage(input_tokens=3, output_tokens=4),
        status=200,
        error=error,
        latency_ms=120,
        first_token_ms=40,
        generation_id="gen-1",
    )


def voided(number: int = 1) -> AttemptEnd:
    """An attempt that failed and cost nothing."""
    return AttemptEnd(number, AttemptState.VOIDED, 0, None, Usage(), 503, "server_error", 7)


def over(request_id: str, *ended: AttemptEnd, at_s: float = NOON_S) -> Settlement:
    """A request that is over."""
    return Settlement(request_id, ended, at_s)


def onward(request_id: str, ended: AttemptEnd, begins: AttemptStart, *, at_s: float = NOON_S) -> Advance:
    """A request that goes on to its next target."""
    return Advance(request_id, ended, begins, at_s)


async def stand(ledger: Ledger, name: str = "app", now_s: float = NOON_S) -> tuple[int, int]:
    """What a key's one budget has posted and held."""
    (state,) = await ledger.budgets(name, now_s)
    return state.posted_nano_usd, state.held_nano_usd
