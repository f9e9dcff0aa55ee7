"""Money and the other units people write in routes.yaml (floor 0, pure).

Amounts are integers of nano-USD (1e-9 USD); prices are exact `Decimal` USD per million tokens. No float ever enters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, Inexact, InvalidOperation
from enum import StrEnum

NANO_PER_USD = 1_000_000_000
AMOUNT_NANO_USD_MAX = 9_000_000_000_000_000_000
"""What a 64-bit column holds: about 9 billion USD."""

_AMOUNT = re.compile(r"\$([0-9]{1,12}(?:\.[0-9]{1,18})?)")
_EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])
"""Wide enough for any amount a float or our own grammar can spell: the default 28 digits would round before we do."""


UTC_NAME = "UTC"
"""The time zone where nobody names one."""


class Period(StrEnum):
    """How long a budget lasts before it starts anew: calendar periods, weeks from Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit in money per period."""

    limit_nano_usd: int
    period: Period
    timezone: str = UTC_NAME
    """Whose calendar the period follows, a name of the time zone database."""
    is_soft: bool = False
    """It refuses nobody: it alerts, and sends requests to `when_spent`."""
    when_spent: str | None = None
    """The model that requests go to once there is no room; None refuses them."""


def parse_usd(text: str) -> Decimal:
    """Read `$5` or `$0.001` as exact USD; ValueError names the form wanted."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r} is not an amount of money; write it as $5 or $0.001"
        raise ValueError(msg)
    return Decimal(match[1])


def parse_amount(text: str) -> int:
    """Read `$5` as nano-USD, rounding up what is finer; ValueError when it is more than the books can hold."""
    amount = to_nano_usd(parse_usd(text))
    if amount > AMOUNT_NANO_USD_MAX:
        msg = f"{text!r} is more than {format_usd(AMOUNT_NANO_USD_MAX)} USD, the most the books can hold"
        raise ValueError(msg)
    return amount


def parse_budget(text: str) -> Budget:
    """Read `$5`, `$0.50/day`; a bare amount is for all time (`total`)."""
    amount, slash, period = text.partition("/")
    try:
        named = Period(period.strip()) if slash else Period.TOTAL
    except ValueError:
        msg = f"{period.strip()!r} is not a period; use hour, day, week, month or total"
        raise ValueError(msg) from None
    return Budget(parse_amount(amount), named)


def parse_token_price(text: str) -> Decimal:
    """Read `$1.25/M` (or `/1M`, `/K`) as USD per million tokens."""
    amount, _, unit = text.partition("/")
    factor = {"M": 1, "1M": 1, "K": 1000, "1K": 1000}.get(unit.strip().upper())
    if factor is None:
        msg = f"{text!r} is not a price; write it per million tokens as $1.25/M"
        raise ValueError(msg)
    return _EXACT.multiply(parse_usd(amount), Decimal(factor))


def to_nano_usd(usd: Decimal) -> int:
    """Turn exact, finite USD into nano-USD, rounding up: the books never say less than the bill."""
    return int(_EXACT.scaleb(usd, 9).to_integral_value(rounding=ROUND_CEILING))


def format_usd(nano_usd: int) -> str:
    """Write nano-USD as a decimal string of nine places, `0.001234567`: the form of our own JSON."""
    usd, nano = divmod(abs(nano_usd), NANO_PER_USD)
    return f"{'-' if nano_usd < 0 else ''}{usd}.{nano:09d}"
