"""The registry's twin in plain dicts (floor 2): the `Store` over the books of `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from proxy.ledger.audit import Entry, Head
from proxy.ledger.records import KeyRecord
from proxy.ledger.registry import Deed, T
from proxy.ledger.tenancy import CredentialRecord, Grant, TenantRecord
from proxy.policy.calendar import Window
from proxy.policy.limits import NO_LIMITS, Balance, Limits

_EVER = Window(0, None)


@dataclass(slots=True)
class Archive:
    """What the registry keeps beside keys and limits."""

    tenants: dict[str, TenantRecord] = field(default_factory=dict)
    credentials: dict[tuple[str, str], CredentialRecord] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    prepaid: dict[str, int] = field(default_factory=dict)
    """Sums of the grants by place."""
    entries: list[Entry] = field(default_factory=list)

    def find_tenant(self, name: str | None) -> TenantRecord | None:
        """Give a tenant with its credentials."""
        known = None if name is None else self.tenants.get(name)
        if known is None:
            return None
        mine = sorted((one for one in self.credentials.values() if one.tenant == name), key=lambda one: one.provider)
        return replace(known, credentials=tuple(mine))


class Ledgers(Protocol):
    """What the books of `memory` offer."""

    keys: dict[str, KeyRecord]
    limits: dict[str, Limits]
    declared: set[str]
    archive: Archive

    def put_limits(self, place: str, limits: Limits) -> None:
        """Let limits hold for a place, or none."""
        ...

    def renew(self, *names: str) -> None:
        """Make plans stale that were made under these keys."""
        ...

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Sum what a scope's attempts of a window came to."""
        ...


class MemoryRegistry:
    """The `Registry` of registry.py in plain dicts."""

    def __init__(self, books: Ledgers) -> None:
        self._store = MemoryStore(books)

    async def write(self, deed: Deed[T]) -> T:
        """Run a deed: it looks first and writes last, so one that is refused has changed nothing."""
        return deed(self._store)

    async def read(self, question: Deed[T]) -> T:
        """Ask something."""
        return question(self._store)


class MemoryStore:
    """The `Store` over plain dicts."""

    def __init__(self, books: Ledgers) -> None:
        self._books = books

    def find_key(self, name: str) -> KeyRecord | None:
        """Give a key as it is written."""
        key = self._books.keys.get(name)
        return None if key is None else replace(key, limits=self._books.limits.get(f"key:{name}", NO_LIMITS))

    def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        return [self._books.keys[name] for name in sorted(self._books.keys)]

    def insert_key(self, key: KeyRecord) -> None:
        """Add a key whose name is free."""
        self._books.keys[key.name] = key

    def replace_key(self, key: KeyRecord) -> None:
        """Change a key and raise its revision."""
        self._books.keys[key.name] = replace(key, revision=self._books.keys[key.name].revision + 1)

    def renew_all_keys(self) -> None:
        """Make every key's plans stale."""
        self._books.renew(*self._books.keys)

    def find_limits(self, place: str) -> tuple[Limits, bool]:
        """Give what is written for a place, and whether routes.yaml says it."""
        key = self._books.keys.get(place.removeprefix("key:")) if place.startswith("key:") else None
        is_declared = place in self._books.declared or (key is not None and key.is_declared)
        limits = self._books.limits.get(place, NO_LIMITS)
        return limits, is_declared and limits != NO_LIMITS

    def put_limits(self, place: str, limits: Limits) -> None:
        """Write what holds for a place, not declared."""
        self._books.declared.discard(place)
        self._books.put_limits(place, limits)
        key = self._books.keys.get(place.removeprefix("key:")) if place.startswith("key:") else None
        if key is not None:
            self._books.keys[key.name] = replace(key, limits=limits)

    def find_posted(self, place: str) -> int:
        """Sum what a place has ever spent."""
        return self._books.find_balance(place, _EVER).posted_nano_usd

    def find_tenant(self, name: str) -> TenantRecord | None:
        """Give a tenant with its credentials."""
        return self._books.archive.find_tenant(name)

    def list_tenants(self) -> Sequence[TenantRecord]:
        """List all tenants by name, with their credentials."""
        archive = self._books.archive
        return [tenant for name in sorted(archive.tenants) if (tenant := archive.find_tenant(name)) is not None]

    def put_tenant(self, tenant: TenantRecord) -> None:
        """Add or change a tenant as it is given."""
        known = self._books.archive.tenants.get(tenant.name, tenant)
        self._books.archive.tenants[tenant.name] = replace(tenant, created_at_s=known.created_at_s, credentials=())

    def put_credential(self, credential: CredentialRecord) -> None:
        """Add or replace a tenant's credential."""
        self._books.archive.credentials[credential.tenant, credential.provider] = credential

    def drop_credential(self, tenant: str, provider: str) -> None:
        """Take a tenant's credential away."""
        self._books.archive.credentials.pop((tenant, provider), None)

    def list_grants(self, place: str | None) -> Sequence[Grant]:
        """List the prepaid credits of a place, or all."""
        return [one for one in self._books.archive.grants if place in {None, one.place}]

    def add_grant(self, grant: Grant, *, total_nano_usd: int) -> None:
        """Add a line to the prepaid credits, and write the sum where admissions read it."""
        archive = self._books.archive
        archive.grants.append(replace(grant, seq=len(archive.grants) + 1))
        archive.prepaid[grant.place] = total_nano_usd

    def find_head(self) -> Head | None:
        """Give the newest line of the audit log."""
        entries = self._books.archive.entries
        return Head(entries[-1].seq, entries[-1].hash) if entries else None

    def add_entry(self, entry: Entry) -> None:
        """Add a line to the audit log."""
        self._books.archive.entries.append(entry)

    def find_last_of(self, action: str) -> str | None:
        """Tell what the newest line of an action is about."""
        found = (entry.target for entry in reversed(self._books.archive.entries) if entry.action == action)
        return next(found, None)

    def list_entries(self, *, after_seq: int, rows_max: int) -> Sequence[Entry]:
        """Give a page of the audit log, oldest first."""
        return [entry for entry in self._books.archive.entries if entry.seq > after_seq][:rows_max]

    def list_newest_entries(self, *, before_seq: int, rows_max: int) -> Sequence[Entry]:
        """Give a page of the audit log, newest first."""
        return [entry for entry in reversed(self._books.archive.entries) if entry.seq < before_seq][:rows_max]
