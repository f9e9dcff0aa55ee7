"""The words of `alerts`: `spend > 80%`, `provider_down` (part of `files`, floor 2). The grammar is closed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from proxy.files.units import parse_positive_duration_s
from proxy.money import parse_amount, parse_budget
from proxy.policy.rules import PPM, Rule, Signal

RULE_CHARACTERS_MAX = 200

_RULE = re.compile(r"([A-Za-z0-9_]+)\s*(?:([<>]=?|==?|!=)\s*(.*))?")
_SHARE = re.compile(r"(\d{1,3})(?:\.(\d{1,4}))? ?%")

_FORMS = {
    Signal.SPEND: "spend > 80% (of each budget) or spend > $10/day",
    Signal.UPSTREAM_CREDITS: "upstream_credits < $5",
    Signal.PROVIDER_DOWN: "provider_down",
    Signal.ERROR_RATE: "error_rate > 10%",
    Signal.P95_FIRST_TOKEN: "p95_first_token > 10s",
    Signal.UNKNOWN_PRICE: "unknown_price",
    Signal.OVERRUN: "overrun",
    Signal.DRIFT: "drift (0.5% or $1), drift > 2% or drift > $5",
}


def parse_rule(text: str) -> Rule:
    """Read one rule; ValueError names the form wanted."""
    match = _RULE.fullmatch(text.strip()) if len(text) <= RULE_CHARACTERS_MAX else None
    if match is None:
        raise ValueError("not a rule; write one as spend > 80%, error_rate > 10% or provider_down")
    word, sign, limit = match[1], match[2], match[3]
    if word not in set(Signal):
        near = difflib.get_close_matches(word, list(Signal), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(Signal)}"
        raise ValueError(f"{word[:40]!r} is nothing that is watched; {remedy}")
    signal = Signal(word)
    parse = _LIMITS.get(signal)
    if parse is None or (signal is Signal.DRIFT and sign is None):
        if sign is not None:
            raise _wrong(signal)
        return Rule(signal)
    if sign != ("<" if signal is Signal.UPSTREAM_CREDITS else ">"):
        raise _wrong(signal)
    return parse(signal, limit.strip())


def _wrong(signal: Signal) -> ValueError:
    return ValueError(f"write it as {_FORMS[signal]}")


def _parse_spend(signal: Signal, limit: str) -> Rule:
    if "%" in limit:
        return Rule(signal, share_ppm=_parse_ppm(signal, limit, most=10 * PPM))
    if "$" not in limit:
        raise _wrong(signal)
    budget = parse_budget(limit)
    return Rule(signal, amount_nano_usd=budget.limit_nano_usd, period=budget.period)


def _parse_credits(signal: Signal, limit: str) -> Rule:
    return Rule(signal, amount_nano_usd=_parse_positive(signal, limit))


def _parse_errors(signal: Signal, limit: str) -> Rule:
    return Rule(signal, share_ppm=_parse_ppm(signal, limit, most=PPM - 1))


def _parse_first_token(signal: Signal, limit: str) -> Rule:
    return Rule(signal, limit_ms=round(parse_positive_duration_s(limit) * 1000))


def _parse_drift(signal: Signal, limit: str) -> Rule:
    if "%" in limit:
        return Rule(signal, share_ppm=_parse_ppm(signal, limit, most=PPM))
    return Rule(signal, amount_nano_usd=_parse_positive(signal, limit))


def _parse_positive(signal: Signal, limit: str) -> int:
    if "$" not in limit or "/" in limit:
        raise _wrong(signal)
    amount = parse_amount(limit)
    if amount == 0:
        raise ValueError(f"{limit!r} is nothing; write an amount above it")
    return amount


def _parse_ppm(signal: Signal, limit: str, *, most: int) -> int:
    """Read a share exactly: no float may decide when a rule holds."""
    match = _SHARE.fullmatch(limit)
    if match is None:
        raise _wrong(signal)
    ppm = int(match[1]) * 10_000 + int((match[2] or "0").ljust(4, "0"))
    if not 0 < ppm <= most:
        raise ValueError(f"{limit!r} can never be passed, or always is; {_wrong(signal)}")
    return ppm


_LIMITS: dict[Signal, Callable[[Signal, str], Rule]] = {
    Signal.SPEND: _parse_spend,
    Signal.UPSTREAM_CREDITS: _parse_credits,
    Signal.ERROR_RATE: _parse_errors,
    Signal.P95_FIRST_TOKEN: _parse_first_token,
    Signal.DRIFT: _parse_drift,
}
