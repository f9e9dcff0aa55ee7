"""Which number is booked for an attempt (floor 1b, pure): reported, else computed, else estimated, else held.

`book` decides from `Evidence`, which the gateway gathers while an attempt runs. What was delivered on a stream is kept
by a `Transcript`, and turned into a local count only when the provider's own never comes: that is what
`Evidence.is_local_count_needed` tells. No tokens are counted here, because that takes long enough to need a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson

from proxy.codecs.wire import Frame
from proxy.pricing import Prices, contradictions, cost, unpriced
from proxy.sse import data_of
from proxy.tokens import iterate_output_text
from proxy.usage import CostSource, Usage

COST_NANO_USD_MAX = 10**15
"""A computed cost above a million dollars comes from counts that are nonsense: they are not believed."""
DIVERGENCE_MAX = 3
"""A reported cost further than this factor from ours is booked, and marked for somebody to look at."""
RAW_BYTES_MAX = 256 * 1024
"""How much of a stream a transcript keeps as it came before it reads the text out of it."""
TEXT_BYTES_MAX = 8 * 1024 * 1024
"""How much text a transcript keeps; what is beyond is only measured."""


class Evidence(NamedTuple):
    """All that is known about the cost of one attempt that may have cost something."""

    hold_nano_usd: int
    most_nano_usd: int | None = None
    """What this attempt can cost at most, when its hold covers dearer targets behind it too; None: the hold."""
    prices: Prices | None = None
    """None when the target's price is unknown."""
    usage: Usage | None = None
    """As the provider reported it, the last one if it came more than once."""
    local: Usage | None = None
    """Counted here, from the request and what was delivered."""
    is_output_delivered: bool = False
    """Text, reasoning or tool calls have come from the provider."""
    is_failed: bool = False
    """The provider ended it with an error or without a finish reason; a client that left is no failure."""
    is_billed_when_failed: bool = True
    """`ProviderFlags.billed_when_cut`: OpenRouter insures against failures, makers do not."""
    images: int = 0
    """Pictures in the prompt, where they have a price besides their tokens."""
    is_replayed: bool = False
    """The provider says that the answer is out of its own response cache, which it does not charge for."""

    @property
    def is_local_count_needed(self) -> bool:
        """Tell whether a local count would be used, so that nobody counts for nothing."""
        return not _is_free(self) and _reported_cost(self) is None and _is_count_missing(self)


class Booking(NamedTuple):
    """What goes into the books for one attempt."""

    cost_nano_usd: int | None
    """None only with `CostSource.UNKNOWN`."""
    source: CostSource | None
    """None when the provider charges nothing by its own terms: the hold is voided, the cost is 0."""
    usage: Usage
    """The tokens that belong to the cost; all zero when nobody knows them."""
    anomalies: tuple[str, ...] = ()
    """What contradicts itself, for the log and a counter."""
    is_overrun: bool = False
    """It cost more than was held."""


def book(evidence: Evidence) -> Booking:
    """Choose the best number: the provider's amount, its tokens, our count, the whole hold; never a guessed 0."""
    booking = _choose(evidence)
    is_overrun = booking.cost_nano_usd is not None and booking.cost_nano_usd > evidence.hold_nano_usd
    noted = evidence.usage.anomalies if evidence.usage is not None else ()
    found = contradictions(booking.usage)
    if not (noted or found or booking.anomalies or is_overrun):
        return booking
    anomalies = tuple(dict.fromkeys((*noted, *found, *booking.anomalies)))
    return booking._replace(anomalies=anomalies, is_overrun=is_overrun)


def _choose(evidence: Evidence) -> Booking:
    reported = _reported_cost(evidence)
    if reported is not None and evidence.usage is not None:
        return Booking(reported, CostSource.REPORTED, evidence.usage, _doubts(reported, evidence.usage, evidence))
    if _is_free(evidence):
        return Booking(0, None, evidence.usage or Usage())
    if evidence.usage is not None and not _is_count_missing(evidence):
        return _price(evidence.usage, CostSource.COMPUTED, evidence)
    missing = ("usage_missing",)
    counted, local = evidence.usage, evidence.local
    if counted is not None and counted.input_tokens and local is not None and not local.output_tokens:
        return _price(counted, CostSource.COMPUTED, evidence)  # nothing came, just as the provider says
    if evidence.local is not None:
        booking = _price(_merge(evidence.usage, evidence.local), CostSource.ESTIMATED, evidence)
        return booking._replace(anomalies=(*missing, *booking.anomalies))
    return _give_up(evidence.usage or Usage(), evidence, missing)


def _price(usage: Usage, source: CostSource, evidence: Evidence) -> Booking:
    """Multiply tokens by the price, if there is one and the product can be true."""
    if evidence.prices is None:
        return _give_up(usage, evidence, ())
    if evidence.images:
        usage = usage._replace(images=evidence.images)
    amount = cost(usage, evidence.prices)
    if amount > COST_NANO_USD_MAX:
        return _give_up(Usage(), evidence, ("usage_implausible",))
    return Booking(amount, source, usage, () if usage.has_no_parts else unpriced(usage, evidence.prices))


def _give_up(usage: Usage, evidence: Evidence, anomalies: tuple[str, ...]) -> Booking:
    """Book the most, which was sized to cover any outcome; without a price there was none, and the cost is unknown."""
    if evidence.prices is None:
        return Booking(None, CostSource.UNKNOWN, usage, anomalies)
    most = evidence.hold_nano_usd if evidence.most_nano_usd is None else evidence.most_nano_usd
    return Booking(most, CostSource.HELD, usage, anomalies)


def _is_free(evidence: Evidence) -> bool:
    """Tell whether the provider's terms say that this attempt costs nothing unless it reports an amount."""
    return evidence.is_replayed or (evidence.is_failed and not evidence.is_billed_when_failed)


def _reported_cost(evidence: Evidence) -> int | None:
    """Give the provider's amount; one of 0 beside no tokens is an empty form when something was delivered."""
    usage = evidence.usage
    if usage is None or usage.cost_nano_usd is None:
        return None
    if usage.is_empty and evidence.is_output_delivered and not _is_free(evidence):
        return None
    return usage.cost_nano_usd


def _is_count_missing(evidence: Evidence) -> bool:
    """Tell whether the provider's counts leave out what it has delivered, or what it was asked: nobody asks nothing."""
    usage = evidence.usage
    if usage is None or (usage.output_tokens == 0 and evidence.is_output_delivered):
        return True
    return usage.input_tokens == 0 and usage.output_tokens > 0


def _merge(reported: Usage | None, local: Usage) -> Usage:
    """Keep what the provider counted (a stream may begin with only its input) and add our count of the rest."""
    if reported is None or not (reported.input_tokens or reported.output_tokens):
        return local
    if not reported.input_tokens:
        # Nor are its parts believed, where the whole was not told.
        return reported._replace(
            input_tokens=local.input_tokens,
            cached_tokens=0,
            cache_write_tokens=0,
            cache_write_1h_tokens=0,
            audio_input_tokens=0,
            cached_audio_tokens=0,
            image_input_tokens=0,
        )
    return reported._replace(
        output_tokens=local.output_tokens,
        reasoning_tokens=local.reasoning_tokens,
        audio_output_tokens=local.audio_output_tokens,
        image_output_tokens=local.image_output_tokens,
    )


def _doubts(reported: int, usage: Usage, evidence: Evidence) -> tuple[str, ...]:
    """Name what is odd about a reported amount; it is booked all the same, since it is what will be charged."""
    if evidence.prices is None or not (usage.input_tokens or usage.output_tokens):
        return ()
    ours = cost(usage, evidence.prices)
    if reported == 0 and ours:
        return () if _is_free(evidence) or usage.is_byok else ("reported_zero_cost",)
    is_far = reported > ours * DIVERGENCE_MAX or ours > reported * DIVERGENCE_MAX
    return ("reported_cost_diverges",) if is_far else ()


class Transcript:
    """What a stream has delivered, kept only so that it can be counted if no usage comes.

    `append` is called for every event of every stream, so it stores and nothing else; the text is read out of the
    stored events when it is asked for, or `RAW_BYTES_MAX` at a time.
    """

    __slots__ = ("_events", "_folded", "_raw_bytes", "_text", "overflow_bytes")

    def __init__(self) -> None:
        """Begin empty."""
        self._events: list[bytes] = []
        self._folded = 0
        """Events whose text has been read out of them."""
        self._raw_bytes = 0
        self._text = bytearray()
        self.overflow_bytes = 0
        """UTF-8 bytes of text beyond `TEXT_BYTES_MAX`, which `text` leaves out."""

    def append(self, event: bytes) -> None:
        """Keep one whole server-sent event in OpenAI's shape, as it came."""
        self._events.append(event)
        self._raw_bytes += len(event)
        if self._raw_bytes > RAW_BYTES_MAX:
            self._fold()

    def extend(self, frames: Sequence[Frame]) -> None:
        """Keep the events of some frames."""
        for frame in frames:
            self._events.append(frame.raw)
            self._raw_bytes += len(frame.raw)
        if self._raw_bytes > RAW_BYTES_MAX:
            self._fold()

    def __len__(self) -> int:
        """Count the bytes kept, of events and text together."""
        return self._raw_bytes + len(self._text)

    @property
    def event_count(self) -> int:
        """Count the events that have come in all."""
        return self._folded + len(self._events)

    def newest(self, events_max: int) -> Sequence[bytes]:
        """Give the newest events, as far as they are still kept as they came."""
        return self._events[max(0, len(self._events) - events_max) :]

    def text(self) -> str:
        """Give all text delivered so far: content, reasoning, refusals and tool calls, in the order they came."""
        self._fold()
        return self._text.decode(errors="ignore")

    def _fold(self) -> None:
        """Replace the events kept by their text."""
        events, self._events, self._raw_bytes = self._events, [], 0
        self._folded += len(events)
        for piece in _iterate_text(events):
            data = piece.encode()
            room = TEXT_BYTES_MAX - len(self._text)
            self._text += data[:room]
            self.overflow_bytes += max(0, len(data) - room)


def text_of_events(events: Sequence[bytes]) -> str:
    """Give the text of whole server-sent events in OpenAI's shape; what cannot be read holds none."""
    return "".join(_iterate_text(events))


def _iterate_text(events: Sequence[bytes]) -> Iterator[str]:
    """Yield the text of events; what cannot be read holds none."""
    for event in events:
        data = data_of(event)
        if data is None:
            continue
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue
        yield from iterate_output_text(chunk)
