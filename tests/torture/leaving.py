"""Clients that leave, before the first byte and in mid-reply, in every way a client can go (R20, R21, R24)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.client import Leaving, Reply, call, chat
from tests.faults.cuts import hang_before_headers, hang_mid_stream
from tests.faults.replies import ok_paced
from tests.faults.serving import TurnpikeServer, serve
from tests.faults.steps import Mode
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books, Row
from tests.torture.findings import Finding, counted, timed
from tests.torture.waiting import wait_until

CLOSE_S_MAX: Final = 0.05
SETTLE_S_MAX: Final = 10.0
WARM_UP_S: Final = 1.0
"""Vocabularies are loaded right after the start, which holds up everything else for a moment."""
MISSED_MAX: Final = 5
"""Upstreams that never notice, and clients that were not served; more need not be waited for."""
SENT_BEFORE: Final = 2
"""Pieces the upstream has written (head and half a body) before a client of a JSON reply leaves."""
EVENTS_BEFORE: Final = (1, 8)
"""A client of a busy stream leaves after so many events, at random."""

ROUTES: Final = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
  spare: {{dialect: openai, base_url: "{spare}", price: {{input: $1/M, output: $2/M}}}}
models: {{"m/*": ["up/*", "spare/*"]}}
keys:
  - {{name: app, key: sk-torture-leaving, budget: $1000/day}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One moment to leave at, for one kind of request."""

    name: str
    mode: Mode
    is_stream: bool
    events: tuple[int, int] | None = None
    """What the client reads before it leaves; None: nothing, the upstream has not begun or the reply is JSON."""
    has_begun: bool = False
    """The upstream has sent half of a JSON reply, of which the client sees nothing."""

    @property
    def label(self) -> str:
        """Give a word for models and messages."""
        return self.name.replace(" ", "-").replace(",", "")


CASES: Final = (
    Case("before the first byte, stream", hang_before_headers(), is_stream=True),
    Case("before the first byte, JSON", hang_before_headers(), is_stream=False),
    Case("mid-stream, upstream silent", hang_mid_stream(), is_stream=True, events=(1, 3)),
    Case("mid-stream, upstream busy", ok_paced(200, every_s=0.005), is_stream=True, events=EVENTS_BEFORE),
    Case("mid-reply, JSON", hang_mid_stream(), is_stream=False, has_begun=True),
)


async def run(folder: Path, chance: Random, *, times: int = 100) -> list[Finding]:
    """Leave `times` times at each moment in each way, in random order."""
    async with AsyncExitStack() as stack:
        up, spare = [await stack.enter_async_context(FaultUpstream()) for _ in range(2)]
        routes = ROUTES.format(up=up.base_url, spare=spare.base_url)
        server = await stack.enter_async_context(serve(routes, folder))
        await asyncio.sleep(WARM_UP_S)
        trips = [(case, how) for case in CASES for how in Leaving for _ in range(times)]
        closed_s: defaultdict[str, list[float]] = defaultdict(list)
        missed: list[str] = []
        for number, (case, how) in enumerate(chance.sample(trips, len(trips))):
            up.replace_script([case.mode])
            events = chance.randint(*case.events) if case.events else 0
            model = f"m/{case.label}-{how.value}-{number}"
            try:
                closed_s[case.name].append(await _leave(server, up, case, how, model=model, events=events))
            except (TimeoutError, ConnectionError) as error:
                missed.append(f"{model} after {events} events: {error!r}")
            if len(missed) == MISSED_MAX:
                break
        books = Books(server.data)
        settled_s = await books.until_settled(limit_s=SETTLE_S_MAX)
        faults = [*books.find_faults(), *([] if settled_s is not None else ["pending to the end"])]
        gone = counted("R20, R21: the upstream is closed", "0 broken", f"{len(up.exchanges)} left", missed)
        return [gone, *_judge_times(closed_s), *_judge_books(books, faults, up=up, spare=spare)]


async def _leave(
    server: TurnpikeServer, up: FaultUpstream, case: Case, how: Leaving, *, model: str, events: int
) -> float:
    """Ask, wait for the moment, leave; gives the seconds from then to the close at the upstream.

    TimeoutError: it was not closed. ConnectionError: the client was not served to the moment at which it would leave.
    """
    count = len(up.exchanges) + 1
    async with call(server.url, chat(model, stream=case.is_stream), key=server.key) as reply:
        exchange = await up.received(count)
        if case.has_begun:
            await wait_until(lambda: len(exchange.sends) >= SENT_BEFORE, limit_s=SETTLE_S_MAX)
        if events:
            await _read_events(reply, events)
        left_s = await reply.leave(how)
        return await up.left(exchange) - left_s


async def _read_events(reply: Reply, count: int) -> None:
    read = 0
    async for _ in reply.events():
        read += 1
        if read == count:
            break
    if reply.status != 200 or read < count:
        raise ConnectionError(f"status {reply.status}, {read} events")


def _judge_times(closed_s: Mapping[str, Sequence[float]]) -> list[Finding]:
    promise = "R20, R21: upstream closed once the client left (FIN, RST, half-close)"
    return [timed(f"{promise} {case.name}", closed_s[case.name], limit_s=CLOSE_S_MAX) for case in CASES]


def _judge_books(books: Books, faults: Sequence[str], *, up: FaultUpstream, spare: FaultUpstream) -> list[Finding]:
    rows = books.rows()
    asked = Counter(str(exchange.model) for exchange in up.exchanges)
    booked = Counter(row.model for row in rows)
    missing = [f"{booked[model]} rows for {model}" for model in asked if booked[model] != 1]
    strange = [f"booked for nobody: {model}" for model in booked if model not in asked]
    odd = [str(row) for row in rows if not _is_expected(row)]
    sources = Counter(row.cost_source for row in rows)
    shown = ", ".join(f"{count} {source}" for source, count in sources.most_common())
    return [
        counted(
            "R20, R21: one row for each that left, posted once, held 0, balances true",
            "0 broken",
            f"{len(asked)} left ({shown})",
            [*missing, *strange, *odd, *faults],
        ),
        counted(
            "R21: no fallback for a client that left",
            "0 broken",
            f"{len(asked)} left",
            (f"tried elsewhere: {exchange.model}" for exchange in spare.exchanges),
        ),
    ]


def _is_expected(row: Row) -> bool:
    return (row.state, row.error, row.provider) == ("posted", "client_left", "up")
