"""What every ledger can do (floor 2): the Protocol that SQLite and its twin in memory keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from proxy.ledger.bills import Bills
from proxy.ledger.incidents import Incidents, Signals
from proxy.ledger.records import (
    EVERYTHING,
    Admission,
    Advance,
    AttemptFilter,
    AttemptRow,
    BudgetState,
    KeyRecord,
    Outcome,
    ProviderStats,
    Settlement,
    UsageQuery,
    UsageSum,
)
from proxy.ledger.resolution import Resolution
from proxy.policy.limits import Limits

if TYPE_CHECKING:
    from proxy.ledger.registry import Registry


class Ledger(Protocol):
    """The books. Every write has been made durable when its await returns; reads see every finished write.

    Raises `LedgerUnavailable` when the store cannot be used.
    """

    @property
    def bills(self) -> Bills:
        """Give what providers said of their accounts."""
        ...

    @property
    def registry(self) -> Registry:
        """Give what administers keys, tenants and credits."""
        ...

    @property
    def resolution(self) -> Resolution:
        """Give the part that learns late."""
        ...

    @property
    def incidents(self) -> Incidents:
        """Give what alerts have told and have still to tell."""
        ...

    @property
    def signals(self) -> Signals:
        """Give the figures that alerts are told by."""
        ...

    @property
    def is_writable(self) -> bool:
        """Tell whether the store took what it was last given; while it does not, it is tried from time to time."""
        ...

    async def admit(self, admission: Admission) -> Outcome:
        """Check the key and every limit that holds and write the holds, all or nothing."""
        ...

    async def advance(self, step: Advance) -> Outcome:
        """End one attempt and hold the next, all or nothing: refused, the ended attempt is still pending."""
        ...

    async def settle(self, settlement: Settlement) -> bool:
        """End the request's attempts; False when they had ended before (nothing is written twice).

        An attempt that was given up meanwhile, because its process seemed dead, is corrected: this is the truth.
        """
        ...

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find a key by its digest, disabled and expired ones too."""
        ...

    async def create_key(self, key: KeyRecord) -> bool:
        """Add a minted key; False when the name is taken."""
        ...

    async def revoke_key(self, name: str) -> bool:
        """Disable a key from the next admission on; False when there is none."""
        ...

    async def declare_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Make the declared keys exactly these: upsert by name, disable declared ones that are missing."""
        ...

    async def declare_limits(self, limits: Mapping[str, Limits]) -> None:
        """Make the declared limits of all places but keys exactly these; a changed one makes every key's plan stale."""
        ...

    async def set_limits(self, place: str, limits: Limits) -> None:
        """Change the limits of one place from the next admission on; `NO_LIMITS` takes them away."""
        ...

    async def find_limits(self, place: str) -> Limits:
        """Tell what holds for a place, `NO_LIMITS` when nothing does."""
        ...

    async def prune_rates(self, now_s: float) -> int:
        """Forget the pieces of rates' windows that have passed; gives how many."""
        ...

    async def roll_up(self, before_s: float) -> int:
        """Sum by day (UTC) what is older than the day of a moment, and forget its detail; gives how many attempts.

        No sum changes, but that the hours of such days are not known any more. Requests that are not over stay. The
        moment must lie further back than the longest budget's window but `total`, whose sums go on counting the days.
        """
        ...

    async def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        ...

    async def budgets(self, key_name: str, now_s: float) -> Sequence[BudgetState]:
        """Tell how each budget of a key and of its tenant stands."""
        ...

    async def list_budgets(self, now_s: float) -> Sequence[BudgetState]:
        """Tell how every budget stands; those of users and tags as far as their windows are kept."""
        ...

    async def sum_usage(self, query: UsageQuery) -> Sequence[UsageSum]:
        """Sum attempts by the query's dimensions; without any, one sum."""
        ...

    def walk_usage(self, query: UsageQuery) -> AsyncIterator[Sequence[UsageSum]]:
        """Give the same in pages, as many as there are; ValueError comes with the first."""
        ...

    async def provider_stats(self, *, since_s: float, key_name: str | None) -> Sequence[ProviderStats]:
        """Sum attempts by provider since a time."""
        ...

    async def export(
        self, *, since_s: float | None, after_seq: int, rows_max: int, only: AttemptFilter = EVERYTHING
    ) -> Sequence[AttemptRow]:
        """Give a page of attempts in the order of their seq, from after the one given; 0 begins."""
        ...

    async def find_request(self, request_id: str) -> Sequence[AttemptRow]:
        """Give one request's attempts in order, empty when unknown."""
        ...

    async def find_generation(self, generation_id: str, *, key_name: str) -> Sequence[AttemptRow]:
        """Give the attempts of a key's newest request in which an upstream gave a reply this id, empty when unknown.

        Only `GENERATIONS_SEARCHED_MAX` of the key's newest attempts are looked through.
        """
        ...

    async def resolve_dead_owners(self, now_s: float) -> int:
        """Leave nothing pending of processes that no longer live; gives how many attempts.

        Where the provider can be asked, an attempt becomes unresolved; else it is posted by the last `Progress` known
        of it, source `estimated`, or in full, source `held`.
        """
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of the store. Calling it twice is harmless."""
        ...
