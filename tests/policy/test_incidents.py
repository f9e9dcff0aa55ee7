"""When an incident begins and ends: the table of cases, and a machine that looks again and again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.policy.incidents import (
    GONE,
    OPENED_PER_PASS_MAX,
    UNWATCHED,
    Incident,
    Level,
    Measured,
    Reading,
    judge,
)
from proxy.policy.readings import ENDINGS

READING = Reading("spend > 80%", "key:a/day", Level.OVER, "82%", "key a has spent", "wait", turn=7)


def opened(reading: Reading, name: str = "i") -> Incident:
    """The incident a reading begins."""
    told = (reading.figure, reading.what, reading.advice)
    return Incident(name, reading.rule, reading.subject, reading.turn, *told, opened_at_s=0.0)


def at(level: Level) -> Reading:
    """The reading at this level."""
    return replace(READING, level=level)


def test_it_begins_once() -> None:
    """Over and not open: it begins; open, nothing happens."""
    assert judge({READING.rule: [READING]}, [], endings=ENDINGS).opened == (READING,)
    again = judge({READING.rule: [READING]}, [opened(READING)], endings=ENDINGS)
    assert (again.opened, again.ended) == ((), ())


def test_between_its_limits_nothing_changes() -> None:
    """Neither begins nor ends."""
    measured = {READING.rule: [at(Level.BETWEEN)]}
    for known in ([], [opened(READING)]):
        changes = judge(measured, known, endings=ENDINGS)
        assert (changes.opened, changes.ended) == ((), ())


def test_it_ends_clear_of_its_limit() -> None:
    """With what is the case now."""
    incident = opened(READING)
    changes = judge({READING.rule: [replace(at(Level.CLEAR), what="it is fine")]}, [incident], endings=ENDINGS)
    assert changes.ended == ((incident, "it is fine"),)


def test_another_window_is_another_incident() -> None:
    """The old one ends, and the new one begins in the same look."""
    incident, later = opened(READING), replace(READING, turn=8)
    changes = judge({READING.rule: [later]}, [incident], endings=ENDINGS)
    assert changes.opened == (later,)
    assert changes.ended == ((incident, "a new period has begun, or it is no longer watched"),)


def test_what_cannot_be_measured_stays_open() -> None:
    """A look-up that failed is no news."""
    changes = judge({READING.rule: None}, [opened(READING)], endings=ENDINGS)
    assert (changes.opened, changes.ended) == ((), ())


def test_a_rule_that_has_left_takes_its_incidents_along() -> None:
    """And says so."""
    incident = opened(READING)
    assert judge({}, [incident], endings=ENDINGS).ended == ((incident, UNWATCHED),)


def test_a_subject_that_is_gone_ends_too() -> None:
    """In the words of its signal, where there are some."""
    drift = opened(replace(READING, rule="drift", subject="provider:x"))
    assert judge({"drift": []}, [drift], endings=ENDINGS).ended == ((drift, GONE),)


def test_a_storm_comes_in_portions() -> None:
    """The rest begins with the next looks."""
    storm = [replace(READING, subject=f"key:{number}/day") for number in range(OPENED_PER_PASS_MAX + 1)]
    first = judge({READING.rule: storm}, [], endings=ENDINGS).opened
    assert len(first) == OPENED_PER_PASS_MAX
    known = [opened(one, str(number)) for number, one in enumerate(first)]
    assert judge({READING.rule: storm}, known, endings=ENDINGS).opened == (storm[-1],)


SUBJECTS = ("key:a/day", "key:b/day", "provider:x")
RULES = ("spend > 80%", "provider_down")
LEVELS = st.sampled_from(Level)


class Watching(RuleBasedStateMachine):
    """Looks at levels that change as they like, and keeps the incidents as the ledger does."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[tuple[str, str, int], Incident] = {}
        self.told: list[tuple[str, tuple[str, str, int]]] = []
        self.seen: dict[tuple[str, str, int], Level | None] = {}

    @rule(
        levels=st.dictionaries(st.tuples(st.sampled_from(RULES), st.sampled_from(SUBJECTS), st.integers(0, 1)), LEVELS),
        unknown=st.sets(st.sampled_from(RULES)),
        watched=st.sets(st.sampled_from(RULES), min_size=1),
    )
    def look(self, levels: dict[tuple[str, str, int], Level], unknown: set[str], watched: set[str]) -> None:
        """One pass, over rules of which some cannot be measured now."""
        measured: Measured = {
            name: None
            if name in unknown
            else [
                Reading(name, subject, level, "1", "it is so", "do", turn)
                for (of, subject, turn), level in levels.items()
                if of == name
            ]
            for name in watched
        }
        before = dict(self.known)
        changes = judge(measured, list(before.values()), endings=ENDINGS)
        for reading in changes.opened:
            assert levels[reading.place] is Level.OVER, "it begins only while the rule holds"
            assert reading.place not in before, "it is not begun twice"
            self.known[reading.place] = opened(reading, str(len(self.told)))
            self.told.append(("opened", reading.place))
        for incident, ending in changes.ended:
            assert ending
            assert before[incident.place] is incident
            assert levels.get(incident.place) is not Level.OVER or incident.rule not in watched
            assert incident.rule not in watched - (watched - unknown), "what is not known ends nothing"
            del self.known[incident.place]
            self.told.append(("ended", incident.place))
        for place, level in levels.items():
            if place[0] in watched - unknown:
                holds = place in self.known
                assert (
                    holds if level is Level.OVER else not holds if level is Level.CLEAR else holds == (place in before)
                )

    @invariant()
    def each_is_told_once_and_ended_once(self) -> None:
        """Never two beginnings without an end between them."""
        for place in {place for _, place in self.told}:
            events = [event for event, where in self.told if where == place]
            assert events[::2] == ["opened"] * len(events[::2])
            assert events[1::2] == ["ended"] * len(events[1::2])


TestWatching = Watching.TestCase
TestWatching.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
