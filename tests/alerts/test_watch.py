"""The job: what is told once, what is told again, and what a process that dies leaves to the next."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson
import pytest

from proxy.alerts import AlertWatch, NoAccounts
from proxy.alerts.watch import BACKOFF_S_MAX, DELIVERIES_MAX, PASS_S_MAX, TRIES_MAX
from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.ledger.incidents import DeliveryState
from proxy.ledger.memory import MemoryLedger
from proxy.money import Period
from proxy.outbound.answers import Answer
from proxy.policy.figures import CreditFigure, DriftFigure
from proxy.policy.readings import DOWN_ATTEMPTS, EVENTS_S, UP_ATTEMPTS
from proxy.policy.rules import Rule, Signal
from proxy.routing.table import Alert, Dialect, Provider, Secret, Table, Webhook
from proxy.telemetry import Telemetry
from tests.ledger.entries import DAY_S, NOON_S, ask, key, over, posted, voided

SPEND = Rule(Signal.SPEND, share_ppm=800_000)
DOWN = Rule(Signal.PROVIDER_DOWN)
OK = Answer(is_accepted=True, status=200)
BROKEN = Answer(is_accepted=False, status=500, problem="HTTP 500")


def hook(name: str = "w") -> Webhook:
    """A webhook of this id."""
    return Webhook(name, Secret(f"https://hooks.example/{name}"))


@dataclass
class Accounts(NoAccounts):
    """What providers say, when they do."""

    left: Sequence[CreditFigure] | None = None
    apart: Sequence[DriftFigure] | None = None

    async def credits(self) -> Sequence[CreditFigure] | None:  # type: ignore[override]  # it knows something
        return self.left

    async def drifts(self) -> Sequence[DriftFigure] | None:  # type: ignore[override]  # as above
        return self.apart


@dataclass
class Stage:
    """A watch over books in memory, and webhooks that answer as they are told."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON_S))
    log: io.BytesIO = field(default_factory=io.BytesIO)
    sent: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    accounts: Accounts = field(default_factory=Accounts)
    takes_s: float = 0.0
    alerts: tuple[Alert, ...] = (Alert((SPEND,), hook()),)

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger(clock=self.clock)
        self.telemetry = Telemetry(stream=self.log)
        ids = itertools.count(1)
        self.watch = AlertWatch(
            ledger=self.ledger,
            table=self.table,
            send=self.send,
            telemetry=self.telemetry,
            clock=self.clock,
            new_id=lambda: f"i{next(ids)}",
            accounts=self.accounts,
        )
        self._requests = itertools.count()

    def table(self) -> Table:
        """The table in use."""
        return Table("id", {"sim": Provider("sim", Dialect.SIMULATED)}, {}, alerts=self.alerts)

    async def send(self, webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Take a message."""
        self.clock.advance(self.takes_s)
        answer = self.answers.get(webhook.id, OK)
        self.sent.append((webhook.id, headers["x-turnpike-delivery"]))
        assert orjson.loads(body)["text"]
        return answer

    async def run(self, *, after_s: float = 0.0) -> list[tuple[str, str]]:
        """Do a pass after some time; gives what was sent in it."""
        self.clock.advance(after_s)
        before = len(self.sent)
        await self.watch.run()
        return self.sent[before:]

    async def spend(self, cost: int, *, limit: int = 100) -> None:
        """Have the one key spend some of its budget."""
        await self.ledger.declare_keys([key(limit=limit)])
        (known,) = await self.ledger.list_keys()
        name = f"r{next(self._requests)}"
        await self.ledger.admit(ask(name, 0, at_s=self.clock.now_s(), revision=known.revision))
        await self.ledger.settle(over(name, posted(cost=cost), at_s=self.clock.now_s()))

    async def attempt(self, *, is_good: bool) -> None:
        """Have a provider answer, or fail."""
        await self.ledger.declare_keys([key(limit=None)])
        name = f"r{next(self._requests)}"
        await self.ledger.admit(ask(name, 0, at_s=self.clock.now_s()))
        await self.ledger.settle(over(name, posted() if is_good else voided(), at_s=self.clock.now_s()))

    def lines(self) -> list[str]:
        """Read the log."""
        self.telemetry.close()
        return [f"{line['level']} {line['event']}" for line in map(orjson.loads, self.log.getvalue().splitlines())]


async def test_one_alert_when_it_begins_and_one_when_it_ends() -> None:
    """However often it is looked at; the log tells both."""
    stage = Stage()
    await stage.spend(80)
    assert await stage.run() == []
    await stage.spend(1)
    assert await stage.run() == [("w", "i1-opened")]
    for _ in range(5):
        assert await stage.run(after_s=15) == []
    assert await stage.run(after_s=DAY_S) == [("w", "i1-ended")]
    assert await stage.run(after_s=15) == []
    assert stage.lines() == [
        "warning incident_opened",
        "info alert_delivered",
        "info incident_ended",
        "info alert_delivered",
    ]


async def test_a_restart_in_the_middle_tells_nothing_twice() -> None:
    """Another process goes on with what the first one wrote."""
    first = Stage()
    await first.spend(90)
    assert await first.run() == [("w", "i1-opened")]
    second = Stage(clock=first.clock)
    second.watch = replace(second.watch, ledger=first.ledger.share())
    first.ledger.die()
    assert await second.run(after_s=15) == []
    assert await second.run(after_s=DAY_S) == [("w", "i1-ended")]


async def test_two_processes_that_look_at_once_tell_it_once() -> None:
    """The ledger lets one of them open it, and one of them send it."""
    first = Stage()
    await first.spend(90)
    second = Stage(clock=first.clock)
    second.watch = replace(second.watch, ledger=first.ledger.share())
    assert await first.run() == [("w", "i1-opened")]
    assert await second.run() == []


async def test_a_webhook_that_fails_is_tried_again_and_then_given_up() -> None:
    """With growing pauses, so many times, and each of them is logged."""
    stage = Stage(answers={"w": BROKEN})
    await stage.spend(90)
    tried_s = [stage.clock.now_s() for _ in range(700) if await stage.run(after_s=5)]
    pauses_s = [round(later - earlier) for earlier, later in itertools.pairwise(tried_s)]
    assert pauses_s == [30, 60, 120, 240, 480, BACKOFF_S_MAX, BACKOFF_S_MAX]
    assert len(tried_s) == TRIES_MAX
    (left,) = await stage.ledger.incidents.list_deliveries(rows_max=9)
    assert (left.state, left.tries, left.problem) == (DeliveryState.GIVEN_UP, TRIES_MAX, "HTTP 500")
    lines = stage.lines()
    assert lines.count("warning alert_not_delivered") == TRIES_MAX - 1
    assert lines[-1] == "error alert_given_up"


async def test_a_webhook_that_recovers_is_told_in_order() -> None:
    """First that it began, then that it is over; nothing twice."""
    stage = Stage(answers={"w": BROKEN})
    await stage.spend(90)
    assert await stage.run() == [("w", "i1-opened")]
    assert await stage.run(after_s=DAY_S) == [("w", "i1-opened")]
    stage.answers.clear()
    assert await stage.run(after_s=60) == [("w", "i1-opened")]
    assert await stage.run(after_s=15) == [("w", "i1-ended")]
    assert await stage.run(after_s=DAY_S) == []


async def test_a_process_that_dies_while_sending_leaves_one_repetition() -> None:
    """Nobody can know whether it was taken, so it is sent again, under the same id."""
    stage = Stage()
    await stage.spend(90)
    await stage.watch._look(stage.table())  # noqa: SLF001  # as far as a killed process gets
    (one,) = await stage.ledger.incidents.list_due("w", NOON_S, rows_max=9)
    assert await stage.ledger.incidents.claim(one, due_at_s=NOON_S + 30)
    assert await stage.run(after_s=15) == []
    assert await stage.run(after_s=15) == [("w", "i1-opened")]
    assert await stage.run(after_s=900) == []


async def test_each_webhook_that_watches_is_told_once() -> None:
    """Two entries for one webhook are one; an entry of another key is none; the log needs no webhook."""
    other = replace(SPEND, scopes=("key:other",))
    stage = Stage(
        alerts=(
            Alert((SPEND, DOWN), hook("a")),
            Alert((SPEND,), hook("a")),
            Alert((replace(SPEND, scopes=("key:app",)),), hook("b")),
            Alert((other,), hook("c")),
            Alert((SPEND,)),
        )
    )
    await stage.spend(90)
    assert sorted(await stage.run()) == [("a", "i1-opened"), ("b", "i1-opened")]


async def test_a_slow_or_broken_webhook_keeps_no_other_waiting() -> None:
    """Its first failure ends the pass for it, and so does its slowness."""
    stage = Stage(answers={"w": BROKEN}, alerts=(Alert((SPEND,), hook()), Alert((SPEND,), hook("v"))))
    await stage.ledger.declare_keys([key(f"k{number}", 100) for number in range(DELIVERIES_MAX + 5)])
    for number in range(DELIVERIES_MAX + 5):
        await stage.ledger.admit(ask(f"r{number}", 0, key_name=f"k{number}"))
        await stage.ledger.settle(over(f"r{number}", posted(cost=90)))
    sent = [name for name, _ in await stage.run()]
    assert (sent.count("w"), sent.count("v")) == (1, DELIVERIES_MAX)
    stage.takes_s = PASS_S_MAX - 1
    sent = [name for name, _ in await stage.run(after_s=1)]
    assert sent.count("v") == 2


async def test_a_webhook_that_left_the_file_is_given_up() -> None:
    """And an incident whose rule left it is over."""
    stage = Stage(answers={"w": BROKEN})
    await stage.spend(90)
    await stage.run()
    stage.alerts = ()
    assert await stage.run(after_s=60) == []
    found = await stage.ledger.incidents.list_deliveries(rows_max=9)
    assert {one.problem for one in found if one.state is DeliveryState.GIVEN_UP} == {"its webhook has left routes.yaml"}
    await stage.run(after_s=60)
    found = await stage.ledger.incidents.list_deliveries(rows_max=9)
    assert [one.state for one in found] == [DeliveryState.GIVEN_UP] * 2
    assert await stage.ledger.incidents.list_open() == []


async def test_a_provider_goes_down_and_comes_up() -> None:
    """Failures in a row open it, silence changes nothing, answers in a row end it."""
    stage = Stage(alerts=(Alert((DOWN,), hook()),))
    for _ in range(DOWN_ATTEMPTS):
        assert await stage.run() == []
        await stage.attempt(is_good=False)
    assert await stage.run() == [("w", "i1-opened")]
    assert await stage.run(after_s=DAY_S) == []
    for _ in range(UP_ATTEMPTS):
        assert await stage.run() == []
        await stage.attempt(is_good=True)
    assert await stage.run() == [("w", "i1-ended")]


async def test_an_event_is_over_when_it_has_not_happened_for_a_while() -> None:
    """A cost nobody knows."""
    stage = Stage(alerts=(Alert((Rule(Signal.UNKNOWN_PRICE), Rule(Signal.OVERRUN)), hook()),))
    await stage.ledger.declare_keys([key(limit=None)])
    await stage.ledger.admit(ask("r", 0))
    await stage.ledger.settle(over("r", posted(cost=None)))
    assert await stage.run() == [("w", "i1-opened")]
    assert await stage.run(after_s=EVENTS_S - 1) == []
    assert await stage.run(after_s=2) == [("w", "i1-ended")]


async def test_what_providers_say_is_taken_when_they_say_it() -> None:
    """Their silence neither begins nor ends anything."""
    rules = (Rule(Signal.UPSTREAM_CREDITS, amount_nano_usd=5), Rule(Signal.DRIFT), Rule(Signal.ERROR_RATE, share_ppm=1))
    stage = Stage(alerts=(Alert(rules, hook()),))
    assert await stage.run() == []
    stage.accounts.left = [CreditFigure("openrouter", 4)]
    stage.accounts.apart = [DriftFigure("openrouter", 0, 1_000)]
    assert len(await stage.run()) == 2
    stage.accounts.left = stage.accounts.apart = None
    assert await stage.run() == []
    stage.accounts.left = [CreditFigure("openrouter", 6)]
    stage.accounts.apart = [DriftFigure("openrouter", 1_000, 1_000)]
    assert len(await stage.run()) == 2
    assert await stage.ledger.incidents.list_open() == []


async def test_a_ledger_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and the next pass goes on; whether it is away for the look or for the delivery."""
    stage = Stage(answers={"w": BROKEN})
    await stage.spend(90)
    await stage.run()

    async def fail(*_arguments: object, **_more: object) -> None:
        raise LedgerUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(stage.ledger.incidents.__class__, "list_due", fail)
        assert await stage.run(after_s=60) == []
        patch.setattr(stage.ledger.incidents.__class__, "list_open", fail)
        assert await stage.run(after_s=60) == []
    stage.answers.clear()
    assert await stage.run(after_s=60) == [("w", "i1-opened")]
    assert stage.lines().count("warning alerts_wait_for_ledger") == 2


async def test_spend_in_money_is_told_once_a_day() -> None:
    """Another day is another incident."""
    stage = Stage(alerts=(Alert((Rule(Signal.SPEND, amount_nano_usd=50, period=Period.DAY),), hook()),))
    await stage.spend(51)
    assert await stage.run() == [("w", "i1-opened")]
    assert await stage.run(after_s=DAY_S) == [("w", "i1-ended")]
    await stage.spend(51)
    assert await stage.run() == [("w", "i2-opened")]


async def test_who_lists_a_message_too_late_does_not_send_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has claimed it in between."""
    stage = Stage()
    await stage.spend(90)

    async def lose(*_arguments: object, **_more: object) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(stage.ledger.incidents.__class__, "claim", lose)
        assert await stage.run() == []
    assert await stage.run() == [("w", "i1-opened")]


async def test_nothing_watched_asks_nothing() -> None:
    """A gateway without alerts has no job to do."""
    stage = Stage(alerts=())
    assert await stage.run() == []
    assert stage.lines() == []
