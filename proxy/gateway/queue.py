"""A short queue instead of a refusal (part of the gateway, floor 4): requests of one key wait in the order they came.

A limit says how long a request may wait for it (`wait: 2s`). Only the first of a key asks the ledger again; the others
stand behind it, and whoever comes meanwhile stands at the end, so nobody overtakes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from proxy.errors import Overloaded
from proxy.ledger.records import Limited, Outcome
from proxy.policy.pools import Resting
from proxy.policy.scopes import is_upstream

QUEUED_MAX = 1_000
"""Requests of all keys that may wait in one process."""
ASK_AGAIN_S = 0.05
"""Between two questions for a place among those under way, whose ends nobody foretells."""

Ask = Callable[[], Awaitable[Outcome | Resting]]


class Queue:
    """Who waits for a limit in this process."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        self._waits_s: dict[str, float] = {}
        """How long a key's requests may wait, by the limit that was met last; only while somebody does."""
        self._count = 0

    async def ask(self, key_name: str, ask: Ask) -> Outcome | Resting:
        """Ask the ledger, again and in turn while a limit says that waiting may help; gives the last answer."""
        wait_s = self._waits_s.get(key_name)
        if wait_s is None:
            answer = await ask()
            if not isinstance(answer, Limited) or not answer.wait_s or is_upstream(answer.scope):
                return answer
            wait_s = self._waits_s[key_name] = answer.wait_s
        loop = asyncio.get_running_loop()
        due_s = loop.time() + wait_s
        async with self._stand(key_name, due_s):
            while True:
                answer = await ask()
                left_s = due_s - loop.time()
                if not isinstance(answer, Limited) or is_upstream(answer.scope) or left_s <= 0:
                    return answer
                pause_s = ASK_AGAIN_S if answer.measure is None else answer.retry_after_s
                if pause_s > left_s and answer.measure is not None:
                    return answer
                await asyncio.sleep(min(pause_s, left_s))

    @asynccontextmanager
    async def _stand(self, key_name: str, due_s: float) -> AsyncIterator[None]:
        """Stand in a key's line until it is our turn or our time is over."""
        if self._count >= QUEUED_MAX:
            raise Overloaded("Too many requests wait for a rate limit already; try again.")
        line = self._lines.setdefault(key_name, deque())
        mine = asyncio.get_running_loop().create_future()
        line.append(mine)
        self._count += 1
        try:
            if line[0] is not mine:
                await _wait_until(mine, due_s)
            yield
        finally:
            self._count -= 1
            was_first = line[0] is mine
            line.remove(mine)
            if not line:
                del self._lines[key_name]
                self._waits_s.pop(key_name, None)
            elif was_first and not line[0].done():
                line[0].set_result(None)


async def _wait_until(turn: asyncio.Future[None], due_s: float) -> None:
    """Wait for a turn until a moment of the loop's clock; past it the last question is asked out of turn."""
    await asyncio.wait([turn], timeout=max(0.0, due_s - asyncio.get_running_loop().time()))
