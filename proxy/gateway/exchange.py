"""One client's request through the gateway (floor 4): plan, hold, attempt, relay, settle.

An exchange is an async context manager, and that is what keeps its promise: however the block is left, by an answer, an
error, a client that went away or a cancellation, the upstream is closed and every hold ends exactly once. Leaving early
costs nobody time, because the work goes on shielded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from proxy.codecs.surface import Cost, View, show_reply
from proxy.codecs.wire import Codec, JsonObject
from proxy.errors import Failure, LedgerUnavailable, NotFound, RequestError, UpstreamError
from proxy.gateway.admission import Asking, admit, is_passable, refusal
from proxy.gateway.attempt import BYTES_PER_TOKEN, CLIENT_LEFT, Attempt, Line, failure_of
from proxy.gateway.drains import DRAIN_S_MAX
from proxy.gateway.errands import Asked, write_errand
from proxy.gateway.fitting import fit_plan
from proxy.gateway.forwarding import wants_metadata
from proxy.gateway.headers import cost_headers, header_text, quota_headers, reply_headers, tried_headers
from proxy.gateway.keyring import Keyring
from proxy.gateway.outflow import Outflow
from proxy.gateway.refusals import Spent, limit_failure, over_rate, resting_failure
from proxy.gateway.service import Service
from proxy.gateway.telling import Ending, find_view, write_record
from proxy.ledger.records import Admission, Admitted, Advance, AttemptEnd, Limited, Refused, Settlement
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.policy.limits import Quota
from proxy.policy.pools import Resting
from proxy.routing.holds import hold_of
from proxy.routing.metadata import describe_routing
from proxy.routing.plan import Candidate, Plan
from proxy.routing.refusals import require_candidate
from proxy.routing.steps import GiveUp, Outcome, attempts_of, error_of, next_step
from proxy.routing.table import Provider
from proxy.telemetry import FinishedRequest
from proxy.usage import CostSource

CLIENT_LEFT_STATUS = 499
"""What the log shows for a client that went away, as nginx does."""


class Answer(NamedTuple):
    """What goes back before the first byte of a body: headers, and the whole body of a JSON answer."""

    headers: dict[str, str]
    body: bytes | None
    """None: a stream, read it with `Exchange.next_piece`."""


class Exchange:
    """One request's way through, to be used as a context manager."""

    def __init__(self, asked: Asked, service: Service) -> None:
        """Take the request; nothing happens before `answer`."""
        self._asked = asked
        self._service = service
        self._clock = service.clock
        self._plan: Plan | None = None
        """As admitted, with its caps and worst cases; None before."""
        self._outcomes: tuple[Outcome, ...] = ()
        """Attempts that failed, in order; the last one's end may not be in the books yet."""
        self._attempt: Attempt | None = None
        """The newest attempt whose hold the ledger has, or may have; None before the admission."""
        self._previous: Attempt | None = None
        """The one before it, only while the ledger is asked to end that and begin this: either may be pending then."""
        self._is_settled = True
        """No hold of this request is pending: not yet, or no more."""
        self._spent_nano_usd: int | None = 0
        """What attempts that have ended cost together; None once one of them is unknown."""
        self._quotas: tuple[Quota, ...] = ()
        """How the rates stand that hold for this request."""
        self._is_draining = False
        """The reply is read to its end for nobody: what it costs is not known yet."""
        self._spent_scope: str | None = None
        """The budget whose `when_spent` sent the request to another model."""
        self._keyring: Keyring | None = None
        """Only where a provider has a pool."""
        self._upstream_s = 0.0
        self._overhead_us: int | None = None
        """What was not the upstreams' of the time to the reply's head; None before that."""
        self._outflow: Outflow | None = None
        """The stream on its way out; None before its first piece."""
        self.request_id = asked.request_id
        """Unique in the ledger once admitted."""
        self.error: str | None = None
        """How it ended, for the log; None while all is well."""
        self.is_broken = False
        """The stream's last bytes are an error event: the connection must be cut, never ended cleanly."""

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the upstream and settle whatever is still open, also when this task is being cancelled."""
        if self._keyring is not None:
            self._keyring.close()
        if self._attempt is None:
            return
        if self._is_settled:
            await self._attempt.relay.close()
            return
        left = error is None or isinstance(error, asyncio.CancelledError | OSError)
        if left and self._previous is None and self._attempt.is_drainable and self._service.drains.has_room:
            self._drain(self._attempt)
            return
        await self._service.shield(self._abandon(CLIENT_LEFT if left else "internal_error"))

    @property
    def is_settled(self) -> bool:
        """Tell whether no hold of this request is open any more."""
        return self._is_settled

    @property
    def attempts(self) -> int:
        """Give how many upstream calls were begun."""
        return self._attempt.number if self._attempt is not None else 0

    @property
    def newest(self) -> Attempt | None:
        """Give the newest attempt the ledger knows of."""
        return self._attempt

    @property
    def spent_nano_usd(self) -> int | None:
        """Tell what attempts that have ended cost together, None when that is unknown."""
        return self._spent_nano_usd

    @property
    def is_redirected(self) -> bool:
        """Tell whether a spent budget sent the request to another model than it asked for."""
        return self._spent_scope is not None

    def outlives_client(self) -> bool:
        """Tell whether this is to go on although its client has left: nobody else could get the answer."""
        return False

    @property
    def body_bytes(self) -> int:
        """Tell how long the client's request is."""
        return self._asked.body_bytes

    async def answer(self) -> Answer:
        """Plan, hold, and call targets until one answers; a JSON answer is settled before it is given.

        Raises `RequestError` when none does, and `KeyChanged` when the client key must be looked up again.
        """
        try:
            plan = await self._get_admitted()
        except Spent as spent:
            plan = await self._get_admitted_instead(spent)
        attempt = await self._run_chain(plan)
        if self._asked.body.get("stream") is True:
            return Answer(self._headers(attempt), None)
        cost = await self._settle(attempt)
        body = show_reply(attempt.relay.json or {}, self._view(attempt), cost=cost)
        return Answer(self._headers(attempt) | cost_headers(cost, self._spent_nano_usd), body)

    async def next_piece(self) -> bytes:
        """Give the stream's next bytes, b"" behind the last; it is settled before its terminal bytes are given.

        When the upstream breaks, the last bytes are an error event and `is_broken` is set.
        """
        if self._is_settled:
            return b""
        attempt, outflow = self._opened(), self._outflow
        if outflow is None:
            attempt.relay.start(total_left_s=self._total_left_s())
            outflow = self._outflow = Outflow(self._view(attempt), price=attempt.cost_of)
        try:
            while (frames := await attempt.relay.take()) is not None:
                if shown := outflow.take(frames):
                    return shown
        except UpstreamError as error:
            self.is_broken, failure = True, self._failure(error, attempt)
            cost = await self._settle(attempt, failure)
            return outflow.break_off(cost, failure, seed=attempt.relay.seed)
        return outflow.finish(await self._settle(attempt))

    async def _get_admitted(self) -> Plan:
        asked = self._asked
        plan = self._service.planner.plan(asked.body, asked.principal, asked.table)
        plan, bounds = await fit_plan(plan, body_bytes=asked.body_bytes, codec_of=self._codec_of)
        require_candidate(plan, principal=asked.principal, table=asked.table)
        self._plan, admitted = await admit(plan, self._ask_in_turn, input_bounds=bounds)
        self.request_id = admitted.request_id
        self._quotas = admitted.quotas
        return self._plan

    async def _get_admitted_instead(self, spent: Spent) -> Plan:
        asked = self._asked
        self._redirect(spent)
        try:
            return await self._get_admitted()
        except NotFound:
            # The client never asked for that model: with nowhere to go a wall refuses, and a soft budget lets it in.
            self._asked = asked
            return await self._get_admitted()

    def _redirect(self, spent: Spent) -> None:
        """Go to the model a spent budget names: the operator's word, so the key need not have it on its list."""
        body = {name: value for name, value in self._asked.body.items() if name != "models"}
        principal = replace(self._asked.principal, models=None, tenant_models=None, maker_models=None)
        self._asked = replace(self._asked, body={**body, "model": spent.instead}, principal=principal)
        self._spent_scope = spent.scope

    # --- the chain ------------------------------------------------------------------------------------------------

    async def _run_chain(self, plan: Plan) -> Attempt:
        """Call targets one after another until one answers."""
        while True:
            step = next_step(plan, self._outcomes, jitter=self._service.jitter())
            # The first call is made however late it is: only its own timeout can say so.
            if isinstance(step, GiveUp) or (self._outcomes and step.delay_s >= self._total_left_s()):
                await self._settle(self._opened())
                # Made here and not taken out of the step: an error kept by a frame of its own trace would live on.
                raise error_of(plan, self._outcomes)
            if step.delay_s:
                await asyncio.sleep(step.delay_s)
            attempt = await self._begin(plan, step.index)
            if attempt is None:
                continue
            try:
                await self._call(attempt)
            except UpstreamError as error:
                await self._note_failure(attempt, error)
            else:
                return attempt

    async def _begin(self, plan: Plan, index: int) -> Attempt | None:
        """Hold the attempt's money: the first one's is held by the admission, a later one's as the one before ends.

        None: a limit of the target's own has no room, which is noted as its failure; another may do.
        """
        previous = self._opened()
        if not self._outcomes:
            return previous
        answer: LedgerOutcome | Resting | None = None
        candidate, left_nano_usd = plan.candidates[index], self._ceiling_left_nano_usd(plan)
        if left_nano_usd is None or candidate.worst_case_nano_usd <= left_nano_usd:
            answer = await self._with_key(candidate, partial(self._advance, previous, plan, index))
        if isinstance(answer, Admitted):
            return self._opened()
        if isinstance(answer, Resting):
            self._outcomes = (*self._outcomes, Outcome(index, resting_failure(answer, candidate.target), 0))
            return None
        if isinstance(answer, Limited | Refused) and is_passable(plan, candidate, answer.scope):
            self._outcomes = (*self._outcomes, Outcome(index, limit_failure(answer), 0))
            return None
        await self._settle(previous)
        if isinstance(answer, Refused) or answer is None:
            error: RequestError = refusal(candidate.worst_case_nano_usd, left_nano_usd, answer)
        elif isinstance(answer, Limited):
            error = over_rate(answer)
        else:
            raise error_of(plan, self._outcomes)
        error.metadata = {**error.metadata, "attempts": attempts_of(plan, self._outcomes)}
        raise error

    async def _advance(self, previous: Attempt, plan: Plan, index: int, line: Line) -> LedgerOutcome:
        ended = previous.end
        assert ended is not None, "an attempt is concluded before the next begins"
        attempt = self._make_attempt(plan, index, previous.number + 1, line)
        # Until the ledger has answered either attempt may be the pending one: leaving now settles both.
        self._attempt, self._previous = attempt, previous
        begins = attempt.start()._replace(tokens=self._estimate_tokens(plan))
        step = Advance(self.request_id, ended=ended, begins=begins, at_s=self._clock.now_s())
        answer = await self._service.ledger.advance(step)
        is_begun = isinstance(answer, Admitted)
        self._attempt, self._previous = attempt if is_begun else previous, None
        return answer

    async def _with_key(self, candidate: Candidate, ask: Callable[[Line], Awaitable[LedgerOutcome]]) -> Asking:
        """Ask the ledger for a call; where its provider has a pool, with the key that is chosen for it."""
        target = candidate.target
        line = self._service.line(target.provider)
        if not target.provider.pool:
            return await ask(line)
        if self._keyring is None:
            self._keyring = Keyring(self._service.pools, self._clock)
        return await self._keyring.ask(target, line, ask)

    def _ceiling_left_nano_usd(self, plan: Plan) -> int | None:
        """Tell what earlier attempts have left of the request's own ceiling, None without one."""
        if plan.max_cost_nano_usd is None:
            return None
        return max(0, plan.max_cost_nano_usd - (self._spent_nano_usd or 0))

    async def _call(self, attempt: Attempt) -> None:
        before_s = self._clock.monotonic_s()
        try:
            await attempt.open(self._clock, total_left_s=self._total_left_s())
        finally:
            self._upstream_s += self._clock.monotonic_s() - before_s
        self._service.health.record_success(
            attempt.candidate.target.account_name, first_token_ms=attempt.first_token_ms
        )

    async def _note_failure(self, attempt: Attempt, error: UpstreamError) -> None:
        """Close the failed attempt and work out what it cost; the ledger hears of it with the next step."""
        await attempt.relay.close()
        failure = self._failure(error, attempt)
        elapsed_ms = attempt.elapsed_ms(self._clock)
        booking = await attempt.conclude(self._clock, error=failure)
        self._add_spent(booking.cost_nano_usd)
        outcome = Outcome(attempt.index, failure, elapsed_ms)
        if self._keyring is not None:
            outcome = self._keyring.note_failure(attempt, outcome)
        self._outcomes = (*self._outcomes, outcome)

    def _failure(self, error: UpstreamError, attempt: Attempt) -> Failure:
        target = attempt.candidate.target
        failure = failure_of(error, target.provider)
        self._service.health.record_failure(target.account_name, failure.kind, at_s=self._clock.now_s())
        return failure

    # --- the books ------------------------------------------------------------------------------------------------

    async def _ask_in_turn(self, plan: Plan) -> Asking:
        """Put a sized plan to the ledger, waiting where a limit lets a request wait."""
        ask = partial(self._with_key, plan.candidates[0], partial(self._ask_ledger, plan))
        scopes = partial(self._asked.list_scopes, plan.candidates[0].alias or plan.route.name)
        answer = await self._service.queue.ask(scopes, ask)
        if isinstance(answer, Limited) and answer.measure is not None:
            self._quotas = (Quota(answer.measure, answer.limit, 0, answer.retry_after_s),)
        return answer

    async def _ask_ledger(self, plan: Plan, line: Line) -> LedgerOutcome:
        """Put a sized plan to the ledger, as the admission of this request."""
        asked = self._asked
        attempt = self._make_attempt(plan, 0, 1, line)
        admission = Admission(
            request_id=asked.request_id,
            key_name=asked.principal.name,
            key_revision=asked.principal.revision,
            tenant=asked.principal.tenant,
            route=plan.alias,
            app=asked.app,
            is_stream=asked.body.get("stream") is True,
            at_s=self._clock.now_s(),
            attempts=(attempt.start()._replace(tokens=self._estimate_tokens(plan)),),
            user=asked.user,
            tags=asked.tags,
            alias=plan.route.name,
            is_redirected=self._spent_scope is not None,
            parent=asked.principal.parent,
        )
        answer = await self._service.ledger.admit(admission)
        if isinstance(answer, Admitted):
            self.request_id = answer.request_id
            self._attempt, self._is_settled = attempt, False
            self._service.under_way.add(self)
        return answer

    async def _settle(self, attempt: Attempt, error: Failure | None = None) -> Cost:
        """Book the last attempt and end the request's holds; gives what this attempt cost."""
        if attempt.end is None:
            booking = await attempt.conclude(self._clock, error=error)
            self._add_spent(booking.cost_nano_usd)
        end = attempt.end
        assert end is not None, "conclude sets it"
        self.error = end.error
        await self._write(end)
        return Cost(end.cost_nano_usd, end.cost_source or CostSource.REPORTED)

    async def _write(self, *ends: AttemptEnd) -> None:
        """Settle. If the ledger cannot be written the client still gets its end: the ledger keeps the settlement."""
        try:
            await self._service.ledger.settle(Settlement(self.request_id, ended=ends, at_s=self._clock.now_s()))
        except LedgerUnavailable as error:
            self.error = error.code
        self._is_settled = True
        self._service.under_way.discard(self)

    def _drain(self, attempt: Attempt) -> None:
        """Leave the rest of the reply to be read for nobody; the hold stays until it has ended."""
        self._is_draining, self.error = True, CLIENT_LEFT

        async def settle(failure: Failure | None) -> None:
            await self._abandon(CLIENT_LEFT, failure)
            self._is_draining = False
            self._service.on_drained(self.record(CLIENT_LEFT_STATUS))

        self._service.drains.start(partial(attempt.read_on, total_left_s=DRAIN_S_MAX), settle)

    async def _abandon(self, why: str, failure: Failure | None = None) -> None:
        """Close and settle after the exchange was left early; runs shielded. `failure` is the upstream's own."""
        attempt = self._opened()
        try:
            await attempt.close()
            if attempt.end is None:
                booking = await attempt.conclude(self._clock, error=failure or why)
                self._add_spent(booking.cost_nano_usd)
                attempt.rename_error(why)
        finally:
            # Whatever goes wrong above, the hold ends: what is not named here the ledger posts in full.
            self.error = why
            ends = [part.end for part in (self._previous, attempt) if part is not None and part.end is not None]
            await self._write(*ends)

    def _add_spent(self, cost_nano_usd: int | None) -> None:
        if cost_nano_usd is None:
            self._spent_nano_usd = None
        elif self._spent_nano_usd is not None:
            self._spent_nano_usd += cost_nano_usd

    # --- what the client is told ----------------------------------------------------------------------------------

    def record(self, status: int, error: str | None = None) -> FinishedRequest:
        """Give the one log line of this request."""
        alias = self._plan.alias if self._plan is not None else None
        ending = Ending(
            self.request_id,
            alias,
            self.attempts,
            spent_nano_usd=None if self._is_draining else self._spent_nano_usd,
            latency_ms=self._elapsed_ms(),
            error=error or self.error,
            overhead_us=self._overhead_us,
            is_draining=self._is_draining,
        )
        return write_record(self._asked, self._attempt, ending, status=status)

    def failure_headers(self) -> dict[str, str]:
        """Give the headers of an error reply: what was tried in vain, and what that cost; none before a first try."""
        quotas = quota_headers(self._quotas)
        if self._plan is None or self._attempt is None:
            return quotas
        return quotas | tried_headers(self._plan.alias, self.attempts, self._spent_nano_usd)

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        assert self._plan is not None, "an attempt has a plan"
        overhead_s = self._clock.monotonic_s() - self._asked.received_s - self._upstream_s
        self._overhead_us = max(0, round(overhead_s * 1_000_000))
        headers = reply_headers(self.request_id, self._plan.alias, attempt, overhead_s=overhead_s)
        if self._quotas:
            headers |= quota_headers(self._quotas)
        if self._spent_scope is not None:
            headers["x-turnpike-spent"] = header_text(self._spent_scope)
        return headers

    def _view(self, attempt: Attempt) -> View:
        return find_view(self._asked, attempt, self.routing(attempt.index))

    def routing(self, served: int | None = None) -> JsonObject | None:
        """Describe the routing when the client asked for it (`X-OpenRouter-Metadata`) and there is a plan."""
        if self._plan is None or not wants_metadata(self._asked.forwarded):
            return None
        return describe_routing(self._plan, self._outcomes, served)

    # --- small things ---------------------------------------------------------------------------------------------

    def _make_attempt(self, plan: Plan, index: int, number: int, line: Line) -> Attempt:
        """Prepare a call; the first one holds enough for any that may follow, each later one for itself."""
        candidate = plan.candidates[index]
        hold_nano_usd = hold_of(plan) if number == 1 else candidate.worst_case_nano_usd
        errand = write_errand(candidate, self._asked, line.codec, created_s=int(self._clock.now_s()))
        return Attempt(number, index, candidate, line=line, errand=errand, hold_nano_usd=hold_nano_usd)

    def _estimate_tokens(self, plan: Plan) -> int:
        """Estimate what rates of tokens are charged with until the true count is known."""
        return self._asked.body_bytes // BYTES_PER_TOKEN + (plan.asked_output_tokens or 0)

    def _codec_of(self, provider: Provider) -> Codec:
        return self._service.line(provider).codec

    def _opened(self) -> Attempt:
        assert self._attempt is not None, "an admitted exchange has an attempt"
        return self._attempt

    def _elapsed_ms(self) -> int:
        return round((self._clock.monotonic_s() - self._asked.received_s) * 1000)

    def _total_left_s(self) -> float:
        assert self._plan is not None, "asked only once there is a plan"
        return max(0.0, self._asked.received_s + self._plan.total_s - self._clock.monotonic_s())
