"""Who asks: every way to send a key, and one and the same 401 for every wrong one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import ManualClock
from proxy.edge import auth
from proxy.edge.auth import Authenticator, build_principal, read_key
from proxy.errors import ClientError, LedgerUnavailable, Unauthenticated
from proxy.ledger.folder import digest_key
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import KeyRecord
from proxy.routing.principal import Principal
from proxy.routing.table import Table, Tenant

PEPPER = b"p" * 32
KEY = b"sk-tp-0123456789"
TABLE = Table(id="t", providers={}, routes={})


class KeyLedger:
    """The one question of a ledger that authentication asks, counted."""

    def __init__(self, *records: KeyRecord) -> None:
        """Know these keys."""
        self.records = {record.digest: record for record in records}
        self.looked_up = 0
        self.is_away = False

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find one key."""
        if self.is_away:
            raise LedgerUnavailable("away")
        self.looked_up += 1
        return self.records.get(digest)


def a_record(name: str = "mobile", key: bytes = KEY, **fields: object) -> KeyRecord:
    """Make a key's record as the ledger keeps it."""
    return replace(KeyRecord(name=name, digest=digest_key(PEPPER, key.decode())), **fields)  # type: ignore[arg-type]


def an_authenticator(ledger: KeyLedger, clock: ManualClock | None = None) -> Authenticator:
    """Build one over the stub."""
    asked: Ledger = ledger  # type: ignore[assignment]  # only find_key is ever called
    return Authenticator(asked, pepper=PEPPER, clock=clock or ManualClock())


def bearer(key: bytes = KEY) -> list[tuple[bytes, bytes]]:
    """Write the usual header."""
    return [(b"host", b"x"), (b"authorization", b"Bearer " + key)]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY)],
        [(b"authorization", b"bearer  " + KEY + b" ")],
        [(b"x-api-key", KEY)],
        [(b"api-key", b" " + KEY)],
        [(b"x-goog-api-key", KEY)],
        [(b"x-api-key", b"other"), (b"authorization", b"Bearer " + KEY)],
        [(b"x-goog-api-key", b"other"), (b"api-key", KEY)],
    ],
)
def test_a_key_is_read_wherever_clients_put_it(headers: list[tuple[bytes, bytes]]) -> None:
    """The first present of the listed headers counts, whatever order they were sent in."""
    assert read_key(headers) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"x"), (b"cookie", b"authorization=Bearer " + KEY)],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer  ")],
        [(b"x-api-key", b"")],
    ],
)
def test_no_key_is_told_apart_from_a_wrong_one(headers: list[tuple[bytes, bytes]]) -> None:
    """S1, S4: a key elsewhere than in a key header is none."""
    with pytest.raises(Unauthenticated) as caught:
        read_key(headers)
    assert caught.value.code == "missing_api_key"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Basic " + KEY)],
        [(b"authorization", KEY)],
        [(b"authorization", b"Bearer " + b"x" * 257)],
        [(b"x-api-key", b"x" * 1_000_000)],
        [(b"authorization", b"Basic x"), (b"x-api-key", KEY)],
    ],
)
def test_another_scheme_or_an_overlong_key_is_refused_before_any_look_up(headers: list[tuple[bytes, bytes]]) -> None:
    """S2: 256 bytes are the limit."""
    with pytest.raises(Unauthenticated) as caught:
        read_key(headers)
    assert caught.value.code == "invalid_api_key"


def test_a_key_of_exactly_the_limit_is_read() -> None:
    """The boundary itself is allowed."""
    assert read_key([(b"x-api-key", b"x" * 256)]) == b"x" * 256


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_key_header_sent_twice_is_refused(name: bytes) -> None:
    """S2: two readers could take two different keys from it."""
    with pytest.raises(ClientError) as caught:
        read_key([(name, b"Bearer a"), (name, b"Bearer b")])
    assert caught.value.status == 400


async def test_a_known_key_becomes_a_principal_with_its_tenants_defaults() -> None:
    """Key over tenant; the table's default comes later."""
    table = replace(TABLE, tenants={"acme": Tenant("acme", default_model="chat", params={"a": 1, "b": 1})})
    record = a_record(tenant="acme", params={"b": 2}, models=("chat",), is_walled=True, revision=7)
    principal = await an_authenticator(KeyLedger(record)).authenticate(bearer(), table)
    assert principal == Principal("mobile", "acme", ("chat",), "chat", {"a": 1, "b": 2}, has_budget=True, revision=7)


@pytest.mark.parametrize(
    ("tenants", "keys", "lowest"),
    [(None, None, None), (5, None, 5), (None, 5, 5), (5, 9, 5), (9, 5, 5), (0, 5, 0)],
)
def test_the_lower_ceiling_of_key_and_tenant_holds(tenants: int | None, keys: int | None, lowest: int | None) -> None:
    """And the models that both allow."""
    acme = Tenant("acme", models=("chat", "b*"), max_cost_nano_usd=tenants)
    table = replace(TABLE, tenants={"acme": acme})
    principal = build_principal(a_record(tenant="acme", models=("*",), max_cost_nano_usd=keys), table)
    assert (principal.max_cost_nano_usd, principal.tenant_models) == (lowest, ("chat", "b*"))


def test_a_tenant_that_left_the_file_adds_nothing() -> None:
    """The key lives on by itself."""
    principal = build_principal(a_record(tenant="gone", default_model="m"), TABLE)
    assert (principal.tenant, principal.default_model, dict(principal.params)) == ("gone", "m", {})


async def test_unknown_revoked_and_expired_keys_are_answered_alike() -> None:
    """S2: one body, so that nothing can be learned."""
    clock = ManualClock(1000.0)
    ledgers = [
        KeyLedger(),
        KeyLedger(a_record(is_enabled=False)),
        KeyLedger(a_record(expires_at_s=1000.0)),
        KeyLedger(replace(a_record(), digest="0" * 64)),
    ]
    ledgers[3].records = {digest_key(PEPPER, KEY.decode()): replace(a_record(), digest="0" * 64)}
    messages = set()
    for ledger in ledgers:
        for ask in (an_authenticator(ledger, clock).authenticate, an_authenticator(ledger, clock).authenticate_cached):
            with pytest.raises(Unauthenticated) as caught:
                await ask(bearer(), TABLE)
            messages.add((caught.value.message, caught.value.code))
    assert len(messages) == 1


async def test_a_key_is_good_until_the_second_it_expires() -> None:
    """The cached record is held against the clock too."""
    clock = ManualClock(1000.0)
    ledger = KeyLedger(a_record(expires_at_s=1010.0))
    authenticator = an_authenticator(ledger, clock)
    await authenticator.authenticate_cached(bearer(), TABLE)
    clock.advance(9.9)
    await authenticator.authenticate_cached(bearer(), TABLE)
    clock.advance(0.1)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate_cached(bearer(), TABLE)


async def test_the_hot_path_asks_the_ledger_once_and_the_others_every_time() -> None:
    """Only what an admission checks again may come from memory."""
    ledger = KeyLedger(a_record())
    authenticator = an_authenticator(ledger)
    first = await authenticator.authenticate_cached(bearer(), TABLE)
    assert await authenticator.authenticate_cached(bearer(), TABLE) is first
    assert ledger.looked_up == 1
    await authenticator.authenticate(bearer(), TABLE)
    await authenticator.authenticate(bearer(), TABLE)
    assert ledger.looked_up == 3


async def test_a_new_table_makes_a_new_principal_without_a_look_up() -> None:
    """A reload may have changed the tenant's defaults."""
    ledger = KeyLedger(a_record(tenant="acme"))
    authenticator = an_authenticator(ledger)
    await authenticator.authenticate_cached(bearer(), TABLE)
    newer = replace(TABLE, id="u", tenants={"acme": Tenant("acme", default_model="chat")})
    assert (await authenticator.authenticate_cached(bearer(), newer)).default_model == "chat"
    assert ledger.looked_up == 1


async def test_a_forgotten_key_is_looked_up_again() -> None:
    """After a stale admission the next request sees the new record."""
    ledger = KeyLedger(a_record(), a_record("other", b"sk-tp-other-key"))
    authenticator = an_authenticator(ledger)
    await authenticator.authenticate_cached(bearer(), TABLE)
    await authenticator.authenticate_cached(bearer(b"sk-tp-other-key"), TABLE)
    ledger.records = {digest: replace(record, revision=2) for digest, record in ledger.records.items()}
    authenticator.forget("mobile")
    assert (await authenticator.authenticate_cached(bearer(), TABLE)).revision == 2
    assert (await authenticator.authenticate_cached(bearer(b"sk-tp-other-key"), TABLE)).revision == 1


async def test_unknown_keys_are_not_remembered() -> None:
    """A key made a moment later works at once, and strangers cannot fill the memory."""
    ledger = KeyLedger()
    authenticator = an_authenticator(ledger)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate_cached(bearer(), TABLE)
    record = a_record()
    ledger.records[record.digest] = record
    assert (await authenticator.authenticate_cached(bearer(), TABLE)).name == "mobile"


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest key makes room."""
    monkeypatch.setattr(auth, "CACHED_KEYS_MAX", 2)
    keys = [b"sk-tp-%d" % number for number in range(3)]
    ledger = KeyLedger(*[a_record(f"k{number}", key) for number, key in enumerate(keys)])
    authenticator = an_authenticator(ledger)
    for key in [*keys, keys[2], keys[0]]:
        await authenticator.authenticate_cached(bearer(key), TABLE)
    assert ledger.looked_up == 4


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_as_a_key_are_a_key_or_a_refusal(value: bytes) -> None:
    """S2: quotes, NUL, non-ASCII: never another exception."""
    if 0 < len(value.strip()) <= 256:
        assert read_key([(b"x-api-key", value)]) == value.strip()
    else:
        with pytest.raises(Unauthenticated):
            read_key([(b"x-api-key", value)])


async def test_a_key_that_changed_since_is_told() -> None:
    """Another revision, or gone; when the ledger cannot be asked nobody can say."""
    record = a_record(revision=1)
    ledger = KeyLedger(record)
    authenticator = an_authenticator(ledger)
    principal = await authenticator.authenticate_cached(bearer(), TABLE)
    assert not await authenticator.has_changed(bearer(), principal)
    ledger.records[record.digest] = a_record(revision=2)
    assert await authenticator.has_changed(bearer(), principal)
    ledger.records.clear()
    assert await authenticator.has_changed(bearer(), principal)
    ledger.is_away = True
    assert not await authenticator.has_changed(bearer(), principal)
