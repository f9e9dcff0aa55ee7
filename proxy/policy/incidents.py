"""When an incident begins and when it is over (floor 1a, pure).

An incident is one rule that holds of one subject: 80 % of one key's budget for one day, one provider that is down. It
is told when it begins and when it ends. Nothing is remembered here: given what was measured and what is open, the same
changes follow, whichever process asks and however often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

OPENED_PER_PASS_MAX = 100
"""Incidents that one pass opens; the next pass opens the rest, so a storm comes in portions."""


class Level(Enum):
    """How a measurement stands to its limit; between over and clear nothing changes, so that nothing flaps."""

    OVER = "the rule holds"
    BETWEEN = "neither over nor clear of the limit, or not known"
    CLEAR = "clear of the limit by the margin"


@dataclass(frozen=True, slots=True)
class Reading:
    """One rule measured on one subject."""

    rule: str
    """`Rule.text`."""
    subject: str
    """`key:mobile/day`, `provider:openai`, `gateway`."""
    level: Level
    figure: str
    """What was measured, for people: `82%`, `$4.10`, `14.2s`."""
    what: str
    """A clause without a full stop: what is the case, and how much of what."""
    advice: str
    """What to do about it."""
    turn: int = 0
    """The end of the budget's window, seconds since the epoch; another window is another incident. 0: none."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Give what makes it the same incident; at most one of a place is open."""
        return self.rule, self.subject, self.turn


@dataclass(frozen=True, slots=True)
class Incident:
    """A rule that holds, or held, of a subject."""

    id: str
    rule: str
    subject: str
    turn: int
    figure: str
    """As it was when it opened."""
    what: str
    """As it was when it opened."""
    advice: str
    opened_at_s: float
    ended_at_s: float | None = None
    ending: str | None = None
    """Why it is over, a clause; None while it is open."""

    @property
    def place(self) -> tuple[str, str, int]:
        """As that of a `Reading`."""
        return self.rule, self.subject, self.turn


@dataclass(frozen=True, slots=True)
class Changes:
    """What follows from one look."""

    opened: tuple[Reading, ...]
    ended: tuple[tuple[Incident, str], ...]
    """With the reason of each."""


Measured = Mapping[str, Sequence[Reading] | None]
"""Readings by `Rule.text`; None: it cannot be measured now, so what is open of it stays open."""

UNWATCHED = "the rule has left routes.yaml"
GONE = "it is over, or no longer watched"


def judge(measured: Measured, open_incidents: Sequence[Incident], *, endings: Mapping[str, str]) -> Changes:
    """Tell which incidents begin and which are over.

    `endings` says by the rule's first word why an incident is over whose subject is not measured any more.
    """
    known = {incident.place for incident in open_incidents}
    readings = {one.place: one for found in measured.values() for one in found or ()}
    opened = [one for place, one in readings.items() if one.level is Level.OVER and place not in known]
    ended = []
    for incident in open_incidents:
        reading = readings.get(incident.place)
        if incident.rule not in measured:
            ended.append((incident, UNWATCHED))
        elif measured[incident.rule] is not None and reading is None:
            ended.append((incident, endings.get(incident.rule.partition(" ")[0], GONE)))
        elif reading is not None and reading.level is Level.CLEAR:
            ended.append((incident, reading.what))
    return Changes(tuple(opened[:OPENED_PER_PASS_MAX]), tuple(ended))
