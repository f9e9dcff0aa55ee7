"""An exchange whose answer others may get (part of the gateway, floor 4): response cache and `Idempotency-Key`.

It is used as an `Exchange` is, and holds one. Before that is begun it asks whether the answer is there or comes; if it
is the first to ask, it has the answer kept before the client gets its end. The cases:

* a replay: the `Idempotency-Key` was answered before. The body as it was, cost 0 in the books;
* a hit: an equal request was answered before. The same, and the body says cost 0 too;
* the first: the exchange goes its way. With an `Idempotency-Key`, or when others wait for it, it goes on to its end
  even when its client leaves, because that client will ask again and is not to pay twice. What came to nothing sets
  those who wait free, and one of them is the first then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from proxy.codecs.wire import JsonObject
from proxy.errors import IdempotencyInProgress, RepliesUnavailable
from proxy.gateway.attempt import Attempt
from proxy.gateway.errands import Asked
from proxy.gateway.exchange import Answer, Exchange
from proxy.gateway.recording import Recording, is_fit_for_others, is_whole, make_entry
from proxy.gateway.replaying import Replay
from proxy.gateway.service import Service
from proxy.replies import Entry, Flight, Kind, Replies, Ticket, digest, zero_cost
from proxy.routing.caching import Wish, find_ttl_s
from proxy.routing.principal import lay_over
from proxy.routing.table import Table
from proxy.telemetry import FinishedRequest

IDEMPOTENCY_TTL_S = 86_400.0 + 3_600.0
"""How long an answer is kept for its `Idempotency-Key`: a day, and what clocks and slow clients need besides."""
IN_PROGRESS_RETRY_AFTER_S = 5.0
OFF_LOOP_BYTES = 1 << 20
"""A longer body is digested in a thread, or every other request would wait for it."""


def is_shared(wish: Wish, table: Table) -> bool:
    """Tell whether a request may have to do with kept answers; most have not, and are not looked at any further."""
    if wish.idempotency_key is not None or wish.cache is True:
        return True
    return table.caching.is_used and wish.cache is None


class SharedExchange:
    """One request's way through, past answers that are there already."""

    def __init__(self, asked: Asked, wish: Wish, service: Service) -> None:
        """Take the request; nothing happens before `answer`."""
        self._asked = asked
        self._wish = wish
        self._service = service
        self._inner = Exchange(asked, service)
        self._replay: Replay | None = None
        self._flights: dict[Flight, float] = {}
        """What this is the first of, and for how long its answer is to be kept."""
        self._recording = Recording()
        self._is_alone = False
        self.error: str | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close and settle as an exchange does, then set those free who wait for an answer that will not come."""
        try:
            await self._inner.__aexit__(kind, error, trace)
        finally:
            if self._is_alone:
                self._replies().ended_alone()
            if self._flights:
                await self._service.shield(self._release())

    @property
    def request_id(self) -> str:
        """Give the request's id, unique in the ledger once admitted."""
        return self._inner.request_id if self._replay is None else self._replay.request_id

    @property
    def attempts(self) -> int:
        """Give how many upstream calls were begun."""
        return self._inner.attempts

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing is open any more: of a replay, once all of it was given out."""
        return self._inner.is_settled if self._replay is None else self._replay.is_over

    @property
    def is_broken(self) -> bool:
        """Tell whether the stream's last bytes are an error event."""
        return self._inner.is_broken

    def outlives_client(self) -> bool:
        """Tell whether this is to go on although its client has left; asked once, when it leaves."""
        is_wanted = any(flight.followers or flight.ticket.kind is Kind.IDEMPOTENCY for flight in self._flights)
        if is_wanted and self._inner.attempts and not self._is_alone:
            self._is_alone = self._replies().may_outlive()
        return self._is_alone

    async def answer(self) -> Answer:
        """Find the answer or have it made; raises as `Exchange.answer` does, and what an `Idempotency-Key` may meet."""
        found = await self._find()
        if isinstance(found, Replay):
            await self._service.shield(found.book())
            self._replay = found
            await self._service.shield(self._keep_again(found.entry))
            return Answer(found.headers(), None if found.entry.is_stream else found.entry.content)
        answer = await self._inner.answer()
        if answer.body is not None and self._flights:
            self._recording.add(answer.body)
            await self._service.shield(self._keep())
        return answer._replace(headers=answer.headers | {"x-turnpike-cache": "miss"}) if found else answer

    async def next_piece(self) -> bytes:
        """Give the stream's next bytes, b"" behind the last; it is kept before its terminal bytes are given."""
        if self._replay is not None:
            return self._replay.next_piece()
        piece = await self._inner.next_piece()
        if self._flights:
            self._recording.add(piece)
            if self._inner.is_settled and not self._inner.is_broken:
                await self._service.shield(self._keep())
        return piece

    def record(self, status: int) -> FinishedRequest:
        """Give the one log line of this request."""
        if self._replay is not None:
            return self._replay.record(status, self.error)
        return self._inner.record(status, self.error)

    def failure_headers(self) -> dict[str, str]:
        """Give the headers of an error reply."""
        return self._inner.failure_headers()

    def routing(self) -> JsonObject | None:
        """Describe the routing when the client asked for it."""
        return self._inner.routing()

    # --- is it there? ---------------------------------------------------------------------------------------------

    async def _find(self) -> Replay | bool:
        """Find the answer; without one, tell whether it may be cached."""
        asked, service = self._asked, self._service
        # Whoever may not ask for the model gets no answer of it either.
        plan = service.planner.plan(asked.body, asked.principal, asked.table)
        if self._wish.idempotency_key is not None:
            entry = await self._find_keyed(self._wish.idempotency_key)
            if entry is not None:
                return Replay(entry, Kind.IDEMPOTENCY, asked=asked, plan=plan, service=service)
        ttl_s = find_ttl_s(
            asked.table.caching, asked=self._wish.cache, key=asked.principal.cache, route=plan.route.cache
        )
        if ttl_s is None:
            return False
        entry = await self._find_equal(plan.alias, ttl_s)
        if entry is None:
            return True
        return Replay(entry, Kind.CACHE, asked=asked, plan=plan, service=service)

    async def _find_keyed(self, key: str) -> Entry | None:
        scope = self._scope()
        fingerprint = await self._digest("request", self._asked.surface, self._bare(self._asked.body))
        slot = digest(Kind.IDEMPOTENCY, scope, key)
        found = await self._replies().join(Ticket(Kind.IDEMPOTENCY, slot, fingerprint))
        if found is None:
            msg = "The first request with this Idempotency-Key still runs; send it again a little later."
            raise IdempotencyInProgress(msg, retry_after_s=IN_PROGRESS_RETRY_AFTER_S)
        return self._note(found, IDEMPOTENCY_TTL_S)

    async def _find_equal(self, alias: str, ttl_s: float) -> Entry | None:
        asked = self._asked
        body = lay_over(asked.principal.params, asked.body) if asked.principal.params else asked.body
        told = [self._scope(), asked.surface, alias, asked.table.id, dict(asked.forwarded)]
        slot = await self._digest(Kind.CACHE, told, self._bare(body))
        try:
            found = await self._replies().join(Ticket(Kind.CACHE, slot, slot))
        except RepliesUnavailable:
            return None
        return None if found is None else self._note(found, ttl_s)

    def _note(self, found: Entry | Flight, ttl_s: float) -> Entry | None:
        if isinstance(found, Entry):
            return found
        self._flights[found] = ttl_s
        return None

    def _scope(self) -> list[str]:
        """Name who shares answers: the keys of a tenant, else nobody but the key."""
        principal = self._asked.principal
        return ["key", principal.name] if principal.tenant is None else ["tenant", principal.tenant]

    async def _digest(self, *parts: Any) -> bytes:
        if self._asked.body_bytes > OFF_LOOP_BYTES:
            return await asyncio.to_thread(digest, *parts)
        return digest(*parts)

    @staticmethod
    def _bare(body: Mapping[str, Any]) -> dict[str, Any]:
        """Give a request without what it says of the cache itself."""
        ours = body.get("turnpike")
        if not isinstance(ours, dict) or "cache" not in ours:
            return dict(body)
        rest = {name: value for name, value in ours.items() if name != "cache"}
        return {name: value for name, value in body.items() if name != "turnpike"} | (
            {"turnpike": rest} if rest else {}
        )

    # --- let others find it ---------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Keep the answer for those it is fit for, and let the others go on."""
        attempt, content = self._inner.newest, self._recording.content()
        if attempt is not None and content is not None and is_whole(attempt):
            entry = make_entry(
                content, attempt, cost_nano_usd=self._inner.spent_nano_usd, at_s=self._service.clock.now_s()
            )
            for flight, ttl_s in list(self._flights.items()):
                shown = self._shown(flight, content, attempt)
                if shown is not None:
                    await self._keep_one(flight, replace(entry, content=shown).lasting(entry.at_s, ttl_s))
        await self._release()

    def _shown(self, flight: Flight, content: bytes, attempt: Attempt) -> bytes | None:
        """Give the answer as those get it who wait for this flight, None when it is not for them."""
        if flight.ticket.kind is Kind.IDEMPOTENCY:
            return content
        if self._inner.is_redirected or not is_fit_for_others(content, attempt):
            return None
        return zero_cost(content, is_stream=attempt.candidate.body.get("stream") is True)

    async def _keep_again(self, entry: Entry) -> None:
        """Keep a hit for the `Idempotency-Key` it came with."""
        at_s = self._service.clock.now_s()
        for flight, ttl_s in list(self._flights.items()):
            await self._keep_one(flight, entry.lasting(at_s, ttl_s))

    async def _keep_one(self, flight: Flight, entry: Entry) -> None:
        del self._flights[flight]
        await self._replies().keep(flight, entry)

    async def _release(self) -> None:
        flights, self._flights = self._flights, {}
        for flight in flights:
            await self._replies().release(flight)

    def _replies(self) -> Replies:
        replies = self._service.replies
        if replies is None:
            msg = (
                "This gateway keeps no answers, so an Idempotency-Key cannot be honoured; send the request without it."
            )
            raise RepliesUnavailable(msg)
        return replies
