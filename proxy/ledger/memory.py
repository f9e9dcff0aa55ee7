"""The ledger's twin in plain dicts (floor 2): the same Protocol and rules, nothing durable, for tests and trials.

Balances are summed anew whenever they are asked for: slow, and right by construction. What is a process elsewhere is an
owner's number here: `share` gives another owner of the same books, `die` ends one as kill -9 would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger import tallies
from proxy.ledger.admission import (
    ERROR_OWNER_DIED,
    ERROR_UNSETTLED,
    Grant,
    PendingAttempt,
    count_tokens,
    find_free_id,
    judge_admission,
    judge_step,
    pair_ends,
)
from proxy.ledger.budgeting import list_open, state_all
from proxy.ledger.correcting import Dead
from proxy.ledger.deeds import note_declaration
from proxy.ledger.errands import add_key, declaring, end_key, limit
from proxy.ledger.lineage import as_presented
from proxy.ledger.memory_books import MemoryBooks
from proxy.ledger.memory_entries import Entry
from proxy.ledger.memory_incidents import MemorySignals
from proxy.ledger.memory_registry import MemoryRegistry
from proxy.ledger.memory_resolution import MemoryResolution
from proxy.ledger.records import (
    EVERYTHING,
    GENERATIONS_SEARCHED_MAX,
    Admission,
    Admitted,
    Advance,
    AttemptEnd,
    AttemptFilter,
    AttemptRow,
    AttemptStart,
    AttemptState,
    BudgetState,
    KeyRecord,
    Outcome,
    ProviderStats,
    Settlement,
    UsageQuery,
    UsageSum,
)
from proxy.ledger.rolling import floor_day_s, forget_detail
from proxy.policy.limits import NO_LIMITS, RATE_SLOTS, Limits
from proxy.policy.scopes import accounts_of
from proxy.usage import CostSource, Usage


class MemoryLedger:
    """The `Ledger` of records.py in plain dicts."""

    is_writable = True

    def __init__(self, *, clock: Clock, books: MemoryBooks | None = None) -> None:
        """Begin with empty books; `clock` is asked for because every ledger is."""
        self._clock = clock
        self._books = books or MemoryBooks()
        self._owner = self._books.begin()
        self._registry = MemoryRegistry(self._books)
        self.bills = self._books.bills
        self.incidents = self._books.incidents
        self.signals = MemorySignals(lambda: self._books.rows, self._books.find_balance)
        self._is_closed = False
        self.resolution = MemoryResolution(
            self._owner,
            self._books.late,
            self._books.entries,
            correct_rates=self._books.correct,
            check_open=self._check_open,
        )

    def share(self) -> MemoryLedger:
        """Give another process's view of the same books."""
        return MemoryLedger(clock=self._clock, books=self._books)

    def die(self) -> None:
        """End as a killed process does: what is pending stays pending."""
        self._books.living.discard(self._owner)
        self._is_closed = True

    @property
    def registry(self) -> MemoryRegistry:
        """Give what administers keys, tenants and credits."""
        return self._registry

    async def admit(self, admission: Admission) -> Outcome:
        """Check the key and every limit that holds and write the holds, all or nothing."""
        self._check_open()
        key = self._books.find_key_state(admission.key_name)
        grant = judge_admission(admission, key, self._books)
        if not isinstance(grant, Grant):
            return grant
        request_id = find_free_id(admission.request_id, self._books.requests.__contains__)
        for start in admission.attempts:
            self._begin(request_id, start, admission, at_s=admission.at_s, grant=grant)
        self._books.charge(grant.charges)
        return Admitted(request_id, grant.quotas)

    async def advance(self, step: Advance) -> Outcome:
        """End one attempt and hold the next, all or nothing: refused, the ended attempt is still pending."""
        self._check_open()
        pending = {attempt.number: attempt for attempt in self._books.find_pending(step.request_id)}
        ended = pending.get(step.ended.number)
        if ended is None:
            raise ValueError(f"attempt {step.ended.number} of {step.request_id} is not pending")
        key = self._books.find_key_state(ended.subject.key_name)
        grant = judge_step(step, ended, key, self._books)
        if not isinstance(grant, Grant):
            return grant
        self._end(ended, step.ended, step.at_s)
        admission = self._books.entries[ended.seq - 1].admission
        self._begin(step.request_id, step.begins, admission, at_s=step.at_s, grant=grant)
        self._books.charge(grant.charges)
        return Admitted(step.request_id, grant.quotas)

    async def settle(self, settlement: Settlement) -> bool:
        """End the request's attempts; False when they had ended before (nothing is written twice)."""
        self._check_open()
        pending = self._books.find_pending(settlement.request_id)
        for attempt, end in pair_ends(pending, settlement.ended):
            if end is None:
                self._post_in_full(attempt, ERROR_UNSETTLED)
            else:
                self._end(attempt, end, settlement.at_s)
        return self._settle_late(settlement, {attempt.number for attempt in pending}) or bool(pending)

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find a key by its digest, disabled and expired ones too; an enabled one before others."""
        self._check_open()
        now_s = self._clock.now_s()
        found = [
            key
            for key in self._books.keys.values()
            if key.digest == digest or (key.former_digest == digest and (key.former_until_s or 0) > now_s)
        ]
        first = min(found, key=lambda key: (not key.is_enabled, key.name), default=None)
        return None if first is None else as_presented(self._books.join(self._books.tell_walls(first)), digest)

    async def create_key(self, key: KeyRecord) -> bool:
        """Add a minted key; False when the name is taken."""
        self._check_open()
        return await add_key(self.registry, key)

    async def revoke_key(self, name: str) -> bool:
        """Disable a key from the next admission on; False when there is none."""
        self._check_open()
        return await end_key(self.registry, name, self._clock.now_s())

    async def declare_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Make the declared keys exactly these; a key that did not change keeps its revision."""
        self._check_open()
        books, names, changed = self._books, {key.name for key in keys}, []
        gone = [name for name, key in books.keys.items() if key.is_declared and key.is_enabled and name not in names]
        for name in gone:
            books.disable(name)
        for key in (replace(wanted, is_declared=True) for wanted in keys):
            former = books.keys.get(key.name)
            books.put_limits(f"key:{key.name}", key.limits)
            if former is None:
                books.keys[key.name] = key
            elif former != (same := replace(key, created_at_s=former.created_at_s, revision=former.revision)):
                books.keys[key.name] = replace(same, revision=former.revision + 1)
            else:
                continue
            changed.append(key.name)
        await self._note("keys.declare", changed, gone)

    async def declare_limits(self, limits: Mapping[str, Limits]) -> None:
        """Make the declared limits of all places but keys exactly these; a change makes every key's plans stale."""
        self._check_open()
        books, wanted = self._books, {place: one for place, one in limits.items() if one != NO_LIMITS}
        if {place: books.limits[place] for place in books.declared if place in books.limits} == wanted:
            return
        gone = books.declared - wanted.keys()
        changed = [place for place, one in wanted.items() if place not in books.declared or books.limits[place] != one]
        for place in gone:
            books.put_limits(place, NO_LIMITS)
        books.declared = set(wanted)
        for place, one in wanted.items():
            books.put_limits(place, one)
        books.renew(*books.keys)
        await self._note("limits.declare", changed, gone)

    async def set_limits(self, place: str, limits: Limits) -> None:
        """Change the limits of one place from the next admission on."""
        self._check_open()
        await limit(self.registry, place, limits, self._clock.now_s())

    async def find_limits(self, place: str) -> Limits:
        """Tell what holds for a place, `NO_LIMITS` when nothing does."""
        self._check_open()
        return self._books.limits.get(place, NO_LIMITS)

    async def prune_rates(self, now_s: float) -> int:
        """Forget the pieces of rates' windows that have passed; gives how many."""
        self._check_open()
        rates = self._books.rates
        passed = [place for place in rates if place[2] < int(now_s * RATE_SLOTS // place[1]) - RATE_SLOTS]
        for place in passed:
            del rates[place]
        return len(passed)

    async def roll_up(self, before_s: float) -> int:
        """Keep of what is older only its day."""
        self._check_open()
        before_day_s, books, rolled = floor_day_s(before_s), self._books, 0
        for request_id, entries in list(books.requests.items()):
            left = forget_detail([entry.row for entry in entries], before_day_s, asked=books.late.lookups)
            for entry, row in zip(entries, left, strict=False):
                entry.row, entry.is_rolled = row, True
                books.requests.pop(request_id, None)
            rolled += len(left)
        return rolled

    async def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        self._check_open()
        keys = sorted(self._books.keys.values(), key=lambda key: key.name)
        return [self._books.tell_walls(key) for key in keys]

    async def budgets(self, key_name: str, now_s: float) -> Sequence[BudgetState]:
        """Tell how each budget of a key and of its tenant stands."""
        self._check_open()
        key = self._books.keys.get(key_name)
        if key is None:
            return []
        places = self._books.find_limits([f"key:{key_name}", f"key:{key.parent}", f"tenant:{key.tenant}"])
        return [one.state(self._books.find_balance(one.scope, one.window)) for one in list_open(places, now_s)]

    async def list_budgets(self, now_s: float) -> Sequence[BudgetState]:
        """Tell how every budget stands; those of users and tags as far as somebody has come."""
        self._check_open()
        books = self._books
        places = books.find_limits(sorted({*books.limits, *books.archive.prepaid}))
        scopes = sorted({scope for entry in books.entries for scope in accounts_of(entry.subject)})
        owners = {key.name: key.tenant or key.parent for key in books.keys.values()}
        return state_all(places, scopes, books.find_balance, owners=owners, now_s=now_s)

    async def sum_usage(self, query: UsageQuery) -> Sequence[UsageSum]:
        """Sum attempts by the query's dimensions; ValueError names an unknown one."""
        self._check_open()
        rolled = frozenset(entry.row.seq for entry in self._books.entries if entry.is_rolled)
        return tallies.sum_usage([entry.row for entry in self._books.entries], query, rolled=rolled)

    async def walk_usage(self, query: UsageQuery) -> AsyncIterator[Sequence[UsageSum]]:
        """Give the same, in one page."""
        yield await self.sum_usage(query)

    async def provider_stats(self, *, since_s: float, key_name: str | None) -> Sequence[ProviderStats]:
        """Sum attempts by provider since a time."""
        self._check_open()
        return tallies.sum_providers(
            row for row in self._books.rows if row.at_s >= since_s and key_name in {None, row.key}
        )

    async def export(
        self, *, since_s: float | None, after_seq: int, rows_max: int, only: AttemptFilter = EVERYTHING
    ) -> Sequence[AttemptRow]:
        """Give a page of attempts in the order of their seq, from after the one given; 0 begins."""
        self._check_open()
        rows = (row for row in self._books.rows if row.seq > after_seq and tallies.is_wanted(row, since_s, only))
        return list(islice(rows, rows_max))

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
        """Leave nothing pending of owners that no longer live; gives how many attempts."""
        self._check_open()
        books = self._books
        left = [
            entry
            for entry in books.entries
            if entry.row.state is AttemptState.PENDING and entry.owner not in books.living
        ]
        for entry in left:
            dead = Dead(str(entry.owner), now_s, books.late.find_progress(entry.owner))
            if not self.resolution.leave_open(entry, dead):
                self._post_in_full(entry.pending, ERROR_OWNER_DIED)
        return len(left)

    async def close(self) -> None:
        """Let go of the books; calling it twice is harmless."""
        if not self._is_closed:
            self._books.late.progress.pop(self._owner, None)
        self.die()

    async def _note(self, action: str, changed: Iterable[str], gone: Iterable[str]) -> None:
        act = declaring(self._clock.now_s())
        await self.registry.write(lambda store: note_declaration(store, act, action, changed=changed, gone=gone))

    def _check_open(self) -> None:
        if self._is_closed:
            raise LedgerUnavailable("the ledger is closed; this process is about to end")

    def _begin(self, request_id: str, start: AttemptStart, admission: Admission, *, at_s: float, grant: Grant) -> None:
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
            user=admission.user,
            tags=admission.tags,
            upstream_key=start.upstream_key,
            payer=start.payer,
            alias=admission.alias or admission.route,
        )
        entry = Entry(row, admission, self._owner, start.is_priced, grant.reserve(start))
        self._books.entries.append(entry)
        self._books.requests.setdefault(request_id, []).append(entry)

    def _settle_late(self, settlement: Settlement, pending: set[int]) -> bool:
        ends = {end.number: end for end in settlement.ended if end.number not in pending}
        entries = [one for one in self._books.requests.get(settlement.request_id, []) if one.row.attempt in ends]
        late = [self.resolution.settle_late(one, ends[one.row.attempt], settlement.at_s) for one in entries]
        return any(late)

    def _end(self, attempt: PendingAttempt, end: AttemptEnd, at_s: float) -> None:
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
            saved_nano_usd=end.saved_nano_usd,
        )
        if end.is_lookup_due and end.generation_id is not None:
            self._books.late.ask_later(attempt.seq, at_s)
        if attempt.reserve is not None:
            self._books.correct(attempt.reserve, count_tokens(end, attempt.reserve.tokens))

    def _post_in_full(self, attempt: PendingAttempt, error: str) -> None:
        entry = self._books.entries[attempt.seq - 1]
        entry.row = replace(
            entry.row,
            state=AttemptState.POSTED,
            cost_nano_usd=attempt.hold_nano_usd if attempt.is_priced else None,
            cost_source=CostSource.HELD if attempt.is_priced else CostSource.UNKNOWN,
            error=error,
        )
