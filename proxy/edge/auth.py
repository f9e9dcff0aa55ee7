"""Who is asking (floor 5): from a request's headers to a `Principal`, or to the one 401 everybody gets.

Keys are 256-bit random or the operator's own; the ledger knows them only as HMAC-SHA-256(pepper, hex SHA-256(key)), so
a look-up by that digest needs no slow hash and tells nothing by its duration. Unknown, revoked and expired keys get the
same body. Nothing here is authoritative: the admission transaction checks key and revision again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.clock import Clock
from proxy.edge.tenancy import Tenancy
from proxy.errors import ClientError, LedgerUnavailable, Unauthenticated
from proxy.ledger.folder import digest_key, digest_key_sha256
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import KeyRecord
from proxy.routing.principal import Principal, lay_over
from proxy.routing.table import Table
from proxy.vault import Vault

KEY_BYTES_MAX = 256
"""A longer key is refused before anything is computed or looked up."""
CACHED_KEYS_MAX = 4_096
"""Keys whose record is kept for the hot path; the oldest goes first."""

KEY_CHARS_MIN = 8
"""No client key is shorter."""

NO_VAULT = Tenancy(Vault(None))
"""Where nothing is stored that had to be decrypted."""

RawHeaders = Iterable[tuple[bytes, bytes]]

_KEY_HEADERS = {b"authorization": 0, b"x-api-key": 1, b"api-key": 2, b"x-goog-api-key": 3}
"""Where clients put their key; the first present of this order counts."""
_SCHEME = b"bearer"


def mint_key() -> str:
    """Make a client key: `sk-tp-` and 43 base64url characters, 256 bits nobody can guess."""
    return f"sk-tp-{secrets.token_urlsafe(32)}"


def read_key(headers: RawHeaders) -> bytes:
    """Find the client's key in raw ASGI headers, in one pass.

    Raises `Unauthenticated` (`missing_api_key`, `invalid_api_key`) and, for a header sent twice, `ClientError`: two
    readers of such a request could take two different keys from it.
    """
    found: list[bytes | None] = [None, None, None, None]
    for name, value in headers:
        place = _KEY_HEADERS.get(name)
        if place is not None:
            if found[place] is not None:
                msg = f"The header {name.decode('ascii')} was sent more than once; send one client key."
                raise ClientError(msg)
            found[place] = value
    authorization, *others = found
    if authorization is not None:
        return _bound(_token(authorization))
    return _bound(next((value.strip() for value in others if value is not None), b""))


def holds_key(headers: RawHeaders, text: bytes) -> bool:
    """Tell whether a text of the client's holds the key it came with, and so may go into no log and no ledger."""
    if len(text) < KEY_CHARS_MIN:
        return False
    keys = (value.strip().rpartition(b" ")[2] for name, value in headers if name in _KEY_HEADERS)
    return any(len(key) >= KEY_CHARS_MIN and key in text for key in keys)


def build_principal(record: KeyRecord, table: Table, tenancy: Tenancy = NO_VAULT) -> Principal:
    """Join a key's record with its tenant and the key that made it; a tenant nobody knows adds nothing."""
    maker, tenant = record.maker, tenancy.find(record, table)
    above = [one for one in (tenant, maker) if one is not None]
    params: Mapping[str, Any] = {}
    for one in (*above, record):
        params = lay_over(params, one.params) if params else one.params
    declared = [key for key in table.keys if key.name == record.name] if record.is_declared else []
    defaults = (one.default_model for one in (record, *reversed(above)))
    ceilings = [one.max_cost_nano_usd for one in (*above, record)]
    view = tenancy.view(table, tenant)
    return Principal(
        name=record.name,
        tenant=record.tenant,
        models=record.models,
        default_model=next((model for model in defaults if model is not None), None),
        params=params,
        has_budget=record.is_walled,
        revision=record.revision,
        tenant_models=tenant.models if tenant is not None else None,
        max_cost_nano_usd=min((ceiling for ceiling in ceilings if ceiling is not None), default=None),
        parent=record.parent,
        maker_models=maker.models if maker is not None else None,
        view=None if view is table else view,
        cache=declared[0].cache if declared else None,
    )


class Authenticator:
    """Turns headers into a `Principal`; remembers a bounded number of keys for the hot path."""

    def __init__(self, ledger: Ledger, *, pepper: bytes, clock: Clock, tenancy: Tenancy = NO_VAULT) -> None:
        """Look keys up in this ledger, under this pepper."""
        self._tenancy = tenancy
        self._ledger = ledger
        self._pepper = pepper
        self._clock = clock
        self._records: dict[str, KeyRecord] = {}
        self._principals: dict[str, tuple[Table, Principal]] = {}

    async def authenticate(self, headers: RawHeaders, table: Table) -> Principal:
        """Look the key up in the ledger; raises `Unauthenticated`, `ClientError` or `LedgerUnavailable`."""
        return self.principal_of(await self.find(headers), table)

    def principal_of(self, record: KeyRecord, table: Table) -> Principal:
        """Make the principal of a record."""
        return build_principal(record, table, self._tenancy)

    async def find(self, headers: RawHeaders) -> KeyRecord:
        """Give the whole record of the key, under the same rules."""
        return await self._look_up(self._digest(headers))

    async def authenticate_cached(self, headers: RawHeaders, table: Table) -> Principal:
        """Do the same from memory when it can: only for requests whose admission checks the revision again."""
        sha256_hex = hashlib.sha256(read_key(headers)).hexdigest()
        record = self._records.get(sha256_hex)
        if record is None or self._has_expired(record):
            record = await self._look_up(digest_key_sha256(self._pepper, sha256_hex))
            self._remember(sha256_hex, record)
        known = self._principals.get(sha256_hex)
        if known is not None and known[0] is table:
            return known[1]
        principal = self.principal_of(record, table)
        self._principals[sha256_hex] = (table, principal)
        return principal

    def forget(self, name: str) -> None:
        """Drop what is remembered of a key, because an admission found it changed or gone."""
        for sha256_hex in [sha256_hex for sha256_hex, record in self._records.items() if record.name == name]:
            self._drop(sha256_hex)

    async def has_changed(self, headers: RawHeaders, principal: Principal) -> bool:
        """Tell whether key, tenant or maker changed since this was made of them; no, when nobody can say."""
        try:
            return (await self.find(headers)).revision != principal.revision
        except Unauthenticated:
            return True
        except LedgerUnavailable:
            return False

    def hide(self, secret: str) -> None:
        """Tell the log that this must never stand in it."""
        self._tenancy.hide(secret)

    def digest(self, key: str) -> str:
        """Digest a key as the ledger keeps it."""
        return digest_key(self._pepper, key)

    def digest_sha256(self, key_sha256: str) -> str:
        """Digest a key of which only the hex SHA-256 is known."""
        return digest_key_sha256(self._pepper, key_sha256)

    def _digest(self, headers: RawHeaders) -> str:
        return digest_key_sha256(self._pepper, hashlib.sha256(read_key(headers)).hexdigest())

    async def _look_up(self, digest: str) -> KeyRecord:
        record = await self._ledger.find_key(digest)
        if record is None or not hmac.compare_digest(record.digest, digest):
            raise _invalid()
        if not record.is_enabled or self._has_expired(record):
            raise _invalid()
        return record

    def _has_expired(self, record: KeyRecord) -> bool:
        return record.expires_at_s is not None and self._clock.now_s() >= record.expires_at_s

    def _remember(self, sha256_hex: str, record: KeyRecord) -> None:
        self._drop(sha256_hex)
        if len(self._records) >= CACHED_KEYS_MAX:
            self._drop(next(iter(self._records)))
        self._records[sha256_hex] = record

    def _drop(self, sha256_hex: str) -> None:
        self._records.pop(sha256_hex, None)
        self._principals.pop(sha256_hex, None)


def _token(value: bytes) -> bytes:
    """Take the token out of `Bearer TOKEN`; another scheme holds no key of ours."""
    scheme, _, token = value.strip().partition(b" ")
    if scheme.lower() != _SCHEME:
        raise _invalid()
    return token.strip()


def _bound(key: bytes) -> bytes:
    if not key:
        raise _missing()
    if len(key) > KEY_BYTES_MAX:
        raise _invalid()
    return key


def _missing() -> Unauthenticated:
    msg = "No client key was sent; send it as `Authorization: Bearer sk-tp-...` or in `x-api-key`."
    return Unauthenticated(msg, code="missing_api_key")


def _invalid() -> Unauthenticated:
    return Unauthenticated("The client key is not valid here; ask the operator of this gateway for one.")
