"""One attempt (part of the gateway, floor 4): a relay to one candidate, and what goes into the books for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from proxy.clock import Clock
from proxy.codecs.intake import choices_of
from proxy.codecs.surface import Cost
from proxy.codecs.wire import Codec, JsonObject, Upstream
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.ledger.records import AttemptEnd, AttemptStart, AttemptState
from proxy.ledger.resolution import Progress
from proxy.metering import Booking, Evidence, book
from proxy.pools import KeyedUpstream
from proxy.pricing import cost
from proxy.relay import Errand, Relay
from proxy.routing.plan import Candidate
from proxy.routing.table import Dialect, Provider
from proxy.tokens import count, estimate_input, family_of, text_of_reply
from proxy.usage import CostSource, Usage

CLIENT_LEFT = "client_left"
DRAIN = "drain"
"""`Provider.on_disconnect`: leaving does not stop the bill, so the reply is read to its end."""
BYTES_PER_TOKEN = 4
"""Of a request's body: an estimate until somebody counts."""
_UNTOLD = frozenset({CostSource.ESTIMATED, CostSource.HELD, CostSource.UNKNOWN})
"""Sources of a cost that its provider has not told."""


@dataclass(frozen=True, slots=True)
class Line:
    """How one provider is reached and spoken to."""

    upstream: Upstream[Provider]
    codec: Codec
    keyed: KeyedUpstream | None = None
    """That upstream, where a key of a pool was chosen for one attempt."""


class Seen:
    """What of one stream has been counted while it ran."""

    __slots__ = ("events", "tokens")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events = 0
        self.tokens = 0


class Attempt:
    """One call of one candidate, from its hold to its end."""

    def __init__(
        self, number: int, index: int, candidate: Candidate, *, line: Line, errand: Errand, hold_nano_usd: int
    ) -> None:
        """Prepare; nothing is sent before `open`."""
        self.number = number
        self.index = index
        self.candidate = candidate
        self.hold_nano_usd = hold_nano_usd
        self.end: AttemptEnd | None = None
        """How it ended, once that is known; it is in the books only after advance or settle."""
        self.first_token_ms: int | None = None
        self.keyed = line.keyed
        """With which key of a pool it is called."""
        self._codec = line.codec
        self._started_s = 0.0
        self._counting: asyncio.Future[Usage] | None = None
        self._opening: asyncio.Future[None] | None = None
        """A call that goes on when its client leaves; None: the client's own task makes it."""
        self._is_open = False
        self.seen = Seen()
        """What of its stream has been counted, in case this process dies."""
        self.dropped = (*candidate.dropped, *errand.call.dropped)
        """Fields of the request this target was not sent."""
        self.relay = Relay(errand, upstream=line.upstream, codec=line.codec)

    def start(self) -> AttemptStart:
        """Give what the ledger must know before the first upstream byte."""
        target = self.candidate.target
        is_priced = self.candidate.prices is not None
        provider = target.provider
        return AttemptStart(
            self.number,
            provider.name,
            target.model,
            self.hold_nano_usd,
            is_priced=is_priced,
            payer=provider.payer,
            upstream_key=self.keyed.label if self.keyed is not None else None,
            patterns=provider.list_patterns(target.model) if provider.model_rates else (),
            alias=self.candidate.alias,
        )

    async def open(self, clock: Clock, *, total_left_s: float) -> None:
        """Call the upstream; raises `UpstreamError`, after which `elapsed_ms` tells how long it took."""
        self._started_s = clock.monotonic_s()
        if is_billed_unopened(self.candidate):
            self._opening = asyncio.ensure_future(self.relay.open(total_left_s=total_left_s))
            await asyncio.shield(self._opening)
        else:
            await self.relay.open(total_left_s=total_left_s)
        self._is_open = True
        self.first_token_ms = self.elapsed_ms(clock)

    @property
    def is_drainable(self) -> bool:
        """Tell whether reading on is worth it when the client leaves now, because leaving would not stop the bill."""
        if self.end is not None:
            return False
        return self._opening is not None or (self._is_open and is_billed_open(self.candidate, self.relay.seed))

    async def read_on(self, *, total_left_s: float) -> None:
        """Read the reply to its end for nobody; raises `UpstreamError` when it breaks."""
        if self._opening is not None:
            await asyncio.shield(self._opening)
        if self.candidate.body.get("stream") is not True:
            return
        if not self.relay.is_started:
            self.relay.start(total_left_s=total_left_s)
        while await self.relay.take() is not None:
            pass

    async def close(self) -> None:
        """Let go of the upstream, also of a call that is still being made for nobody."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
            # Looked at, so that nobody is told of an error that nobody waits for.
            _ = self._opening.cancelled() or self._opening.exception()
        await self.relay.close()

    def elapsed_ms(self, clock: Clock) -> int:
        """Give the time since the call began."""
        return max(0, round((clock.monotonic_s() - self._started_s) * 1000)) if self._started_s else 0

    @property
    def is_streaming(self) -> bool:
        """Tell whether something of a stream has come, and the end is not known."""
        return self.end is None and self.relay.is_delivering

    @property
    def can_look_up(self) -> bool:
        """Tell whether its provider can be asked afterwards what it cost."""
        is_openrouter = self.candidate.target.provider.dialect is Dialect.OPENROUTER
        return is_openrouter and self.relay.generation_id is not None

    def report(self, request_id: str, *, body_bytes: int) -> Progress | None:
        """Tell how far it has come by what was counted so far; None when nothing is known of it."""
        usage = self._count_so_far(body_bytes)
        cost_nano_usd = self.end.cost_nano_usd if self.end is not None else self._price_so_far(usage)
        if cost_nano_usd is None and not self.can_look_up:
            return None
        return Progress(
            request_id,
            self.number,
            self.relay.generation_id,
            self.can_look_up,
            cost_nano_usd,
            usage.input_tokens,
            usage.output_tokens,
        )

    def _count_so_far(self, body_bytes: int) -> Usage:
        told = self.end.usage if self.end is not None else self.relay.usage or Usage()
        most = self.candidate.input_tokens_max or body_bytes
        return told._replace(
            input_tokens=told.input_tokens or min(most, -(-body_bytes // BYTES_PER_TOKEN)),
            output_tokens=max(told.output_tokens, self.seen.tokens),
        )

    def _price_so_far(self, usage: Usage) -> int | None:
        """Price what was delivered; None before that, and for a JSON answer: it is billed to an end nobody sees."""
        if usage.cost_nano_usd is not None:
            return usage.cost_nano_usd
        prices, is_stream = self.candidate.prices, self.candidate.body.get("stream") is True
        if prices is None or not is_stream or not self.relay.is_delivering:
            return None
        return cost(usage, prices)

    def cost_of(self, chunk: JsonObject) -> Cost | None:
        """Price the usage of one chunk as it would be booked if it were the last; None when nobody can tell yet."""
        usage = self._codec.read_usage(chunk) if chunk.get("usage") else None
        if usage is None or usage.is_empty:
            return None
        evidence = self._evidence(usage, local=None)
        return None if evidence.is_local_count_needed else shown_cost(book(evidence))

    async def conclude(self, clock: Clock, *, error: Failure | str | None = None) -> Booking:
        """Work out what to book, counting tokens in a thread when nobody else did; `error` may be `CLIENT_LEFT`."""
        evidence = self._evidence(self.relay.usage, local=None, error=error)
        if _costs_nothing(self.relay, error):
            booking = Booking(0, None, Usage())
        elif evidence.is_local_count_needed and self._can_count(error):
            # One count for one attempt: a caller cancelled meanwhile leaves it running, and the next one waits for it.
            self._counting = self._counting or asyncio.ensure_future(asyncio.to_thread(self._count))
            booking = book(evidence._replace(local=await asyncio.shield(self._counting)))
        else:
            booking = book(evidence)
        self.end = self._end(booking, clock, error)
        return booking

    def rename_error(self, error: str) -> None:
        """Let the books call its end by another name: how it was left, not what became of it for nobody."""
        if self.end is not None:
            self.end = self.end._replace(error=error)

    def _evidence(self, usage: Usage | None, *, local: Usage | None, error: Failure | str | None = None) -> Evidence:
        provider = self.candidate.target.provider
        return Evidence(
            hold_nano_usd=self.hold_nano_usd,
            most_nano_usd=self.candidate.worst_case_nano_usd,
            prices=self.candidate.prices,
            usage=usage,
            local=local,
            is_output_delivered=self.relay.is_delivering,
            is_failed=_has_failed(error, can_look_up=self.can_look_up) or _is_empty_handed(self.relay.json, usage),
            is_billed_when_failed=provider.flags.billed_when_cut,
            images=self.candidate.images,
            is_replayed=self.relay.is_replayed and provider.dialect is Dialect.OPENROUTER,
        )

    def _can_count(self, error: Failure | str | None) -> bool:
        """Tell whether what was delivered can be counted: not the JSON answer of a call the client did not wait for."""
        return self.candidate.body.get("stream") is True or self.relay.json is not None or error != CLIENT_LEFT

    def _count(self) -> Usage:
        """Count the request and what was delivered; slow, runs in a thread."""
        model = self.candidate.target.model
        text = self.relay.transcript.text() or text_of_reply(self.relay.json or {})
        output_tokens = count(text, family_of(model)) + self.relay.transcript.overflow_bytes
        return Usage(input_tokens=estimate_input(dict(self.candidate.body), model), output_tokens=output_tokens)

    def _end(self, booking: Booking, clock: Clock, error: Failure | str | None) -> AttemptEnd:
        return AttemptEnd(
            number=self.number,
            state=AttemptState.VOIDED if booking.source is None else AttemptState.POSTED,
            cost_nano_usd=booking.cost_nano_usd,
            cost_source=booking.source,
            usage=booking.usage._replace(anomalies=booking.anomalies) if booking.anomalies else booking.usage,
            status=self.relay.status,
            error=error.kind.value if isinstance(error, Failure) else error,
            latency_ms=self.elapsed_ms(clock),
            first_token_ms=self.first_token_ms,
            generation_id=self.relay.generation_id,
            is_overrun=booking.is_overrun,
            is_lookup_due=self.can_look_up and booking.source in _UNTOLD,
        )


def shown_cost(booking: Booking) -> Cost:
    """Give a booking as the client sees it; what the provider does not charge for is reported as 0."""
    return Cost(booking.cost_nano_usd, booking.source or CostSource.REPORTED)


def is_billed_unopened(candidate: Candidate) -> bool:
    """Tell whether a call is billed in full once it was sent, whatever its client does then (openrouter.md 4.7)."""
    provider = candidate.target.provider
    is_stream = candidate.body.get("stream") is True
    return provider.on_disconnect == DRAIN or bool(provider.flags.stops_when_left and not is_stream)


def is_billed_open(candidate: Candidate, seed: JsonObject) -> bool:
    """Tell whether a stream is billed to its end by who is behind it, as its first chunk names them."""
    stops, behind = candidate.target.provider.flags.stops_when_left, seed.get("provider")
    return bool(stops) and isinstance(behind, str) and behind.casefold() not in stops


def _has_failed(error: Failure | str | None, *, can_look_up: bool) -> bool:
    """Tell whether the provider failed by its own word; of a cut, who can be asked tells whether it was insured."""
    if not isinstance(error, Failure) or error.kind is FailureKind.TIMEOUT:
        return False
    return not (can_look_up and error.kind is FailureKind.BROKEN_STREAM)


def _is_empty_handed(reply: JsonObject | None, usage: Usage | None) -> bool:
    """Tell whether a whole reply has neither a word nor a finish reason: who insures against failures calls it one."""
    if reply is None or usage is None or usage.output_tokens or text_of_reply(reply):
        return False
    return not any(choice.get("finish_reason") for choice in choices_of(reply))


def _costs_nothing(relay: Relay, error: Failure | str | None) -> bool:
    """Tell whether it is certain that no money was spent: nothing sent, or refused by the upstream without usage."""
    if not relay.was_sent:
        return True
    return isinstance(error, Failure) and not error.may_have_cost and not relay.is_delivering and relay.usage is None


def failure_of(error: UpstreamError, provider: Provider) -> Failure:
    """Give the failure with the provider's own credentials and host taken out by value, should it have said them."""
    url = urlsplit(provider.base_url)
    hidden = {url.netloc: "(host removed)", url.hostname or "": "(host removed)"}
    hidden |= dict.fromkeys(provider.secrets, "(key removed)")
    failure = error.failure
    return replace(
        failure,
        message=_hide(failure.message, hidden),
        code=_hide(failure.code, hidden),
        param=_hide(failure.param, hidden),
        metadata=_hide(failure.metadata, hidden),
    )


def _hide(value: Any, hidden: Mapping[str, str]) -> Any:
    """Replace what is to be hidden in a text, or in all texts of a list or an object; the longest first."""
    if isinstance(value, dict):
        return {name: _hide(member, hidden) for name, member in value.items()}
    if isinstance(value, list):
        return [_hide(member, hidden) for member in value]
    if isinstance(value, str):
        for secret in sorted(filter(None, hidden), key=len, reverse=True):
            value = value.replace(secret, hidden[secret])
    return value
