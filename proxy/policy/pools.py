"""Which key of a pool is called next (floor 1a, pure): the one with most left of its quota that does not rest.

A key rests for everything, for models that cost money, for those that do not, or for one model. `proxy.pools` keeps
that and hands over, for each key, what it comes to for the model in question. Cases of a choice, in order:

* keys that may not be sent the model (a free key, and it costs money), and keys that rest, are none;
* where a model costs nothing, keys without credit go first: nothing else can be done with them;
* then the larger share of what the provider said is left, as far as it said anything: unknown counts as all of it;
* then the fewest calls under way, then the one whose last turn is longest ago: with nothing known, all take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from proxy.errors import FailureKind

REST_S_FIRST = 1.0
"""Of a key that was limited and not told for how long; it doubles with each refusal that follows."""
REST_S_LONGEST = 60.0
"""Where that ends; also how long a key rests whose credential or credit was refused, before one call tries again."""
REST_S_MAX = 86_400.0
"""Nobody is believed who says longer: the longest window is a day."""
DOUBLINGS_MAX = 6

REFUSALS_OF_KEY = frozenset({FailureKind.RATE_LIMITED, FailureKind.CREDENTIALS, FailureKind.CREDITS})
"""Failures that are about the key: another one may do better at once."""


class KeyState(NamedTuple):
    """One key of a pool, as it stands for one model; times are monotonic seconds."""

    fits: bool = True
    """It may be sent this model at all."""
    is_spare: bool = False
    """It has no credit, and the model needs none."""
    rests_until_s: float = 0.0
    why: FailureKind = FailureKind.RATE_LIMITED
    """Of the rest."""
    share_left: float = 1.0
    """Of its tightest quota, 0 to 1."""
    in_flight: int = 0
    turn: int = 0
    """When it was last chosen, counted over the pool."""


class Resting(NamedTuple):
    """No key of a pool can be called now."""

    kind: FailureKind
    """Why the first that is back rests; credit, when none may be sent the model at all."""
    returns_in_s: float | None = None
    """Until that one is back; None: none of them ever is."""


def choose_key(states: Sequence[KeyState], now_s: float) -> int | None:
    """Choose a key by its place in the pool, None when none is to be had now."""
    usable = [index for index, state in enumerate(states) if state.fits and state.rests_until_s <= now_s]
    return min(usable, key=lambda index: _rank(states[index]), default=None)


def find_resting(states: Sequence[KeyState], now_s: float) -> Resting:
    """Tell which key is back first, when there is none to choose.

    A key that is limited is waited for before one whose credential or credit was refused: time cures only the first.
    """
    resting = [state for state in states if state.fits and state.rests_until_s > now_s]
    first = min(
        resting, key=lambda state: (state.why is not FailureKind.RATE_LIMITED, state.rests_until_s), default=None
    )
    return Resting(FailureKind.CREDITS) if first is None else Resting(first.why, first.rests_until_s - now_s)


def find_rest_s(kind: FailureKind, refusals: int, told_s: float | None) -> float:
    """Tell how long a key rests; `refusals` counts those in a row, this one too, `told_s` is the provider's word."""
    if told_s is not None and told_s > 0:
        return min(max(told_s, REST_S_FIRST), REST_S_MAX)
    if kind is not FailureKind.RATE_LIMITED:
        return REST_S_LONGEST
    return min(REST_S_FIRST * 2.0 ** min(refusals - 1, DOUBLINGS_MAX), REST_S_LONGEST)


def _rank(state: KeyState) -> tuple[bool, float, int, int]:
    return (not state.is_spare, -state.share_left, state.in_flight, state.turn)
