"""The windows of budgets (floor 1a, pure): hours, days, weeks and months of a named time zone.

Zones and their changes of the clock come from the time zone database that Python reads, the one fact of the world
outside that this floor leans on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from proxy.money import UTC_NAME, Period

QUARTER_S = 900
"""Every zone's clock differs from UTC by whole quarters of an hour, so no window begins within one."""
_HOUR_S = 3_600
_DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; weeks begin on Monday, weekday 0."""
_WINDOWS_KEPT_MAX = 4_096
_OFFSETS_KEPT_MAX = 64


@dataclass(frozen=True, slots=True)
class Window:
    """One run of a period: whole seconds since the epoch, UTC."""

    starts_s: int
    ends_s: int | None
    """Exclusive, and the start of the next window; None for `total`, which never ends."""

    def has(self, at_s: float) -> bool:
        """Tell whether a moment lies in it."""
        return self.starts_s <= at_s and (self.ends_s is None or at_s < self.ends_s)


_ALL_TIME = Window(0, None)


class Offset(NamedTuple):
    """How far a zone's clock is from UTC, until it is changed."""

    until_s: int
    """Exclusive, seconds since the epoch."""
    offset_s: int
    """Seconds to add to UTC."""


def find_window(period: Period, at_s: float, timezone: str = UTC_NAME) -> Window:
    """Find the window a moment lies in: hours and days of the zone, weeks from Monday, calendar months."""
    if period is Period.TOTAL:
        return _ALL_TIME
    if timezone == UTC_NAME:
        return _find_in_utc(period, at_s)
    return _find_in_zone(period, int(at_s // QUARTER_S) * QUARTER_S, timezone)


@lru_cache(maxsize=_OFFSETS_KEPT_MAX)
def find_offsets(timezone: str, from_s: int, to_s: int) -> tuple[Offset, ...]:
    """Give a zone's offsets from one moment to another, in order; the last one holds beyond it.

    A clock that is changed and changed back within a day is not noticed; none ever was.
    """
    zone = ZoneInfo(timezone)
    offsets: list[Offset] = []
    known_s = _offset_s(zone, from_s)
    for day_s in range(from_s + _DAY_S, to_s + _DAY_S, _DAY_S):
        offset_s = _offset_s(zone, day_s)
        if offset_s != known_s:
            quarters = range((day_s - _DAY_S) // QUARTER_S + 1, day_s // QUARTER_S + 1)
            until = next(quarter for quarter in quarters if _offset_s(zone, quarter * QUARTER_S) == offset_s)
            offsets.append(Offset(until * QUARTER_S, known_s))
            known_s = offset_s
    return (*offsets, Offset(to_s + _DAY_S, known_s))


def _offset_s(zone: ZoneInfo, at_s: int) -> int:
    offset = (_EPOCH + timedelta(seconds=at_s)).astimezone(zone).utcoffset()
    assert offset is not None, "every zone tells its offset"
    return int(offset.total_seconds())


def _find_in_utc(period: Period, at_s: float) -> Window:
    if period is Period.MONTH:
        return _month(int(at_s // _DAY_S))
    if period is Period.HOUR:
        starts_s = int(at_s // _HOUR_S) * _HOUR_S
        return Window(starts_s, starts_s + _HOUR_S)
    day = int(at_s // _DAY_S)
    if period is Period.DAY:
        return Window(day * _DAY_S, (day + 1) * _DAY_S)
    monday = day - (day + _EPOCH_WEEKDAY) % 7
    return Window(monday * _DAY_S, (monday + 7) * _DAY_S)


@lru_cache(maxsize=_WINDOWS_KEPT_MAX)
def _month(day: int) -> Window:
    first = (_EPOCH + timedelta(days=day)).replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Window((first - _EPOCH).days * _DAY_S, (following - _EPOCH).days * _DAY_S)


@lru_cache(maxsize=_WINDOWS_KEPT_MAX)
def _find_in_zone(period: Period, quarter_s: int, timezone: str) -> Window:
    zone = ZoneInfo(timezone)
    here = (_EPOCH + timedelta(seconds=quarter_s)).astimezone(zone)
    if period is Period.HOUR:
        # An hour that the clock repeats in autumn is two hours, each with a budget of its own.
        starts_s = quarter_s - (here.minute * 60 + here.second)
        return Window(starts_s, starts_s + _HOUR_S)
    if period is Period.MONTH:
        first = here.date().replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
    else:
        first = here.date() - timedelta(days=here.weekday() if period is Period.WEEK else 0)
        following = first + timedelta(days=7 if period is Period.WEEK else 1)
    return Window(_midnight_s(first, zone), _midnight_s(following, zone))


def _midnight_s(day: date, zone: ZoneInfo) -> int:
    """Give a day's first moment; where the clock leaps over midnight, the moment of the leap."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
