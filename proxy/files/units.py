"""The units of routes.yaml besides money: durations, counts, rates, speeds, shares (part of `files`, floor 2)."""

from __future__ import annotations

import re

from proxy.policy.limits import Measure, Rate

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
COUNTS = {"": 1, "k": 1_000, "m": 1_000_000}
DURATION_S_MAX = 366 * 86400.0
COUNT_MAX = 1_000_000_000
SPEED_PER_S_MAX = 1_000_000.0
PAUSE_S_MAX = 30.0
"""The longest a request may queue: clients and proxies before us give up soon after."""
RATE_WINDOW_S_MAX = 86_400
"""A longer stretch is a matter for budgets."""

RETENTION_D_MIN = 35
"""Budgets by the month sum attempts themselves: a month, a clock put back in it, and some days of grace."""
RETENTION_D_MAX = 3_660
FOREVER = "forever"

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?(ms|s|m|h|d)")
_RETENTION = re.compile(r"(\d{1,4}) ?(d|y)")
_COUNT = re.compile(r"(\d{1,9}) ?([km]?)", re.IGNORECASE)
_SPEED = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?/ ?s")
_RATE = re.compile(r"(\d{1,9}) ?([km]?)(?: ?(requests?|tokens?))? ?/ ?(\d{0,6}) ?([a-z]+)", re.IGNORECASE)
_WINDOWS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
"""What a rate may be counted over, in seconds."""
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")


def parse_duration_s(text: str) -> float:
    """Read `300ms`, `3s`, `2m`, `1h` or `30d` as seconds; ValueError names the form wanted."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write it with its unit as 300ms, 3s, 2m, 1h or 30d")
    seconds = float(match[1]) * SECONDS[match[2]]
    if seconds > DURATION_S_MAX:
        raise ValueError(f"{text!r} is longer than 366d; write a shorter duration")
    return seconds


def parse_retention_s(text: str) -> float | None:
    """Read `90d`, `2y` or `forever`, which is None; ValueError names the form wanted."""
    if text.strip() == FOREVER:
        return None
    match = _RETENTION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time to keep things for; write it as 90d, 2y or {FOREVER}")
    days = int(match[1]) * (365 if match[2] == "y" else 1)
    if not RETENTION_D_MIN <= days <= RETENTION_D_MAX:
        msg = f"{text!r} must be {RETENTION_D_MIN}d to {RETENTION_D_MAX}d, or {FOREVER}; budgets by the month need that"
        raise ValueError(msg)
    return days * SECONDS["d"]


def parse_positive_duration_s(text: str) -> float:
    """Read a duration that is longer than nothing."""
    seconds = parse_duration_s(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} would leave no time at all; write at least 1ms")
    return seconds


def parse_count(text: str) -> int:
    """Read `4096`, `128k` or `1M` (k is 1,000, M is 1,000,000); ValueError names the form wanted."""
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a count; write it as 4096, 128k or 1M")
    count = int(match[1]) * COUNTS[match[2].lower()]
    if count > COUNT_MAX:
        raise ValueError(f"{text!r} is more than {COUNT_MAX:,}; write a smaller count")
    return count


def parse_positive_count(text: str) -> int:
    """Read a count that is at least 1."""
    count = parse_count(text)
    if count == 0:
        raise ValueError(f"{text!r} must be at least 1")
    return count


def parse_pause_s(text: str) -> float:
    """Read how long a request may queue."""
    seconds = parse_duration_s(text)
    if seconds > PAUSE_S_MAX:
        raise ValueError(f"{text!r} is too long to keep a client waiting; write at most {PAUSE_S_MAX:.0f}s")
    return seconds


def parse_rate(text: str) -> Rate:
    """Read `60/min`, `20/10s` or `100k tokens/min`, of requests where it does not say; ValueError names the form."""
    match = _RATE.fullmatch(text.strip())
    unit_s = _WINDOWS.get(match[5].lower()) if match else None
    if match is None or unit_s is None:
        raise ValueError(f"{text!r} is not a rate; write it as 60/min, 5/s, 1000/day, 20/10s or 100k tokens/min")
    limit = int(match[1]) * COUNTS[match[2].lower()]
    window_s = int(match[4] or 1) * unit_s
    if not 1 <= limit <= COUNT_MAX:
        raise ValueError(f"{text!r} must let 1 to {COUNT_MAX:,} through")
    if not 1 <= window_s <= RATE_WINDOW_S_MAX:
        raise ValueError(f"{text!r} must be counted over 1 second to 1 day; a longer limit is a `budget`")
    measure = Measure.TOKENS if (match[3] or "").lower().startswith("token") else Measure.REQUESTS
    return Rate(measure, limit, window_s)


def parse_speed_per_s(text: str) -> float:
    """Read `50/s`, tokens a second, above 0; ValueError names the form wanted."""
    match = _SPEED.fullmatch(text.strip())
    speed = float(match[1]) if match else 0.0
    if not 0 < speed <= SPEED_PER_S_MAX:
        raise ValueError(f"{text!r} is not a speed; write tokens a second as 50/s, above 0")
    return speed


def parse_share(text: str) -> float:
    """Read `25%` as 0.25; ValueError names the form wanted."""
    match = _SHARE.fullmatch(text.strip())
    share = float(match[1]) / 100 if match else 2.0
    if share > 1:
        raise ValueError(f"{text!r} is not a share; write it as 0% to 100%")
    return share
