"""The ledger's twin in plain dicts (floor 2): the same Protocol and rules, nothing durable, for tests and trials.

Balances are summed anew whenever they are asked for: slow, and right by construction. What is a process elsewhere is an
owner's number here: `share` gives another owner of the same books, `die` ends one as kill -9 would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger import tallies
from proxy.ledger.admission import (
    ERROR_OWNER_DIED,
    ERROR_UNSETTLED,
    KeyState,
    Outcome,
    PendingAttempt,
    find_free_id,
    judge_admission,
    judge_step,
    name_scope,
    pair_ends,
)
from proxy.ledger.memory_incidents import MemoryIncidents, MemorySignals
from proxy.ledger.records import (
    GENERATIONS_SEARCHED_MAX,
    Admission,
    Admitted,
    Advance,
    AttemptEnd,
    AttemptRow,
    AttemptStart,
    AttemptState,
    BudgetState,
    KeyRecord,
    ProviderStats,
    Settlement,
    UsageQuery,
    UsageSum,
)
from proxy.policy.limits import Balance, Window, find_window
from proxy.usage import CostSource, Usage


@dataclass(slots=True)
class _Entry:
    """One attempt and what its row does not show."""

    row: AttemptRow
    admission: Admission
    owner: int
    is_priced: bool

    @property
    def pending(self) -> PendingAttempt:
        """Its hold, as the shared rules take it."""
        row = self.row
        return PendingAttempt(row.seq, row.attempt, row.key, row.at_s, row.hold_nano_usd, self.is_priced)


@dataclass(slots=True)
class _Books:
    """What several owners have in common."""

    keys: dict[str, KeyRecord] = field(default_factory=dict)
    entries: list[_Entry] = field(default_factory=list)
    """Entry n has seq n + 1."""
    requests: dict[str, list[_Entry]] = field(default_factory=dict)
    living: set[int] = field(default_factory=set)
    owners: int = 0
    incidents: MemoryIncidents = field(default_factory=MemoryIncidents)

    @property
    def rows(self) -> list[AttemptRow]:
        """Everything, in order."""
        return [entry.row for entry in self.entries]

    def join(self) -> int:
        """Give a new owner its number."""
        self.owners += 1
        self.living.add(self.owners)
        return self.owners

    def find_balance(self, key_name: str, window: Window) -> Balance:
        """Sum what a key's attempts of a window came to."""
        mine = [row for row in self.rows if row.key == key_name and window.has(row.at_s)]
        posted = sum(row.cost_nano_usd or 0 for row in mine if row.state is AttemptState.POSTED)
        return Balance(posted, sum(row.hold_nano_usd for row in mine if row.state is AttemptState.PENDING))

    def find_key_state(self, name: str) -> KeyState | None:
        """Find what an admission must know of its key."""
        key = self.keys.get(name)
        return None if key is None else KeyState(key.is_enabled, key.expires_at_s, key.revision, key.budget)

    def disable(self, name: str) -> None:
        """Disable a key, once."""
        key = self.keys[name]
        if key.is_enabled:
            self.keys[name] = replace(key, is_enabled=False, revision=key.revision + 1)

    def find_pending(self, request_id: str) -> list[PendingAttempt]:
        """Find a request's open attempts."""
        entries = self.requests.get(request_id, [])
        return [entry.pending for entry in entries if entry.row.state is AttemptState.PENDING]


class MemoryLedger:
    """The `Ledger` of records.py in plain dicts."""

    def __init__(self, *, clock: Clock, books: _Books | None = None) -> None:
        """Begin with empty books; `clock` is asked for because every ledger is."""
        self._clock = clock
        self._books = books or _Books()
        self._owner = self._books.join()
        self.incidents = self._books.incidents
        self.signals = MemorySignals(lambda: self._books.rows)
        self._is_closed = False

    def share(self) -> MemoryLedger:
        """Give another process's view of the same books."""
        return MemoryLedger(clock=self._clock, books=self._books)

    def die(self) -> None:
        """End as a killed process does: what is pending stays pending."""
        self._books.living.discard(self._owner)
        self._is_closed = True

    async def admit(self, admission: Admission) -> Outcome:
        """Check the key and its budgets and write the holds, all or nothing."""
        self._check_open()
        key = self._books.find_key_state(admission.key_name)
        refusal = judge_admission(admission, key, self._books.find_balance)
        if refusal is not None:
            return refusal
        request_id = find_free_id(admission.request_id, self._books.requests.__contains__)
        for start in admission.attempts:
            self._begin(request_id, start, admission, at_s=admission.at_s)
        return Admitted(request_id)

    async def advance(self, step: Advance) -> Outcome:
        """End one attempt and hold the next, all or nothing: refused, the ended attempt is still pending."""
        self._check_open()
        pending = {attempt.number: attempt for attempt in self._books.find_pending(step.request_id)}
        ended = pending.get(step.ended.number)
        if ended is None:
            raise ValueError(f"attempt {step.ended.number} of {step.request_id} is not pending")
        key = self._books.find_key_state(ended.key_name)
        refusal = judge_step(step, ended, key, self._books.find_balance)
        if refusal is not None:
            return refusal
        self._end(ended, step.ended)
        admission = self._books.entries[ended.seq - 1].admission
        self._begin(step.request_id, step.begins, admission, at_s=step.at_s)
        return Admitted(step.request_id)

    async def settle(self, settlement: Settlement) -> bool:
        """End the request's attempts; False when they had ended before (nothing is written twice)."""
        self._check_open()
        pending = self._books.find_pending(settlement.request_id)
        for attempt, end in pair_ends(pending, settlement.ended):
            if end is None:
                self._post_in_full(attempt, ERROR_UNSETTLED)
            else:
                self._end(attempt, end)
        return bool(pending)

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find a key by its digest, disabled and expired ones too; an enabled one before others."""
        self._check_open()
        found = [key for key in self._books.keys.values() if key.digest == digest]
        return min(found, key=lambda key: (not key.is_enabled, key.name), default=None)

    async def create_key(self, key: KeyRecord) -> bool:
        """Add a minted key; False when the name is taken."""
        self._check_open()
        return self._books.keys.setdefault(key.name, key) is key

    async def revoke_key(self, name: str) -> bool:
        """Disable a key from the next admission on; False when there is none."""
        self._check_open()
        if name not in self._books.keys:
            return False
        self._books.disable(name)
        return True

    async def declare_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Make the declared keys exactly these; a key that did not change keeps its revision."""
        self._check_open()
        for name, known in self._books.keys.items():
            if known.is_declared and name not in {key.name for key in keys}:
                self._books.disable(name)
        for key in (replace(wanted, is_declared=True) for wanted in keys):
            former = self._books.keys.get(key.name)
            if former is None:
                self._books.keys[key.name] = key
            elif former != (same := replace(key, created_at_s=former.created_at_s, revision=former.revision)):
                self._books.keys[key.name] = replace(same, revision=former.revision + 1)

    async def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        self._check_open()
        return sorted(self._books.keys.values(), key=lambda key: key.name)

    async def budgets(self, key_name: str, now_s: float) -> Sequence[BudgetState]:
        """Tell how each budget of a key stands."""
        self._check_open()
        key = self._books.keys.get(key_name)
        if key is None or key.budget is None:
            return []
        window = find_window(key.budget.period, now_s)
        balance = self._books.find_balance(key_name, window)
        return [
            BudgetState(
                scope=name_scope(key_name),
                period=key.budget.period.value,
                limit_nano_usd=key.budget.limit_nano_usd,
                posted_nano_usd=balance.posted_nano_usd,
                held_nano_usd=balance.held_nano_usd,
                resets_at_s=window.ends_s,
            )
        ]

    async def sum_usage(self, query: UsageQuery) -> Sequence[UsageSum]:
        """Sum attempts by the query's dimensions; ValueError names an unknown one."""
        self._check_open()
        return tallies.sum_usage(self._books.rows, query)

    async def provider_stats(self, *, since_s: float, key_name: str | None) -> Sequence[ProviderStats]:
        """Sum attempts by provider since a time."""
        self._check_open()
        return tallies.sum_providers(
            row for row in self._books.rows if row.at_s >= since_s and key_name in {None, row.key}
        )

    async def export(self, *, since_s: float | None, after_seq: int, rows_max: int) -> Sequence[AttemptRow]:
        """Give a page of attempts in the order of their seq, from after the one given; 0 begins."""
        self._check_open()
        rows = self._books.rows[after_seq:]
        return [row for row in rows if since_s is None or row.at_s >= since_s][:rows_max]

    async def find_request(self, request_id: str) -> Sequence[AttemptRow]:
        """Give one request's attempts in order, empty when unknown."""
        self._check_open()
        entries = self._books.requests.get(request_id, [])
        return sorted((entry.row for entry in entries), key=lambda row: row.attempt)

    async def find_generation(self, generation_id: str, *, key_name: str) -> Sequence[AttemptRow]:
        """Give the attempts of a key's newest request in which an upstream gave a reply this id, empty when unknown."""
        self._check_open()
        mine = sorted((row for row in self._books.rows if row.key == key_name), key=lambda row: (row.at_s, row.seq))
        newest = reversed(mine[-GENERATIONS_SEARCHED_MAX:])
        found = next((row for row in newest if row.generation_id == generation_id), None)
        return [] if found is None else await self.find_request(found.request_id)

    async def resolve_dead_owners(self, now_s: float) -> int:
        """Post in full, source `held`, what owners that no longer live left pending; gives how many attempts."""
        self._check_open()
        left = [
            entry.pending
            for entry in self._books.entries
            if entry.row.state is AttemptState.PENDING and entry.owner not in self._books.living
        ]
        for attempt in left:
            self._post_in_full(attempt, ERROR_OWNER_DIED)
        return len(left)

    async def close(self) -> None:
        """Let go of the books; calling it twice is harmless."""
        self.die()

    def _check_open(self) -> None:
        if self._is_closed:
            raise LedgerUnavailable("the ledger is closed; this process is about to end")

    def _begin(self, request_id: str, start: AttemptStart, admission: Admission, *, at_s: float) -> None:
        row = AttemptRow(
            seq=len(self._books.entries) + 1,
            request_id=request_id,
            attempt=start.number,
            state=AttemptState.PENDING,
            at_s=at_s,
            key=admission.key_name,
            tenant=admission.tenant,
            app=admission.app,
            route=admission.route,
            provider=start.provider,
            model=start.model,
            is_stream=admission.is_stream,
            status=None,
            usage=Usage(),
            hold_nano_usd=start.hold_nano_usd,
            cost_nano_usd=None,
            cost_source=None,
            latency_ms=None,
            first_token_ms=None,
            error=None,
            generation_id=None,
            is_overrun=False,
        )
        entry = _Entry(row, admission, self._owner, start.is_priced)
        self._books.entries.append(entry)
        self._books.requests.setdefault(request_id, []).append(entry)

    def _end(self, attempt: PendingAttempt, end: AttemptEnd) -> None:
        entry = self._books.entries[attempt.seq - 1]
        entry.row = replace(
            entry.row,
            state=end.state,
            status=end.status,
            usage=end.usage,
            cost_nano_usd=end.cost_nano_usd if end.state is AttemptState.POSTED else 0,
            cost_source=end.cost_source,
            latency_ms=end.latency_ms,
            first_token_ms=end.first_token_ms,
            error=end.error,
            generation_id=end.generation_id,
            is_overrun=end.is_overrun,
        )

    def _post_in_full(self, attempt: PendingAttempt, error: str) -> None:
        entry = self._books.entries[attempt.seq - 1]
        entry.row = replace(
            entry.row,
            state=AttemptState.POSTED,
            cost_nano_usd=attempt.hold_nano_usd if attempt.is_priced else None,
            cost_source=CostSource.HELD if attempt.is_priced else CostSource.UNKNOWN,
            error=error,
        )
