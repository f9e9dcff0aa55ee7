"""Look-ups worked off: every due one once, with the credential its attempt went out with, whatever the store says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.records import AttemptRow
from proxy.ledger.resolution import DueLookup
from proxy.lookups import Lookups, Outcome, find_credential
from proxy.outbound.generations import GenerationUnknownError
from proxy.policy.lookups import LOOKUP_AFTER_S, TRIES_MAX
from proxy.routing.table import Dialect, Provider, Secret, Table, Tenant, UpstreamKey
from proxy.usage import CostSource, Usage
from tests.ledger.entries import NOON_S, ask, key, over, posted, start

PROVIDER = Provider("sim", Dialect.OPENROUTER, base_url="http://up/v1", api_key=Secret("own"))
TABLE = Table(id="t", providers={"sim": PROVIDER}, routes={})
DUE = DueLookup(1, "r", 1, "sim", None, "gateway", None, "gen-1", 10, 1, is_unresolved=False)


@dataclass
class Provided:
    """Who is asked: knows what it was told."""

    usage: Usage | None = None
    asked: list[str] = field(default_factory=list)

    async def find(self, provider: Provider, credential: Secret | None, generation_id: str) -> Usage:
        self.asked.append(generation_id)
        if self.usage is None:
            raise GenerationUnknownError("HTTP 404")
        return self.usage


@dataclass
class Stage:
    """Books with one estimate, and who is asked about it."""

    ledger: MemoryLedger
    clock: ManualClock
    provided: Provided
    table: Table = TABLE
    told: list[Outcome] = field(default_factory=list)

    async def run(self) -> None:
        """Work off what is due."""
        await Lookups(
            self.ledger, clock=self.clock, asking=self.provided, table=lambda: self.table, tell=self.told.append
        ).run()

    async def row(self) -> AttemptRow:
        """The one attempt."""
        (row,) = await self.ledger.find_request("r")
        return row


@pytest.fixture
async def stage() -> Stage:
    """An estimate of 6 under a hold of 10."""
    clock = ManualClock(NOON_S)
    ledger = MemoryLedger(clock=clock)
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r", attempts=[start(1, 10)]))
    await ledger.settle(
        over("r", posted(1, 6)._replace(cost_source=CostSource.ESTIMATED, is_lookup_due=True), at_s=NOON_S)
    )
    return Stage(ledger, clock, Provided())


async def test_nothing_is_asked_before_its_time(stage: Stage) -> None:
    """The record is late; asking at once would be in vain."""
    await stage.run()
    assert not stage.provided.asked


async def test_an_amount_corrects_and_is_told(stage: Stage) -> None:
    """Booked as reported, with what it changed."""
    stage.provided.usage = Usage(3, 4, cost_nano_usd=2)
    stage.clock.advance(LOOKUP_AFTER_S[0])
    await stage.run()
    await stage.run()
    row = await stage.row()
    assert (row.cost_nano_usd, row.cost_source, row.usage) == (2, CostSource.REPORTED, stage.provided.usage)
    assert stage.told == [Outcome("r", 1, "sim", 2, None, -4)]
    assert stage.provided.asked == ["gen-1"]


async def test_an_amount_above_the_hold_is_an_overrun(stage: Stage) -> None:
    """Booked as it is, flagged in the row and told."""
    stage.provided.usage = Usage(3, 4, cost_nano_usd=11)
    stage.clock.advance(LOOKUP_AFTER_S[0])
    await stage.run()
    assert (await stage.row()).is_overrun
    assert [outcome.is_overrun for outcome in stage.told] == [True]


async def test_who_never_tells_is_told_of_once(stage: Stage) -> None:
    """Every try at its time; after the last the estimate stays, and that is said."""
    for before_s, at_s in zip((0.0, *LOOKUP_AFTER_S), LOOKUP_AFTER_S, strict=False):
        stage.clock.advance(at_s - before_s)
        await stage.run()
    assert len(stage.provided.asked) == TRIES_MAX
    assert stage.told == [Outcome("r", 1, "sim", None, "HTTP 404")]
    assert (await stage.row()).cost_nano_usd == 6


@pytest.mark.parametrize("providers", [{}, {"sim": replace(PROVIDER, base_url="")}])
async def test_a_provider_that_is_gone_is_not_asked(stage: Stage, providers: dict[str, Provider]) -> None:
    """It may come back in the file; until then a try is a try."""
    stage.table = replace(TABLE, providers=providers)
    stage.clock.advance(LOOKUP_AFTER_S[0])
    await stage.run()
    assert not stage.provided.asked
    stage.table, stage.provided.usage = TABLE, Usage(3, 4, cost_nano_usd=2)
    stage.clock.advance(LOOKUP_AFTER_S[1])
    await stage.run()
    assert (await stage.row()).cost_nano_usd == 2


async def test_a_word_that_changes_nothing_is_not_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has booked it meanwhile."""

    async def known(_truth: object) -> None:
        return None

    stage.provided.usage = Usage(3, 4, cost_nano_usd=2)
    stage.clock.advance(LOOKUP_AFTER_S[0])
    monkeypatch.setattr(stage.ledger.resolution, "correct", known)
    await stage.run()
    assert not stage.told


@pytest.mark.parametrize("where", ["claim_lookups", "correct", "miss_lookup"])
@pytest.mark.parametrize("usage", [None, Usage(3, 4, cost_nano_usd=2)])
async def test_a_store_that_is_away_is_asked_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, where: str, usage: Usage | None
) -> None:
    """Nothing is lost: the next time comes all the same."""

    async def refuse(*_arguments: object, **_more: object) -> None:
        raise LedgerUnavailable("away")

    stage.provided.usage = usage
    stage.clock.advance(LOOKUP_AFTER_S[0])
    with monkeypatch.context() as patch:
        patch.setattr(stage.ledger.resolution, where, refuse)
        await stage.run()
    stage.provided.usage = Usage(3, 4, cost_nano_usd=2)
    stage.clock.advance(LOOKUP_AFTER_S[1])
    await stage.run()
    assert (await stage.row()).cost_nano_usd == 2


@pytest.mark.parametrize(
    ("lookup", "expected"),
    [
        (DUE, "own"),
        (DUE._replace(upstream_key="2"), "second"),
        (DUE._replace(upstream_key="gone"), "own"),
        (DUE._replace(payer="tenant", tenant="acme"), "theirs"),
        (DUE._replace(payer="tenant", tenant="gone"), None),
    ],
)
def test_the_credential_is_the_attempt_s_own(lookup: DueLookup, expected: str | None) -> None:
    """Another account is told nothing of it."""
    provider = replace(PROVIDER, pool=(UpstreamKey("2", Secret("second")),))
    table = replace(TABLE, tenants={"acme": Tenant("acme", provider_keys={"sim": Secret("theirs")})})
    found = find_credential(table, provider, lookup)
    assert (None if found is None else found.reveal()) == expected
