"""The registry in SQLite (floor 2): the `Store` of one transaction, and deeds run in the writer's thread."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from sqlite3 import Cursor
from typing import Any, NamedTuple

from proxy.errors import RequestError
from proxy.ledger import rows
from proxy.ledger.audit import Entry, Head
from proxy.ledger.records import KeyRecord
from proxy.ledger.registry import Deed, T
from proxy.ledger.rules import read_limits, write_limits
from proxy.ledger.schema import connect, explain
from proxy.ledger.sql import STATEMENTS, parse_blocks
from proxy.ledger.standing import find_balance
from proxy.ledger.tenancy import CredentialRecord, Grant, TenantRecord
from proxy.ledger.writer import Writer
from proxy.policy.calendar import Window
from proxy.policy.limits import NO_LIMITS, Limits

REGISTRY = parse_blocks(resources.files("proxy.ledger").joinpath("registry.sql").read_text("utf-8"))
_EVER = Window(0, None)

Row = Sequence[Any]


class _Done(NamedTuple):
    """What a deed came to: refusals are values here, as the writer takes an exception for a mistake of ours."""

    result: Any
    refusal: RequestError | None


class SqliteRegistry:
    """The `Registry` of registry.py on SQLite."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer

    async def write(self, deed: Deed[T]) -> T:
        """Run a deed in one durable transaction."""
        done = await self._writer.call(_run, deed)
        if done.refusal is not None:
            raise done.refusal
        result: T = done.result
        return result

    async def read(self, question: Deed[T]) -> T:
        """Ask something of one moment, on a connection of its own."""
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Deed[T]) -> T:
        try:
            with closing(connect(self._path, is_reader=True)) as connection:
                connection.execute("BEGIN")
                return question(SqliteStore(connection.cursor()))
        except sqlite3.Error as error:
            raise explain(error) from error


def _run(cursor: Cursor, deed: Deed[Any]) -> _Done:
    try:
        return _Done(deed(SqliteStore(cursor)), None)
    except RequestError as refusal:
        return _Done(None, refusal)


class SqliteStore:
    """The `Store` of one transaction."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def find_key(self, name: str) -> KeyRecord | None:
        """Give a key as it is written."""
        found = self._cursor.execute(STATEMENTS["find_key_by_name"], (name,)).fetchone()
        return None if found is None else rows.read_key(found)

    def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        return [rows.read_key(row) for row in self._cursor.execute(STATEMENTS["list_keys"]).fetchall()]

    def insert_key(self, key: KeyRecord) -> None:
        """Add a key whose name is free."""
        self._cursor.execute(STATEMENTS["insert_key"], rows.write_key(key))

    def replace_key(self, key: KeyRecord) -> None:
        """Change a key and raise its revision."""
        self._cursor.execute(STATEMENTS["replace_key"], rows.write_key_change(key))

    def renew_all_keys(self) -> None:
        """Make every key's plans stale."""
        self._cursor.execute(STATEMENTS["renew_all_keys"])

    def find_limits(self, place: str) -> tuple[Limits, bool]:
        """Give what is written for a place, and whether routes.yaml says it."""
        found = self._cursor.execute(REGISTRY["find_rules"], (place,)).fetchone()
        return (NO_LIMITS, False) if found is None else (read_limits(found[0]), bool(found[1]))

    def put_limits(self, place: str, limits: Limits) -> None:
        """Write what holds for a place, not declared."""
        put_limits(self._cursor, place, limits, is_declared=False)

    def find_posted(self, place: str) -> int:
        """Sum what a place has ever spent."""
        return find_balance(self._cursor, place, _EVER).posted_nano_usd

    def find_tenant(self, name: str) -> TenantRecord | None:
        """Give a tenant with its credentials."""
        found = self._cursor.execute(REGISTRY["find_tenant"], (name,)).fetchone()
        return None if found is None else read_tenant(found, self._list_credentials(name))

    def list_tenants(self) -> Sequence[TenantRecord]:
        """List all tenants by name, with their credentials."""
        credentials = self._list_credentials(None)
        found = self._cursor.execute(REGISTRY["list_tenants"]).fetchall()
        return [read_tenant(row, [one for one in credentials if one[0] == row[0]]) for row in found]

    def put_tenant(self, tenant: TenantRecord) -> None:
        """Add or change a tenant as it is given."""
        self._cursor.execute(REGISTRY["put_tenant"], _write_tenant(tenant))

    def put_credential(self, credential: CredentialRecord) -> None:
        """Add or replace a tenant's credential."""
        row = (credential.tenant, credential.provider, credential.sealed)
        self._cursor.execute(REGISTRY["put_credential"], (*row, credential.fingerprint, credential.created_at_s))

    def drop_credential(self, tenant: str, provider: str) -> None:
        """Take a tenant's credential away."""
        self._cursor.execute(REGISTRY["drop_credential"], (tenant, provider))

    def list_grants(self, place: str | None) -> Sequence[Grant]:
        """List the prepaid credits of a place, or all."""
        found = self._cursor.execute(REGISTRY["list_grants"], (place, place)).fetchall()
        return [
            Grant(place=of, amount_nano_usd=amount, kind=kind, at_s=at_s, actor=actor, note=said, seq=seq)
            for seq, of, amount, kind, at_s, actor, said in found
        ]

    def add_grant(self, grant: Grant, *, total_nano_usd: int) -> None:
        """Add a line to the prepaid credits, and write the sum where admissions read it."""
        row = (grant.place, grant.amount_nano_usd, grant.kind, grant.at_s, grant.actor, grant.note)
        self._cursor.execute(REGISTRY["add_grant"], row)
        self._cursor.execute(REGISTRY["put_prepaid"], (grant.place, total_nano_usd))

    def find_head(self) -> Head | None:
        """Give the newest line of the audit log."""
        found = self._cursor.execute(REGISTRY["find_head"]).fetchone()
        return None if found is None else Head(*found)

    def add_entry(self, entry: Entry) -> None:
        """Add a line to the audit log."""
        head = (entry.seq, entry.at_s, entry.actor, entry.address, entry.request_id)
        said = (entry.action, entry.target, entry.before, entry.after, entry.hash)
        self._cursor.execute(REGISTRY["add_entry"], (*head, *said))

    def find_last_of(self, action: str) -> str | None:
        """Tell what the newest line of an action is about."""
        found = self._cursor.execute(REGISTRY["find_last_of"], (action,)).fetchone()
        return None if found is None else str(found[0])

    def list_entries(self, *, after_seq: int, rows_max: int) -> Sequence[Entry]:
        """Give a page of the audit log, oldest first."""
        return [Entry(*row) for row in self._cursor.execute(REGISTRY["list_entries"], (after_seq, rows_max)).fetchall()]

    def list_newest_entries(self, *, before_seq: int, rows_max: int) -> Sequence[Entry]:
        """Give a page of the audit log, newest first."""
        found = self._cursor.execute(REGISTRY["list_newest_entries"], (before_seq, rows_max)).fetchall()
        return [Entry(*row) for row in found]

    def _list_credentials(self, tenant: str | None) -> list[Row]:
        return self._cursor.execute(REGISTRY["list_credentials"], (tenant, tenant)).fetchall()


def put_limits(cursor: Cursor, place: str, limits: Limits, *, is_declared: bool) -> None:
    """Write what holds for a place; what was prepaid for it stays."""
    if limits == NO_LIMITS:
        cursor.execute(STATEMENTS["drop_limits"], (place,))
        cursor.execute(STATEMENTS["clear_limits"], (place,))
    else:
        row = (place, write_limits(limits), int(limits.has_hard_budget), int(is_declared))
        cursor.execute(STATEMENTS["put_limits"], row)


def read_tenant(row: Row, credentials: Iterable[Row]) -> TenantRecord:
    """Read a row of `find_tenant` or `list_tenants`, with those of its credentials."""
    name, models, default_model, params, max_cost, is_declared, is_enabled, is_deleted, *times = row
    created_at_s, updated_at_s, revision = times
    return TenantRecord(
        name=name,
        models=None if models is None else tuple(json.loads(models)),
        default_model=default_model,
        params=json.loads(params),
        max_cost_nano_usd=max_cost,
        is_declared=bool(is_declared),
        is_enabled=bool(is_enabled),
        is_deleted=bool(is_deleted),
        created_at_s=created_at_s,
        updated_at_s=updated_at_s,
        revision=revision,
        credentials=tuple(CredentialRecord(*one) for one in credentials),
    )


def _write_tenant(tenant: TenantRecord) -> Row:
    return (
        tenant.name,
        None if tenant.models is None else json.dumps(tenant.models),
        tenant.default_model,
        json.dumps(dict(tenant.params), sort_keys=True),
        tenant.max_cost_nano_usd,
        int(tenant.is_declared),
        int(tenant.is_enabled),
        int(tenant.is_deleted),
        tenant.created_at_s,
        tenant.updated_at_s,
        tenant.revision,
    )
