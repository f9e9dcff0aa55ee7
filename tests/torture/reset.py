"""A budget's day ends under load, on several processes at once: each charge counts in one day, that of its hold (R65).

Every process runs with a clock that is ahead by the same amount, so that midnight (UTC) comes some seconds after the
start. Before it the budget runs out, after it there is room again; slow streams are under way across it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from tests.faults import chunks
from tests.faults.altered import AlteredServer, altered
from tests.faults.replies import answering, good, ok_paced
from tests.faults.steps import Mode, Tokens
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books, Watch
from tests.torture.findings import Finding, counted, duration
from tests.torture.load import Load, Question, Seen

DAY_S: Final = 86_400
KEY: Final = "sk-torture-reset"
TOKENS: Final = 64
"""What each request may write at most, and most do: nothing is gained from their ends."""
HOLD_NANO_USD: Final = TOKENS * 10_000
"""At $10 for a million output tokens and nothing for input."""
START_S: Final = 12.0
"""From now to midnight: time for all processes to start."""
REFUSED_S_MAX: Final = 1.0
SETTLE_S_MAX: Final = 10.0
SLOW_EVERY: Final = 20
"""One request in so many is a stream of two seconds."""

ROUTES: Final = f"""
providers:
  up: {{{{dialect: openai, base_url: "{{up}}", price: {{{{input: $0/M, output: $10/M}}}}}}}}
models: {{{{"m/*": up/*}}}}
keys:
  - {{{{name: {KEY}, key: {KEY}, budget: "${{limit:.9f}}/day"}}}}
"""
_ROWS: Final = "SELECT at_s, ended_at_s, cost_nano_usd FROM attempts WHERE key_name = ?"
_WINDOWS: Final = (
    "SELECT starts_s, ends_s, posted_nano_usd, held_nano_usd FROM balances WHERE scope = ? ORDER BY starts_s"
)


class Charge(NamedTuple):
    """One attempt."""

    at_s: float
    ended_at_s: float
    cost_nano_usd: int


@dataclass(frozen=True, slots=True)
class Midnight:
    """When the day ends."""

    at_s: int
    """Seconds since the epoch, by the servers' clocks."""
    monotonic_s: float
    ahead_s: float

    @classmethod
    def in_s(cls, seconds: float) -> Midnight:
        """Let it be so many seconds from now."""
        now_s = time.time()
        at_s = (int(now_s) // DAY_S + 1) * DAY_S
        return cls(at_s, time.monotonic() + seconds, at_s - seconds - now_s)

    async def wait(self, seconds: float) -> None:
        """Wait until so many seconds after it, or before it when negative."""
        await asyncio.sleep(max(0.0, self.monotonic_s + seconds - time.monotonic()))


async def run(
    folder: Path,
    _chance: Random,
    *,
    processes: int = 4,
    rate_per_s: float = 200,
    around_s: tuple[float, float] = (4.0, 2.0),
) -> list[Finding]:
    """Ask for so long before midnight and after it, with room for three fifths of what is asked for before."""
    room = int(rate_per_s * around_s[0] * 3 / 5)
    limit_nano_usd = room * HOLD_NANO_USD
    midnight = Midnight.in_s(START_S + around_s[0])
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FaultUpstream([billed()]))
        routes = ROUTES.format(up=up.base_url, limit=limit_nano_usd / 1e9)
        starting = (altered(routes, folder, clock_ahead_s=midnight.ahead_s) for _ in range(processes))
        servers = [await stack.enter_async_context(server) for server in starting]
        assert time.monotonic() < midnight.monotonic_s - around_s[0], "the servers took too long to start"
        books = Books(servers[0].data)
        await midnight.wait(-around_s[0])
        with Watch(books, KEY, limit_nano_usd) as watch:
            seen = await _ask(servers, rate_per_s / processes, midnight, around_s[1])
            await books.until_settled(limit_s=SETTLE_S_MAX)
        return list(_judge(seen, servers[0].data / "ledger.db", midnight, watch))


async def _ask(servers: Sequence[AlteredServer], rate_per_s: float, midnight: Midnight, after_s: float) -> list[Seen]:
    """Ask all of them at the same rate until so long after midnight."""

    async def ask(number: int, server: AlteredServer) -> list[Seen]:
        async with Load(server.url, _questions(number), rate_per_s=rate_per_s) as load:
            await midnight.wait(after_s)
        return load.seen

    asked = await asyncio.gather(*(ask(number, server) for number, server in enumerate(servers)))
    return [one for seen in asked for one in seen]


def _questions(process: int) -> Callable[[int], Question]:
    """Give what one process is asked: each model once, some of them slow."""

    def ask(number: int) -> Question:
        kind = "slow" if number % SLOW_EVERY == 0 else "quick"
        model = f"m/{kind}-{process}-{number}"
        return Question(model, KEY, is_stream=kind == "slow", fields={"max_tokens": TOKENS})

    return ask


def billed() -> Mode:
    """Answer at once with all the tokens that were allowed, or slowly when the model's name says so."""
    slow, full = ok_paced(8, every_s=0.25), Tokens(chunks.PROMPT_TOKENS, TOKENS)
    return answering(
        "billed", lambda ask: slow.plan(ask) if ask.model.startswith("slow") else good(ask, full), is_slow=True
    )


def _judge(seen: Sequence[Seen], ledger: Path, midnight: Midnight, watch: Watch) -> Iterator[Finding]:
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as connection:
        charges = [Charge(*row) for row in connection.execute(_ROWS, (KEY,))]
        windows = connection.execute(_WINDOWS, (f"key:{KEY}",)).fetchall()
    across = [charge for charge in charges if charge.at_s < midnight.at_s <= charge.ended_at_s]
    refused = [one for one in seen if one.status == 402]
    since_s = [one.asked_s - midnight.monotonic_s for one in refused]
    yield counted(
        "R65: each charge counts in exactly one day, that of its hold",
        "0 broken, some across midnight",
        f"{len(charges)} charges, {len(across)} begun before midnight and ended after it",
        [*_find_miscounted(charges, windows, midnight), *([] if across else ["none went across midnight"])],
    )
    yield counted(
        "R65: posted + held <= limit in each day at every look",
        "0 broken",
        f"{watch.looks} looks, at most {watch.most_nano_usd / watch.limit_nano_usd:.1%} of the limit",
        watch.breaches,
    )
    yield counted(
        f"R65: refused before midnight, nobody {duration(REFUSED_S_MAX)} after it",
        "0 broken, some before",
        f"{len(refused)} refused with 402, the last {duration(max(since_s, default=0.0))} after midnight; "
        f"{sum(one.asked_s > midnight.monotonic_s for one in seen)} asked after it",
        [*_find_late(seen, midnight), *([] if min(since_s, default=0.0) < 0 else ["nobody was refused before"])],
    )


def _find_miscounted(
    charges: Sequence[Charge], windows: Sequence[tuple[int, ...]], midnight: Midnight
) -> Iterator[str]:
    expected = [(midnight.at_s - DAY_S, midnight.at_s), (midnight.at_s, midnight.at_s + DAY_S)]
    found = [(starts_s, ends_s) for starts_s, ends_s, *_ in windows]
    if found != expected:
        yield f"windows {found} instead of {expected}"
    for starts_s, ends_s, posted, held in windows:
        total = sum(charge.cost_nano_usd for charge in charges if starts_s <= charge.at_s < ends_s)
        if (posted, held) != (total, 0):
            yield f"{posted} posted, {held} held in the day from {starts_s}, its charges are {total}"


def _find_late(seen: Sequence[Seen], midnight: Midnight) -> Iterator[str]:
    for one in seen:
        is_late = one.asked_s > midnight.monotonic_s + REFUSED_S_MAX
        if one.status != 200 and (is_late or one.status != 402):
            yield f"{duration(one.asked_s - midnight.monotonic_s)} after midnight: {one}"
