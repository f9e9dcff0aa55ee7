"""Keys, tenants, credentials, credits and who changed them (floor 2): the Protocol of what administers a ledger.

What may be done is written once, in `deeds`, against a `Store`: the primitives that every backend has. A backend runs
a deed in one transaction, so a change and its line in the audit log are both there or neither is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from proxy.ledger.audit import Entry, Head
from proxy.ledger.records import KeyRecord
from proxy.ledger.tenancy import CredentialRecord, Grant, TenantRecord
from proxy.policy.limits import Limits

T = TypeVar("T")


class Store(Protocol):
    """What a deed reads and writes, inside one transaction."""

    def find_key(self, name: str) -> KeyRecord | None:
        """Give a key as it is written, without its maker and its tenant."""
        ...

    def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        ...

    def insert_key(self, key: KeyRecord) -> None:
        """Add a key whose name is free; its limits are put separately."""
        ...

    def replace_key(self, key: KeyRecord) -> None:
        """Change a key and raise its revision; its limits are put separately."""
        ...

    def renew_all_keys(self) -> None:
        """Make every key's plans stale."""
        ...

    def find_limits(self, place: str) -> tuple[Limits, bool]:
        """Give what is written for a place, and whether routes.yaml says it."""
        ...

    def put_limits(self, place: str, limits: Limits) -> None:
        """Write what holds for a place, not declared; no key is renewed."""
        ...

    def find_posted(self, place: str) -> int:
        """Sum what a place has ever spent, nano-USD."""
        ...

    def find_tenant(self, name: str) -> TenantRecord | None:
        """Give a tenant with its credentials."""
        ...

    def list_tenants(self) -> Sequence[TenantRecord]:
        """List all tenants by name, with their credentials."""
        ...

    def put_tenant(self, tenant: TenantRecord) -> None:
        """Add or change a tenant as it is given, its credentials left out."""
        ...

    def put_credential(self, credential: CredentialRecord) -> None:
        """Add or replace a tenant's credential."""
        ...

    def drop_credential(self, tenant: str, provider: str) -> None:
        """Take a tenant's credential away."""
        ...

    def list_grants(self, place: str | None) -> Sequence[Grant]:
        """List the prepaid credits of a place, or all."""
        ...

    def add_grant(self, grant: Grant, *, total_nano_usd: int) -> None:
        """Add a line to the prepaid credits, and write the sum where admissions read it."""
        ...

    def find_head(self) -> Head | None:
        """Give the newest line of the audit log."""
        ...

    def add_entry(self, entry: Entry) -> None:
        """Add a line to the audit log."""
        ...

    def find_last_of(self, action: str) -> str | None:
        """Tell what the newest line of an action is about."""
        ...

    def list_entries(self, *, after_seq: int, rows_max: int) -> Sequence[Entry]:
        """Give a page of the audit log, oldest first."""
        ...

    def list_newest_entries(self, *, before_seq: int, rows_max: int) -> Sequence[Entry]:
        """Give a page of the audit log, newest first."""
        ...


Deed = Callable[[Store], T]


class Registry(Protocol):
    """Administers a ledger."""

    async def write(self, deed: Deed[T]) -> T:
        """Run a deed in one durable transaction; raises the `RequestError` it refuses with, changing nothing."""
        ...

    async def read(self, question: Deed[T]) -> T:
        """Ask something of one moment; nothing may be written."""
        ...
