"""Many requests at once on a key with room for few: posted and held together never pass the limit (R10, R11, R12)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.client import get
from tests.faults.ports import HOST, free_port
from tests.faults.serving import TurnpikeServer
from tests.faults.steps import Ask, Tokens
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books, Watch
from tests.torture.findings import Finding, counted
from tests.torture.gates import Gate, held_back
from tests.torture.load import Question, Seen, put
from tests.torture.start import serve_together
from tests.torture.waiting import wait_until

TOKENS: Final = 64
"""What each request may write at most: the least a request is clamped to, so its hold cannot shrink."""
HOLD_NANO_USD: Final = TOKENS * 10_000
"""At $10 for a million output tokens and nothing for input."""
BURST_S_MAX: Final = 60.0
SETTLE_S_MAX: Final = 15.0
ASKS_AT_ONCE: Final = 8
ROUNDS_MAX: Final = 100
"""Of asking for what is left; a budget that is not spent by then does not hold."""
USABLE_SHARE: Final = 0.95

ROUTES: Final = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $0/M, output: $10/M}}}}
models: {{"m/*": up/*}}
keys: {keys}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """So many requests at once on a key with room for so many, spread over so many processes."""

    requests: int
    room: int
    processes: int
    is_held: bool = True
    """The upstream answers nobody until every request has been let in or refused."""
    is_killed: bool = False
    """The last process is killed while its requests are under way, and started again."""
    workers: int = 1
    """Of each process."""

    @property
    def name(self) -> str:
        """Name it in words."""
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        processes += f" of {self.workers} workers" if self.workers > 1 else ""
        how = ", one killed midway" if self.is_killed else "" if self.is_held else ", answered at once"
        return f"{self.requests} at once, room for {self.room}, {processes}{how}"

    @property
    def key(self) -> str:
        """Give its client key, which is also the key's name."""
        return f"sk-torture-{self.requests}-{self.processes}-{self.workers}"

    @property
    def limit_nano_usd(self) -> int:
        """Give the key's budget."""
        return self.room * HOLD_NANO_USD

    @property
    def entry(self) -> dict[str, str]:
        """Give the key's entry in routes.yaml; its budget is for all time, so no midnight interferes."""
        return {"name": self.key, "key": self.key, "budget": f"${self.limit_nano_usd / 1e9:.9f}"}


CASES: Final = (
    Case(200, 20, 1),
    Case(200, 20, 2),
    Case(1000, 100, 1),
    Case(1000, 100, 2),
    Case(1000, 100, 2, is_held=False),
    Case(200, 20, 2, is_killed=True),
    Case(1000, 100, 1, workers=4),
    Case(1000, 100, 1, workers=4, is_held=False),
)


@dataclass(frozen=True, slots=True)
class Rushed:
    """What was seen of one case."""

    case: Case
    seen: Sequence[Seen]
    """The answers, first those of the rush."""
    let_in: frozenset[str]
    """Models that were called before the gate was opened."""
    called: frozenset[str]
    """Models that were called at all."""
    watch: Watch
    faults: Sequence[str]
    metrics: str
    """What `/metrics` said in the end."""

    @property
    def statuses(self) -> Counter[int | None]:
        """Count the answers of the rush by their status."""
        return Counter(answer.status for answer in self.seen[: self.case.requests])

    @property
    def breaches(self) -> list[str]:
        """Say where the limit or the books were broken."""
        return [*self.watch.breaches, *self.faults]

    @property
    def leaks(self) -> list[str]:
        """Say which refused requests reached an upstream, and which answers nobody expected."""
        refused = [answer for answer in self.seen if answer.status == 402]
        return [
            *(f"called all the same: {answer}" for answer in refused if answer.question.model[2:] in self.called),
            *(str(answer) for answer in self.seen if not _is_expected(answer, is_killed=self.case.is_killed)),
        ]

    @property
    def used_share(self) -> float:
        """Give the part of the limit that was posted in the end."""
        return sum(balance.posted_nano_usd for balance in self.watch.books.balances()) / self.case.limit_nano_usd

    @property
    def most_share(self) -> float:
        """Give the largest part of the limit that was ever posted and held together."""
        return self.watch.most_nano_usd / self.case.limit_nano_usd


async def run(folder: Path, chance: Random, *, cases: Sequence[Case] = CASES) -> list[Finding]:
    """Rush every case."""
    found: list[Finding] = []
    for number, case in enumerate(cases):
        found += _judge(await rush(folder / str(number), case, chance))
    return found


async def rush(folder: Path, case: Case, chance: Random) -> Rushed:
    """Send all at once, answer none until every one has been let in or refused; then answer, and spend the rest."""
    gate, metrics_port = Gate(is_open=not case.is_held), free_port()

    def bill(_ask: Ask) -> Tokens:
        return Tokens(7, chance.randint(0, TOKENS))

    async with FaultUpstream([held_back(gate, bill)]) as up:
        routes = ROUTES.format(up=up.base_url, keys=[case.entry])
        arguments = ["--workers", str(case.workers)]
        if case.processes == 1:
            arguments += ["--metrics-port", str(metrics_port)]
        async with serve_together(routes, folder, case.processes, arguments=arguments) as servers:
            books = Books(servers[0].data)
            with Watch(books, case.key, case.limit_nano_usd) as watch:
                asking = await _ask_all(case, servers, up, chance)
                let_in = {str(exchange.model) for exchange in up.exchanges}
                if case.is_killed:
                    await servers[-1].kill()
                    await servers[-1].restart()
                gate.is_open = True
                seen = list(await asyncio.gather(*asking))
                settled_s = await books.until_settled(limit_s=SETTLE_S_MAX)
                seen += await _spend_rest(case, servers, chance)
                await books.until_settled(limit_s=SETTLE_S_MAX)
                watch.look()
            return Rushed(
                case,
                seen,
                let_in=frozenset(let_in),
                called=frozenset(str(exchange.model) for exchange in up.exchanges),
                watch=watch,
                faults=[*books.find_faults(), *([] if settled_s is not None else ["pending to the end"])],
                metrics=await _metrics(metrics_port) if case.processes == 1 else "",
            )


async def _metrics(port: int) -> str:
    return (await get(f"http://{HOST}:{port}", "/metrics")).body.decode()


async def _ask_all(
    case: Case, servers: Sequence[TurnpikeServer], up: FaultUpstream, chance: Random
) -> list[asyncio.Task[Seen]]:
    """Send every request in one moment; where one process will be killed, each takes its part of the room first."""
    asking: list[asyncio.Task[Seen]] = []

    def ask(server: TurnpikeServer) -> None:
        asking.append(asyncio.create_task(put(server.url, _question(case, len(asking), chance))))

    for number in range(case.room if case.is_killed else 0):
        ask(servers[number % len(servers)])
    await _until_decided(asking, up)
    while len(asking) < case.requests:
        ask(servers[len(asking) % len(servers)])
    await _until_decided(asking, up)
    return asking


def _question(case: Case, number: int, chance: Random) -> Question:
    return Question(f"m/{number}", case.key, is_stream=chance.random() < 0.5, fields={"max_tokens": TOKENS})


async def _until_decided(asking: Sequence[asyncio.Task[Seen]], up: FaultUpstream) -> None:
    """Wait until every request has reached the upstream or has been answered without it."""
    decided_s = await wait_until(
        lambda: len(up.exchanges) + sum(task.done() for task in asking) >= len(asking), limit_s=BURST_S_MAX
    )
    assert decided_s is not None, "some requests were neither let in nor refused"


async def _spend_rest(case: Case, servers: Sequence[TurnpikeServer], chance: Random) -> list[Seen]:
    """Go on asking, a few at a time, until nobody is let in any more: then less than one hold is left."""
    seen: list[Seen] = []
    for _ in range(ROUNDS_MAX):
        numbers = range(case.requests + len(seen), case.requests + len(seen) + ASKS_AT_ONCE)
        asking = [put(servers[number % len(servers)].url, _question(case, number, chance)) for number in numbers]
        answers = await asyncio.gather(*asking)
        seen += answers
        if all(answer.status != 200 for answer in answers):
            break
    return seen


def _judge(rushed: Rushed) -> list[Finding]:
    case, statuses = rushed.case, rushed.statuses
    refused = sum(answer.status == 402 for answer in rushed.seen)
    return [
        counted(
            f"R10-R12: {case.name}: posted + held <= limit at every look, 100 a second",
            "0 broken",
            f"{statuses[200]} answered, {statuses[402]} x 402, at most {rushed.most_share:.1%} of the limit in "
            f"{rushed.watch.looks} looks",
            rushed.breaches,
        ),
        counted(f"R10: {case.name}: 402 before any upstream byte", "0 broken", f"{refused} refused", rushed.leaks),
        Finding(
            f"R10: {case.name}: the budget can be used",
            f">= {USABLE_SHARE:.0%}" + (f", {case.room} at once" if case.is_held else ""),
            f"{rushed.used_share:.1%} of it posted, {len(rushed.let_in)} let in at first",
            is_kept=rushed.used_share >= USABLE_SHARE and (len(rushed.let_in) == case.room or not case.is_held),
        ),
    ]


def _is_expected(answer: Seen, *, is_killed: bool) -> bool:
    """Tell whether an answer is one a client may get here: whole, refused, or cut by the kill."""
    if answer.status == 402 or answer.is_whole:
        return True
    return is_killed and answer.status in (None, 200)
