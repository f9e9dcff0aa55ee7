"""What several owners of books in memory have in common (floor 2): the `Standing` of admission.py in plain dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.ledger.admission import (
    Charge,
    KeyState,
    PendingAttempt,
    Reserve,
)
from proxy.ledger.lineage import join
from proxy.ledger.memory_bills import MemoryBills
from proxy.ledger.memory_entries import Entry
from proxy.ledger.memory_incidents import MemoryIncidents
from proxy.ledger.memory_registry import Archive
from proxy.ledger.memory_resolution import LateBooks
from proxy.ledger.records import (
    HOLDING,
    AttemptRow,
    AttemptState,
    KeyRecord,
)
from proxy.ledger.rules import add_prepaid
from proxy.policy.calendar import Window
from proxy.policy.limits import NO_LIMITS, Balance, Flow, Limits, Rate
from proxy.policy.scopes import Rules, Subject, places_of, rules_of


@dataclass(slots=True)
class MemoryBooks:
    """What several owners have in common."""

    keys: dict[str, KeyRecord] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    """Entry n has seq n + 1."""
    limits: dict[str, Limits] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    """Places whose limits were declared."""
    rates: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)
    """Requests and tokens by scope, window and slot."""
    requests: dict[str, list[Entry]] = field(default_factory=dict)
    archive: Archive = field(default_factory=Archive)
    living: set[int] = field(default_factory=set)
    owners: int = 0
    late: LateBooks = field(default_factory=LateBooks)
    incidents: MemoryIncidents = field(default_factory=MemoryIncidents)
    bills: MemoryBills = field(init=False)

    def __post_init__(self) -> None:
        self.bills = MemoryBills(lambda: [entry.row for entry in self.entries])

    @property
    def rows(self) -> list[AttemptRow]:
        """Everything with its detail, in order."""
        return [entry.row for entry in self.entries if not entry.is_rolled]

    def begin(self) -> int:
        """Give a new owner its number."""
        self.owners += 1
        self.living.add(self.owners)
        return self.owners

    def find_limits(self, places: Sequence[str]) -> Mapping[str, Limits]:
        """Give the limits of those places that have some."""
        return {place: limits for place in places if (limits := self.limits_at(place)) != NO_LIMITS}

    def limits_at(self, place: str) -> Limits:
        """Give what holds for a place, with the wall of what was prepaid."""
        return add_prepaid(self.limits.get(place, NO_LIMITS), self.archive.prepaid.get(place))

    def find_rules(self, subject: Subject) -> Rules:
        """Give every rule that holds for an attempt."""
        return rules_of(subject, self.find_limits(places_of(subject)))

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Sum what a scope's attempts of a window came to."""
        mine = [entry.row for entry in self.entries if window.has(entry.row.at_s) and entry.counts_in(scope)]
        posted = sum(row.cost_nano_usd or 0 for row in mine if row.state is AttemptState.POSTED)
        return Balance(posted, sum(row.hold_nano_usd for row in mine if row.state in HOLDING))

    def find_flow(self, scope: str, rate: Rate, at_s: float) -> Flow:
        """Sum what a rate has let through."""
        first, last = rate.find_slots(at_s)
        slots = {
            slot: counts
            for (place, window_s, slot), counts in self.rates.items()
            if place == scope and window_s == rate.window_s and first <= slot <= last
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
        if name not in self.keys:
            return None
        key = self.join(self.keys[name])
        return KeyState(key.is_enabled, key.expires_at_s, key.revision)

    def join(self, key: KeyRecord) -> KeyRecord:
        """Put a key together with its maker and its tenant."""
        maker = None if key.parent is None else self.tell_walls(self.keys[key.parent])
        return join(key, maker=maker, house=self.archive.find_tenant(key.tenant))

    def tell_walls(self, key: KeyRecord) -> KeyRecord:
        """Say of a key whether some hard budget may hold for it."""
        places = [f"key:{key.name}", f"key:{key.parent}", f"tenant:{key.tenant}", "global"]
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
