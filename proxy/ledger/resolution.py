"""What is learnt late about an attempt (part of `ledger`, floor 2): plain values, free of any backend's words.

An attempt whose owner died is *unresolved* while its provider can still be asked what it cost; its hold counts until
then. One that was booked by an estimate may be *corrected* by the truth: the row changes, and a correcting entry beside
it says from what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from proxy.usage import CostSource, Usage


class Reason(StrEnum):
    """Why an attempt's cost is another than was booked; each corrects an attempt once."""

    LOOKUP = "generation_lookup"
    """The provider was asked afterwards."""
    LATE = "late_settlement"
    """Its process had been given up for dead, and settled after all."""


class Progress(NamedTuple):
    """What is known of an open attempt, kept in case its process dies."""

    request_id: str
    number: int
    generation_id: str | None
    """The upstream's own id of the reply."""
    can_look_up: bool
    """The provider tells what a generation cost, to whoever gives this id."""
    cost_nano_usd: int | None
    """Of what was delivered so far, at the price it was admitted under; None when that says nothing of the bill."""
    input_tokens: int = 0
    output_tokens: int = 0


class DueLookup(NamedTuple):
    """An attempt whose provider is to be asked now."""

    attempt_seq: int
    request_id: str
    number: int
    provider: str
    upstream_key: str | None
    payer: str
    tenant: str | None
    generation_id: str
    hold_nano_usd: int
    tries: int
    """This one included."""
    is_unresolved: bool
    """Its hold waits for the answer."""


class Truth(NamedTuple):
    """What an attempt has cost after all."""

    attempt_seq: int
    cost_nano_usd: int | None
    """None only with `CostSource.UNKNOWN`."""
    cost_source: CostSource | None
    """None: nothing was charged, the attempt is voided."""
    usage: Usage
    reason: Reason
    at_s: float


class Correction(NamedTuple):
    """What a truth changed."""

    was_nano_usd: int | None
    was_source: CostSource | None
    delta_nano_usd: int
    cost_source: CostSource | None
    reason: Reason


class Resolved(NamedTuple):
    """How a truth was taken."""

    correction: Correction | None
    """None: nothing had been booked before."""


class Resolution(Protocol):
    """The part of the books that learns late. Raises `LedgerUnavailable` when the store cannot be used."""

    async def note_progress(self, progress: Sequence[Progress]) -> None:
        """Keep what this process's open attempts have come to, in place of what was kept before.

        It outlives the process but not a power cut, and costs no transaction.
        """
        ...

    async def claim_lookups(self, now_s: float, *, count_max: int) -> Sequence[DueLookup]:
        """Take the look-ups that are due, each for one try; nobody else gets one before its next time."""
        ...

    async def correct(self, truth: Truth) -> Resolved | None:
        """Book a truth and end its look-up; None when it changes nothing: it is known, or the attempt is pending."""
        ...

    async def miss_lookup(self, lookup: DueLookup, at_s: float) -> bool:
        """Note that a try told nothing: late enough, an unresolved attempt is booked by what is known, which is told.

        Behind the last try the question is dropped.
        """
        ...


ProgressByAttempt = Mapping[tuple[str, int], Progress]
"""By request and number."""
