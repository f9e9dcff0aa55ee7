"""What the ledger costs: CPU per request for admit and settle together, both threads, with some requests in flight.

Run it in the checkout, with PYTHONPATH=. : `python bench/ledger.py [REQUESTS [IN_FLIGHT [KEYS]]]`; the books stand in
a folder beside it that is removed at the end.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from proxy.clock import SystemClock
from proxy.ledger.records import Admission, AttemptEnd, AttemptStart, AttemptState, KeyRecord, Settlement
from proxy.ledger.sqlite import SqliteLedger
from proxy.money import Budget, Period
from proxy.usage import CostSource, Usage

ROUNDS = 5


async def serve(ledger: SqliteLedger, requests: range, waits_s: list[float], key: str):
    for number in requests:
        start = AttemptStart(1, "openrouter", "openai/gpt-4o", 50_000)
        began_s = time.perf_counter()
        admitted = await ledger.admit(
            Admission(f"req-{time.time_ns():x}-{number}", key, 1, None, "chat", None, True, time.time(), (start,))
        )
        waits_s.append(time.perf_counter() - began_s)
        end = AttemptEnd(
            1, AttemptState.POSTED, 1_000, CostSource.COMPUTED, Usage(100, 200), 200, None, 900, 300, "gen-1234567890"
        )
        assert await ledger.settle(Settlement(admitted.request_id, (end,), time.time()))


async def measure(ledger: SqliteLedger, requests: int, in_flight: int, keys: int):
    waits_s: list[float] = []
    share = requests // in_flight
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    jobs = [serve(ledger, range(n * share, (n + 1) * share), waits_s, f"app{n % keys}") for n in range(in_flight)]
    await asyncio.gather(*jobs)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    done = share * in_flight
    print(
        f"{cpu_s / done * 1e6:6.1f} us CPU per request, {done / wall_s:6.0f} requests/s, "
        f"admit p50 {statistics.median(waits_s) * 1e3:.2f} ms, max {max(waits_s) * 1e3:.1f} ms"
    )


async def main(requests: int = 6_400, in_flight: int = 32, keys: int = 1):
    with tempfile.TemporaryDirectory(dir=".") as folder:
        ledger = await SqliteLedger.open(Path(folder) / "data", clock=SystemClock())
        budget = Budget(10**15, Period.DAY)
        await ledger.declare_keys([KeyRecord(f"app{n}", f"digest{n}", budget=budget) for n in range(keys)])
        for _ in range(ROUNDS):
            await measure(ledger, requests, in_flight, keys)
        await ledger.close()


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
