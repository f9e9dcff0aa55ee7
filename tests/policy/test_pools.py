"""Which key of a pool is called next, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import FailureKind
from proxy.policy.pools import REST_S_LONGEST, REST_S_MAX, KeyState, Resting, choose_key, find_rest_s, find_resting

K = FailureKind
NOW_S = 1_000.0


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ([], None),
        ([KeyState()], 0),
        ([KeyState(turn=3), KeyState(turn=1), KeyState(turn=2)], 1),
        ([KeyState(in_flight=1, turn=0), KeyState(in_flight=0, turn=9)], 1),
        ([KeyState(share_left=0.5), KeyState(share_left=0.6, in_flight=9, turn=9)], 1),
        ([KeyState(share_left=0.0), KeyState(rests_until_s=NOW_S + 1)], 0),
        ([KeyState(rests_until_s=NOW_S), KeyState(turn=1)], 0),
        ([KeyState(rests_until_s=NOW_S + 0.001), KeyState(turn=1)], 1),
        ([KeyState(), KeyState(is_spare=True, share_left=0.1, in_flight=5, turn=9)], 1),
        ([KeyState(), KeyState(is_spare=True, rests_until_s=NOW_S + 1)], 0),
        ([KeyState(fits=False), KeyState(turn=9)], 1),
        ([KeyState(fits=False)], None),
        ([KeyState(rests_until_s=NOW_S + 1)], None),
    ],
)
def test_a_choice(states: list[KeyState], chosen: int | None) -> None:
    """Usable, spare, fullest, idlest, longest ago: in that order."""
    assert choose_key(states, NOW_S) == chosen


@pytest.mark.parametrize(
    ("states", "resting"),
    [
        ([], Resting(K.CREDITS)),
        ([KeyState(fits=False, rests_until_s=NOW_S + 5)], Resting(K.CREDITS)),
        ([KeyState(rests_until_s=NOW_S + 9), KeyState(rests_until_s=NOW_S + 5)], Resting(K.RATE_LIMITED, 5.0)),
        ([KeyState(rests_until_s=NOW_S + 9), KeyState(rests_until_s=NOW_S)], Resting(K.RATE_LIMITED, 9.0)),
        (
            [KeyState(rests_until_s=NOW_S + 9), KeyState(rests_until_s=NOW_S + 5, why=K.CREDENTIALS)],
            Resting(K.RATE_LIMITED, 9.0),
        ),
        (
            [
                KeyState(rests_until_s=NOW_S + 9, why=K.CREDENTIALS),
                KeyState(rests_until_s=NOW_S + 5, why=K.CREDITS),
            ],
            Resting(K.CREDITS, 5.0),
        ),
    ],
)
def test_a_return(states: list[KeyState], resting: Resting) -> None:
    """The first that is limited, else the first that is refused; credit, when none may be sent the model."""
    assert find_resting(states, NOW_S) == resting


@pytest.mark.parametrize(
    ("kind", "refusals", "told_s", "rest_s"),
    [
        (K.RATE_LIMITED, 1, None, 1.0),
        (K.RATE_LIMITED, 2, None, 2.0),
        (K.RATE_LIMITED, 6, None, 32.0),
        (K.RATE_LIMITED, 7, None, 60.0),
        (K.RATE_LIMITED, 10_000, None, 60.0),
        (K.RATE_LIMITED, 1, 30.0, 30.0),
        (K.RATE_LIMITED, 9, 0.2, 1.0),
        (K.RATE_LIMITED, 3, 0.0, 4.0),
        (K.RATE_LIMITED, 1, 1e12, REST_S_MAX),
        (K.CREDENTIALS, 1, None, REST_S_LONGEST),
        (K.CREDITS, 5, None, REST_S_LONGEST),
        (K.CREDITS, 1, 3.0, 3.0),
    ],
)
def test_a_rest(kind: FailureKind, refusals: int, told_s: float | None, rest_s: float) -> None:
    """As long as the provider says, within a second and a day; else doubling from a second to a minute."""
    assert find_rest_s(kind, refusals, told_s) == rest_s


@given(st.integers(1, 8), st.integers(1, 200))
def test_with_nothing_known_turns_are_even(keys: int, calls: int) -> None:
    """However many calls, no key has had two more than another."""
    states = [KeyState() for _ in range(keys)]
    had = [0] * keys
    for turn in range(1, calls + 1):
        index = choose_key(states, NOW_S)
        assert index is not None
        states[index] = states[index]._replace(turn=turn)
        had[index] += 1
    assert max(had) - min(had) <= 1
