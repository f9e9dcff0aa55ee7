"""Agents with long prompts and generous caps on a budget many times what they spend: nobody is refused (R14)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.faults import client
from tests.faults.replies import ok
from tests.faults.upstream import FaultUpstream
from tests.torture.books import NANO_PER_USD, Books
from tests.torture.findings import Finding, counted
from tests.torture.start import serve_together

INPUT_USD_PER_M: Final = 3
OUTPUT_USD_PER_M: Final = 15
ANSWER_TOKENS: Final = 300
SETTLE_S_MAX: Final = 15.0
WORDS: Final = ("the", "river", "of", "tokens", "runs", "past", "every", "agent", "and", "never", "stops", "counting")
"""Each a token with the blank before it."""

ROUTES: Final = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $3/M, output: $15/M}}}}
models: {{gpt-4o: [{{target: up/gpt-4o, context: 200k}}]}}
keys:
  - {{name: agents, key: sk-torture-agents, budget: "${budget_usd:.4f}"}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """So many agents, each asking so often, on a budget so many times what they really spend."""

    agents: int = 50
    turns: int = 2
    prompt_tokens: int = 100_000
    max_tokens: int = 32_000
    times: int = 20

    @property
    def name(self) -> str:
        """Name it in words."""
        prompts = f"{self.prompt_tokens // 1000}k-token prompts, max_tokens {self.max_tokens // 1000}k"
        often = "once" if self.turns == 1 else f"{self.turns} times"
        return f"{self.agents} agents ask {often}, {prompts}, a budget of {self.times} x what is spent"

    @property
    def spent_usd(self) -> float:
        """Give what all of them really cost."""
        each = self.prompt_tokens * INPUT_USD_PER_M + ANSWER_TOKENS * OUTPUT_USD_PER_M
        return self.agents * self.turns * each / 1_000_000


CASES: Final = (Case(), Case(turns=1), Case(turns=1, times=10))


async def run(folder: Path, chance: Random, *, cases: Sequence[Case] = CASES) -> list[Finding]:
    """Let every case's agents work."""
    return [await _work(folder / str(number), case, chance) for number, case in enumerate(cases)]


async def _work(folder: Path, case: Case, chance: Random) -> Finding:
    async with FaultUpstream([ok(ANSWER_TOKENS, prompt_tokens=case.prompt_tokens)]) as up:
        routes = ROUTES.format(up=up.base_url, budget_usd=case.spent_usd * case.times)
        async with serve_together(routes, folder, 1) as (server,):

            async def be_agent() -> list[client.Answer]:
                prompt = " ".join(chance.choices(WORDS, k=case.prompt_tokens))
                payload = client.chat("gpt-4o", prompt, max_tokens=case.max_tokens)
                return [await client.ask(server.url, payload, key="sk-torture-agents") for _ in range(case.turns)]

            seen = [
                one for answers in await asyncio.gather(*(be_agent() for _ in range(case.agents))) for one in answers
            ]
            books = Books(server.data)
            await books.until_settled(limit_s=SETTLE_S_MAX)
            rows = books.rows()
            faults = books.find_faults()
    return _judge(case, seen, [row.cost_nano_usd or 0 for row in rows], faults)


def _judge(case: Case, seen: Sequence[client.Answer], costs: Sequence[int], faults: Sequence[str]) -> Finding:
    statuses = Counter(answer.status for answer in seen)
    clamped = sum("x-turnpike-clamped" in answer.headers for answer in seen)
    refused = [answer.body[:300].decode(errors="replace") for answer in seen if answer.status != 200]
    spent = sum(costs)
    off = [] if spent == round(case.spent_usd * NANO_PER_USD) else [f"{spent} nano-USD were spent"]
    return counted(
        f"R14: {case.name}: nobody is refused",
        "0 refused",
        f"{statuses[200]} answered, {clamped} with a lower cap, {len(refused)} refused",
        [*refused, *off, *faults],
    )
