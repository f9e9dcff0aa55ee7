"""An answer that is there already (part of the gateway, floor 4): booked at cost 0, then given out as it was kept."""

from __future__ import annotations

from functools import partial

from proxy.codecs.surface import Cost
from proxy.errors import LedgerUnavailable
from proxy.gateway.admission import heed, refusal
from proxy.gateway.errands import Asked
from proxy.gateway.headers import cost_headers, header_text, quota_headers
from proxy.gateway.service import Service
from proxy.ledger.records import Admission, AttemptEnd, AttemptStart, AttemptState, Refused, Settlement
from proxy.policy.limits import Quota
from proxy.replies import Entry, Kind
from proxy.routing.caching import PROVIDER
from proxy.routing.plan import Plan
from proxy.telemetry import FinishedRequest
from proxy.usage import CostSource, Usage

PIECE_BYTES = 64 << 10
"""A stream is given out in pieces of this size: a client that leaves is noticed between two of them."""
STATUS = 200


class Replay:
    """One request that is answered without an upstream."""

    def __init__(self, entry: Entry, kind: Kind, *, asked: Asked, plan: Plan, service: Service) -> None:
        """Answer with an entry found as a hit or for an `Idempotency-Key`; nothing happens before `book`."""
        self.entry = entry
        self.request_id = asked.request_id
        self._kind = kind
        self._asked = asked
        self._alias = plan.alias
        self._model = plan.route.name
        """The model of ours that answers to that name, a glob perhaps: its limits hold."""
        self._service = service
        self._at = 0
        self._overhead_ms = 0.0
        self._quotas: tuple[Quota, ...] = ()

    @property
    def is_over(self) -> bool:
        """Tell whether everything was given out: of a stream the last piece, a JSON answer with its headers."""
        return not self.entry.is_stream or self._at >= len(self.entry.content)

    async def book(self) -> None:
        """Write a row of cost 0, under the key as it is now.

        Raises `KeyChanged`, and the refusal of a limit that holds for a request that costs nothing.
        """
        asked, now_s = self._asked, self._service.clock.now_s()
        admission = Admission(
            request_id=asked.request_id,
            key_name=asked.principal.name,
            key_revision=asked.principal.revision,
            tenant=asked.principal.tenant,
            route=self._alias,
            app=asked.app,
            is_stream=self.entry.is_stream,
            at_s=now_s,
            attempts=(AttemptStart(1, PROVIDER, self.entry.model, 0),),
            user=asked.user,
            tags=asked.tags,
            alias=self._model,
            parent=asked.principal.parent,
            is_redirected=True,  # it costs nothing: no budget that is spent need send it anywhere else
        )
        service = self._service
        scopes = partial(asked.list_scopes, self._model)
        answer = heed(await service.queue.ask(scopes, partial(service.ledger.admit, admission)))
        if isinstance(answer, Refused):
            raise refusal(0, None, answer)
        self.request_id, self._quotas = answer.request_id, answer.quotas
        self._overhead_ms = (self._service.clock.monotonic_s() - asked.received_s) * 1000
        try:
            await self._service.ledger.settle(Settlement(self.request_id, ended=(self._end(),), at_s=now_s))
        except LedgerUnavailable:
            return  # the ledger keeps the settlement, and the client its answer

    def headers(self) -> dict[str, str]:
        """Say whose answer it is, and that this request cost nothing."""
        headers = {
            "x-request-id": self.request_id,
            "x-generation-id": f"gen-{self.request_id}",
            "x-turnpike-route": header_text(self._alias),
            "x-turnpike-provider": PROVIDER,
            "x-turnpike-model": header_text(self.entry.model),
            "x-turnpike-attempts": "0",
            "x-turnpike-overhead-ms": f"{max(0.0, self._overhead_ms):.1f}",
            **cost_headers(Cost(0, CostSource.COMPUTED), 0),
            **quota_headers(self._quotas),
        }
        if self._kind is Kind.IDEMPOTENCY:
            return headers | {"idempotency-replayed": "true"}
        age_s = max(0, int(self._service.clock.now_s() - self.entry.at_s))
        return headers | {"x-turnpike-cache": "hit", "age": str(age_s)}

    def next_piece(self) -> bytes:
        """Give the next bytes of a stream, b"" behind the last."""
        piece = self.entry.content[self._at : self._at + PIECE_BYTES]
        self._at += len(piece)
        return piece

    def record(self, status: int, error: str | None) -> FinishedRequest:
        """Give the one log line of this request."""
        asked = self._asked
        return FinishedRequest(
            request_id=self.request_id,
            key=asked.principal.name,
            tenant=asked.principal.tenant,
            route=self._alias,
            provider=PROVIDER,
            model=self.entry.model,
            status=status,
            attempts=0,
            input_tokens=0,
            output_tokens=0,
            cost_nano_usd=0,
            cost_source=CostSource.COMPUTED,
            latency_ms=self._elapsed_ms(),
            first_token_ms=None,
            error=error,
        )

    def _end(self) -> AttemptEnd:
        """Give the row's end: no tokens were used, so nothing is charged to budgets and rates, and what that saved."""
        return AttemptEnd(
            number=1,
            state=AttemptState.POSTED,
            cost_nano_usd=0,
            cost_source=CostSource.COMPUTED,
            usage=Usage(),
            status=STATUS,
            error=None,
            latency_ms=self._elapsed_ms(),
            saved_nano_usd=self.entry.cost_nano_usd,
        )

    def _elapsed_ms(self) -> int:
        return max(0, round((self._service.clock.monotonic_s() - self._asked.received_s) * 1000))
