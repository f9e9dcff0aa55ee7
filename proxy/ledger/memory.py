"""The ledger's twin in plain dicts (floor 2): the same Protocol and rules, nothing durable, for tests and trials.

Balances are summed anew whenever they are asked for: slow, and right by construction. What is a process elsewhere is an
owner's number here: `share` gives another owner of the same books, `die` ends one as kill -9 would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger import tallies
from proxy.ledger.admission import (
    ERROR_OWNER_DIED,
    ERROR_UNSETTLED,
    Charge,
    Grant,
    KeyState,
    PendingAttempt,
    Reserve,
    count_tokens,
    find_free_id,
    judge_admission,
    judge_step,
    pair_ends,
)
from proxy.ledger.budgeting import KeptBalance, list_open, match_personal
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
    Outcome,
    ProviderStats,
    Settlement,
    UsageQuery,
    UsageSum,
)
from proxy.money import UTC_NAME, Period
from proxy.policy.calendar import Window, find_window
from proxy.policy.limits import NO_LIMITS, RATE_SLOTS, Balance, Flow, Limits, Rate
from proxy.policy.scopes import Rule, Subject, accounts_of, places_of, rules_of, scopes_of
from proxy.usage import CostSource, Usage


@dataclass(slots=True)
class _Entry:
    """One attempt and what its row does not show."""

    row: AttemptRow
    admission: Admission
    owner: int
    is_priced: bool
    reserve: Reserve | None

    @property
    def subject(self) -> Subject:
        """Whom it counts for."""
        row = self.row
        return Subject(
            row.key,
            row.tenant,
            row.user,
            row.tags,
            row.alias or row.route,
            row.provider,
            row.model,
            row.upstream_key,
            row.payer,
        )

    @property
    def pending(self) -> PendingAttempt:
        """Its hold, as the shared rules take it."""
        row = self.row
        return PendingAttempt(
            row.seq, row.attempt, row.at_s, row.hold_nano_usd, self.is_priced, self.reserve, self.subject
        )

    def counts_in(self, scope: str) -> bool:
        """Tell whether it counts in a scope."""
        return scope in scopes_of(self.subject)


@dataclass(slots=True)
class _Books:
    """What several owners have in common."""

    keys: dict[str, KeyRecord] = field(default_factory=dict)
    entries: list[_Entry] = field(default_factory=list)
    """Entry n has seq n + 1."""
    limits: dict[str, Limits] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    """Places whose limits were declared."""
    rates: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)
    """Requests and tokens by scope, window and slot."""
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

    def find_limits(self, places: Sequence[str]) -> Mapping[str, Limits]:
        """Give the limits of those places that have some."""
        return {place: self.limits[place] for place in places if place in self.limits}

    def find_rules(self, subject: Subject) -> Sequence[Rule]:
        """Give every rule that holds for an attempt."""
        return rules_of(subject, self.find_limits(places_of(subject)))

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Sum what a scope's attempts of a window came to."""
        mine = [entry.row for entry in self.entries if window.has(entry.row.at_s) and entry.counts_in(scope)]
        posted = sum(row.cost_nano_usd or 0 for row in mine if row.state is AttemptState.POSTED)
        return Balance(posted, sum(row.hold_nano_usd for row in mine if row.state is AttemptState.PENDING))

    def find_flow(self, scope: str, rate: Rate, at_s: float) -> Flow:
        """Sum what a rate has let through."""
        since = rate.slot_of(at_s) - RATE_SLOTS
        slots = {
            slot: counts
            for (place, window_s, slot), counts in self.rates.items()
            if place == scope and window_s == rate.window_s and slot >= since
        }
        requests, tokens = (sum(counts[part] for counts in slots.values()) for part in (0, 1))
        return Flow(requests, tokens, min(slots, default=None))

    def count_open(self, scope: str) -> int:
        """Count a scope's attempts under way."""
        return sum(entry.row.state is AttemptState.PENDING and entry.counts_in(scope) for entry in self.entries)

    def charge(self, charges: Sequence[Charge]) -> None:
        """Count what was let in."""
        for scope, window_s, slot, requests, tokens in charges:
            known = self.rates.get((scope, window_s, slot), (0, 0))
            self.rates[scope, window_s, slot] = (known[0] + requests, known[1] + tokens)

    def correct(self, reserve: Reserve, tokens: int) -> None:
        """Tell the rates of tokens how many an attempt had in truth."""
        for place in reserve.slots:
            requests, known = self.rates.get(place, (0, 0))
            if place in self.rates:
                self.rates[place] = (requests, max(0, known + tokens - reserve.tokens))

    def find_key_state(self, name: str) -> KeyState | None:
        """Find what an admission must know of its key."""
        key = self.keys.get(name)
        return None if key is None else KeyState(key.is_enabled, key.expires_at_s, key.revision)

    def tell_walls(self, key: KeyRecord) -> KeyRecord:
        """Say of a key whether some hard budget may hold for it."""
        places = [f"key:{key.name}", "global", *([] if key.tenant is None else [f"tenant:{key.tenant}"])]
        return replace(
            key,
            limits=self.limits.get(f"key:{key.name}", NO_LIMITS),
            is_walled=any(limits.has_hard_budget for limits in self.find_limits(places).values()),
        )

    def put_limits(self, place: str, limits: Limits) -> None:
        """Let limits hold for a place, or none."""
        if limits == NO_LIMITS:
            self.limits.pop(place, None)
        else:
            self.limits[place] = limits

    def renew(self, *names: str) -> None:
        """Make plans stale that were made under these keys."""
        for name in names:
            if name in self.keys:
                self.keys[name] = replace(self.keys[name], revision=self.keys[name].revision + 1)

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

    is_writable = True

    def __init__(self, *, clock: Clock, books: _Books | None = None) -> None:
        """Begin with empty books; `clock` is asked for because every ledger is."""
        self._clock = clock
        self._books = books or _Books()
        self._owner = self._books.join()
        self.incidents = self._books.incidents
        self.signals = MemorySignals(lambda: self._books.rows, self._books.find_balance)
        self._is_closed = False

    def share(self) -> MemoryLedger:
        """Give another process's view of the same books."""
        return MemoryLedger(clock=self._clock, books=self._books)

    def die(self) -> None:
        """End as a killed process does: what is pending stays pending."""
        self._books.living.discard(self._owner)
        self._is_closed = True

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
        self._end(ended, step.ended)
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
                self._end(attempt, end)
        return bool(pending)

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find a key by its digest, disabled and expired ones too; an enabled one before others."""
        self._check_open()
        found = [key for key in self._books.keys.values() if key.digest == digest]
        first = min(found, key=lambda key: (not key.is_enabled, key.name), default=None)
        return None if first is None else self._books.tell_walls(first)

    async def create_key(self, key: KeyRecord) -> bool:
        """Add a minted key; False when the name is taken."""
        self._check_open()
        if key.name in self._books.keys:
            return False
        self._books.keys[key.name] = key
        self._books.put_limits(f"key:{key.name}", key.limits)
        return True

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
            self._books.put_limits(f"key:{key.name}", key.limits)
            if former is None:
                self._books.keys[key.name] = key
            elif former != (same := replace(key, created_at_s=former.created_at_s, revision=former.revision)):
                self._books.keys[key.name] = replace(same, revision=former.revision + 1)

    async def declare_limits(self, limits: Mapping[str, Limits]) -> None:
        """Make the declared limits of all places but keys exactly these; a change makes every key's plans stale."""
        self._check_open()
        books, wanted = self._books, {place: one for place, one in limits.items() if one != NO_LIMITS}
        if {place: books.limits[place] for place in books.declared if place in books.limits} == wanted:
            return
        for place in books.declared - wanted.keys():
            books.put_limits(place, NO_LIMITS)
        books.declared = set(wanted)
        for place, one in wanted.items():
            books.put_limits(place, one)
        books.renew(*books.keys)

    async def set_limits(self, place: str, limits: Limits) -> None:
        """Change the limits of one place from the next admission on."""
        self._check_open()
        self._books.declared.discard(place)
        self._books.put_limits(place, limits)
        kind, _, name = place.partition(":")
        if kind == "key":
            known = self._books.keys.get(name)
            if known is not None:
                self._books.keys[name] = replace(known, limits=limits)
            self._books.renew(name)
        else:
            self._books.renew(*self._books.keys)

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
        places = self._books.find_limits([f"key:{key_name}", f"tenant:{key.tenant}"])
        return [one.state(self._books.find_balance(one.scope, one.window)) for one in list_open(places, now_s)]

    async def list_budgets(self, now_s: float) -> Sequence[BudgetState]:
        """Tell how every budget stands; those of users and tags as far as somebody has come."""
        self._check_open()
        books = self._books
        places = dict(sorted(books.limits.items()))
        opened = list_open(places, now_s)
        scopes = sorted({scope for entry in books.entries for scope in accounts_of(entry.subject)})
        windows = {find_window(period, now_s, zone) for period in Period for zone in _zones(places)}
        kept = [KeptBalance(scope, window, books.find_balance(scope, window)) for scope in scopes for window in windows]
        tenants = {key.name: key.tenant for key in books.keys.values()}
        states = [one.state(books.find_balance(one.scope, one.window)) for one in opened]
        return [*states, *match_personal(places, kept, tenants=tenants, now_s=now_s)]

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
        entry = _Entry(row, admission, self._owner, start.is_priced, grant.reserve(start))
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
            saved_nano_usd=end.saved_nano_usd,
        )
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


def _zones(places: Mapping[str, Limits]) -> set[str]:
    """Give every time zone that some budget is in."""
    inner = [*places.values()]
    for limits in places.values():
        inner += [*(() if limits.users is None else (limits.users,)), *(of_tag for _, of_tag in limits.tags)]
    return {UTC_NAME, *(budget.timezone for limits in inner for budget in limits.budgets)}
