"""A short queue instead of a refusal (part of the gateway, floor 4): requests wait for a limit in the order they came.

A limit says how long a request may wait for it (`wait: 2s`). There is a line for each scope that has no room, and only
the first of a line asks the ledger again: the others stand behind it, and whoever counts in that scope and comes
meanwhile stands at the end, so nobody overtakes. Requests that do not count in it pass by: a user who is limited holds
up no other. Who is not let in before its time is over gets the last refusal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from proxy.errors import Overloaded
from proxy.ledger.records import Limited
from proxy.policy.scopes import is_upstream

QUEUED_MAX = 1_000
"""Requests of all lines that may wait in one process; beyond it they are refused with 503."""
ASK_AGAIN_S = 0.05
"""Between two questions for a place among those under way, whose ends nobody foretells."""

AnswerT = TypeVar("AnswerT")


@dataclass(slots=True)
class _Line:
    """Who waits for one scope."""

    wait_s: float
    """How long each may."""
    turns: deque[asyncio.Future[None]] = field(default_factory=deque)
    """In the order they came; each is done when it has become the first."""


class Queue:
    """Who waits for a limit in this process."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lines: dict[str, _Line] = {}
        """By scope; only those that somebody stands in."""
        self._count = 0

    async def ask(self, scopes: Callable[[], Iterable[str]], ask: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Ask the ledger, again and in turn while a limit says that waiting may help; gives the last answer.

        `scopes` names what the request counts in, and is only asked while somebody waits. Raises `Overloaded`.
        """
        scope = next((one for one in scopes() if one in self._lines), None) if self._lines else None
        if scope is None:
            answer = await ask()
            if not isinstance(answer, Limited) or not answer.wait_s or is_upstream(answer.scope):
                return answer
            scope, wait_s = answer.scope, answer.wait_s
        else:
            wait_s = self._lines[scope].wait_s
        due_s = asyncio.get_running_loop().time() + wait_s
        async with self._stand(scope, wait_s, due_s):
            return await _ask_again(ask, due_s)

    @asynccontextmanager
    async def _stand(self, scope: str, wait_s: float, due_s: float) -> AsyncIterator[None]:
        """Stand in a line until it is our turn or our time is over."""
        if self._count >= QUEUED_MAX:
            raise Overloaded("Too many requests wait for a rate limit already; try again.")
        turns = self._lines.setdefault(scope, _Line(wait_s)).turns
        mine = asyncio.get_running_loop().create_future()
        turns.append(mine)
        self._count += 1
        try:
            if turns[0] is not mine:
                await _wait_until(mine, due_s)
            yield
        finally:
            self._count -= 1
            was_first = turns[0] is mine
            turns.remove(mine)
            if not turns:
                del self._lines[scope]
            elif was_first:
                turns[0].set_result(None)


async def _ask_again(ask: Callable[[], Awaitable[AnswerT]], due_s: float) -> AnswerT:
    """Ask until a limit no longer refuses, waiting cannot help, or the time is over; once in any case."""
    loop = asyncio.get_running_loop()
    while True:
        answer = await ask()
        left_s = due_s - loop.time()
        if not isinstance(answer, Limited) or is_upstream(answer.scope) or left_s <= 0:
            return answer
        pause_s = ASK_AGAIN_S if answer.measure is None else answer.retry_after_s
        if pause_s > left_s and answer.measure is not None:
            return answer
        await asyncio.sleep(min(pause_s, left_s))


async def _wait_until(turn: asyncio.Future[None], due_s: float) -> None:
    """Wait for a turn until a moment of the loop's clock; past it the last question is asked out of turn."""
    await asyncio.wait([turn], timeout=max(0.0, due_s - asyncio.get_running_loop().time()))
