"""Metering: which number is booked, and what a transcript remembers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import metering
from proxy.codecs.wire import Frame
from proxy.metering import COST_NANO_USD_MAX, Booking, Evidence, Transcript, book, text_of_events
from proxy.pricing import Prices
from proxy.sse import DONE_EVENT, event
from proxy.usage import CostSource, Usage

PRICES = Prices(Decimal(1), Decimal(2))  # 1,000 nano-USD a token in, 2,000 a token out
REPORT = Usage(100, 50, cost_nano_usd=180_000)  # ours would be 200,000
COUNTED = Usage(100, 50)
LOCAL = Usage(90, 40)  # 90*1000 + 40*2000 = 170,000
DELIVERED = Evidence(1_000_000, prices=PRICES, is_output_delivered=True)
INSURED = DELIVERED._replace(is_failed=True, is_billed_when_failed=False)


def test_pictures_charged_by_the_piece_are_in_the_bill_and_in_the_row() -> None:
    """No provider reports how many it was sent: they are counted here."""
    prices = Prices(Decimal(1), Decimal(2), image=Decimal("0.002"))
    booked = book(DELIVERED._replace(prices=prices, usage=COUNTED, images=3, hold_nano_usd=10_000_000))
    assert booked == Booking(200_000 + 3 * 2_000_000, CostSource.COMPUTED, COUNTED._replace(images=3))
    counted = book(DELIVERED._replace(prices=prices, local=LOCAL, images=1, hold_nano_usd=10_000_000))
    assert (counted.cost_nano_usd, counted.usage.images) == (170_000 + 2_000_000, 1)


@pytest.mark.parametrize("odd", [{"web_searches": 2}, {"service_tier": "priority"}])
def test_what_has_no_price_is_marked_beside_the_bill(odd: dict[str, Any]) -> None:
    """Somebody should look at it; the rest is booked."""
    booked = book(DELIVERED._replace(usage=COUNTED._replace(**odd)))
    assert (booked.cost_nano_usd, len(booked.anomalies)) == (200_000, 1)
    assert booked.anomalies[0].endswith("_unpriced")


@pytest.mark.parametrize(
    ("evidence", "booking"),
    [
        pytest.param(
            DELIVERED._replace(usage=REPORT, local=LOCAL),
            Booking(180_000, CostSource.REPORTED, REPORT),
            id="the provider's amount comes first",
        ),
        pytest.param(
            DELIVERED._replace(usage=COUNTED, local=LOCAL),
            Booking(200_000, CostSource.COMPUTED, COUNTED),
            id="else the provider's tokens",
        ),
        pytest.param(
            DELIVERED._replace(local=LOCAL),
            Booking(170_000, CostSource.ESTIMATED, LOCAL, ("usage_missing",)),
            id="else our count",
        ),
        pytest.param(
            DELIVERED,
            Booking(1_000_000, CostSource.HELD, Usage(), ("usage_missing",)),
            id="else the whole hold",
        ),
        pytest.param(
            DELIVERED._replace(most_nano_usd=300_000),
            Booking(300_000, CostSource.HELD, Usage(), ("usage_missing",)),
            id="or the most it can have cost, when the hold covers more than that",
        ),
        pytest.param(
            DELIVERED._replace(prices=None, usage=REPORT),
            Booking(180_000, CostSource.REPORTED, REPORT),
            id="a reported amount needs no price",
        ),
        pytest.param(
            DELIVERED._replace(prices=None, usage=COUNTED),
            Booking(None, CostSource.UNKNOWN, COUNTED),
            id="tokens without a price are unknown, never 0",
        ),
        pytest.param(
            DELIVERED._replace(prices=None, local=LOCAL),
            Booking(None, CostSource.UNKNOWN, LOCAL, ("usage_missing",)),
            id="our tokens without a price are unknown too",
        ),
        pytest.param(
            DELIVERED._replace(prices=None),
            Booking(None, CostSource.UNKNOWN, Usage(), ("usage_missing",)),
            id="no price, no count: unknown",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(cost_nano_usd=0), local=LOCAL),
            Booking(170_000, CostSource.ESTIMATED, LOCAL, ("usage_missing",)),
            id="an empty usage beside an answer is missing, its 0 is no amount",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(120, 0), local=LOCAL),
            Booking(200_000, CostSource.ESTIMATED, Usage(120, 40), ("usage_missing",)),
            id="a usage without output keeps its input: 120*1000 + 40*2000",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(120, 0)),
            Booking(1_000_000, CostSource.HELD, Usage(120, 0), ("usage_missing",)),
            id="a usage without output and no count is the hold",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(120, 0), local=Usage(90, 0)),
            Booking(120_000, CostSource.COMPUTED, Usage(120, 0)),
            id="a usage without output is whole where we count none either",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(0, 50), local=LOCAL),
            Booking(190_000, CostSource.ESTIMATED, Usage(90, 50), ("usage_missing",)),
            id="nobody asks nothing: our prompt beside the output the provider counted, 90*1000 + 50*2000",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(0, 50, reasoning_tokens=20, audio_output_tokens=5), local=Usage(90, 0)),
            Booking(
                190_000,
                CostSource.ESTIMATED,
                Usage(90, 50, reasoning_tokens=20, audio_output_tokens=5),
                ("usage_missing",),
            ),
            id="with its parts, though we see none of it",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(0, 50), local=LOCAL, is_output_delivered=False),
            Booking(190_000, CostSource.ESTIMATED, Usage(90, 50), ("usage_missing",)),
            id="whether it came or not",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(0, 50)),
            Booking(1_000_000, CostSource.HELD, Usage(0, 50), ("usage_missing",)),
            id="an uncounted prompt that we do not count either is the hold",
        ),
        pytest.param(
            DELIVERED._replace(prices=None, usage=Usage(0, 50), local=LOCAL),
            Booking(None, CostSource.UNKNOWN, Usage(90, 50), ("usage_missing",)),
            id="and unknown without a price",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(0, 50, cost_nano_usd=100_000), local=LOCAL),
            Booking(100_000, CostSource.REPORTED, Usage(0, 50, cost_nano_usd=100_000)),
            id="a reported amount needs no prompt",
        ),
        pytest.param(
            INSURED._replace(usage=Usage(0, 50), local=LOCAL),
            Booking(0, None, Usage(0, 50)),
            id="nor does what is insured",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(), local=Usage(90, 0)),
            Booking(90_000, CostSource.ESTIMATED, Usage(90, 0), ("usage_missing",)),
            id="a usage of zeros is none, whatever we count of the output",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(120, 0), is_output_delivered=False),
            Booking(120_000, CostSource.COMPUTED, Usage(120, 0)),
            id="a reply without choices that reports usage is booked",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(), is_output_delivered=False),
            Booking(0, CostSource.COMPUTED, Usage()),
            id="nothing delivered and zeros reported is 0",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=0)),
            Booking(0, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=0), ("reported_zero_cost",)),
            id="a reported 0 beside tokens stays 0 and is noted",
        ),
        pytest.param(
            DELIVERED._replace(prices=Prices(Decimal(0), Decimal(0)), usage=Usage(100, 50, cost_nano_usd=0)),
            Booking(0, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=0)),
            id="a free model's 0 is nothing odd",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=0, is_byok=True)),
            Booking(0, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=0, is_byok=True)),
            id="nor is the 0 of the operator's own key",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=205_000, is_byok=True)),
            Booking(205_000, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=205_000, is_byok=True)),
            id="own key: fee 5000 + upstream 200000, added by the codec",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=600_000)),
            Booking(600_000, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=600_000)),
            id="three times ours is near enough",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=600_001)),
            Booking(600_001, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=600_001), ("reported_cost_diverges",)),
            id="above three times ours is noted",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=66_666)),
            Booking(66_666, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=66_666), ("reported_cost_diverges",)),
            id="below a third of ours is noted: 3*66666 < 200000",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(100, 50, cost_nano_usd=66_667)),
            Booking(66_667, CostSource.REPORTED, Usage(100, 50, cost_nano_usd=66_667)),
            id="a third of ours is near enough: 3*66667 > 200000",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(cost_nano_usd=7)),
            Booking(7, CostSource.REPORTED, Usage(cost_nano_usd=7)),
            id="an amount without tokens cannot be compared",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(1_000, 1), hold_nano_usd=1_001_999),
            Booking(1_002_000, CostSource.COMPUTED, Usage(1_000, 1), is_overrun=True),
            id="more than the hold is booked truthfully as an overrun",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(1_000, 1), hold_nano_usd=1_002_000),
            Booking(1_002_000, CostSource.COMPUTED, Usage(1_000, 1)),
            id="exactly the hold is none",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(10**12, 1)),
            Booking(1_000_000, CostSource.HELD, Usage(), ("usage_implausible",)),
            id="counts worth more than a million dollars are not believed",
        ),
        pytest.param(INSURED, Booking(0, None, Usage()), id="an insured failure without usage is void"),
        pytest.param(
            INSURED._replace(usage=COUNTED, local=LOCAL),
            Booking(0, None, COUNTED),
            id="tokens change nothing about that",
        ),
        pytest.param(
            INSURED._replace(usage=REPORT),
            Booking(180_000, CostSource.REPORTED, REPORT),
            id="an insured failure with an amount costs it",
        ),
        pytest.param(
            INSURED._replace(usage=Usage(100, 0, cost_nano_usd=0)),
            Booking(0, CostSource.REPORTED, Usage(100, 0, cost_nano_usd=0)),
            id="and its 0 is nothing odd",
        ),
        pytest.param(
            INSURED._replace(is_billed_when_failed=True, local=LOCAL),
            Booking(170_000, CostSource.ESTIMATED, LOCAL, ("usage_missing",)),
            id="a maker bills what it streamed before it failed",
        ),
        pytest.param(
            DELIVERED._replace(usage=Usage(cost_nano_usd=0), is_replayed=True),
            Booking(0, CostSource.REPORTED, Usage(cost_nano_usd=0)),
            id="an answer out of the provider's cache costs what it says",
        ),
        pytest.param(
            DELIVERED._replace(is_replayed=True), Booking(0, None, Usage()), id="or nothing when it says nothing"
        ),
    ],
)
def test_the_best_number_is_booked(evidence: Evidence, booking: Booking) -> None:
    """Each row is one case of design section 7, its reason as its name."""
    assert book(evidence) == booking


def test_anomalies_of_codec_pricing_and_metering_meet_once_each_in_the_booking() -> None:
    """A reader of the log sees all that was odd, in the order it was found, nothing twice."""
    usage = Usage(10, 0, cached_tokens=11, cost_nano_usd=0, anomalies=("total_differs", "cached_above_input"))
    assert book(DELIVERED._replace(usage=usage)).anomalies == (
        "total_differs",
        "cached_above_input",
        "reported_zero_cost",
    )


@pytest.mark.parametrize(
    ("evidence", "is_needed"),
    [
        (DELIVERED, True),
        (DELIVERED._replace(usage=Usage()), True),
        (DELIVERED._replace(usage=Usage(120, 0)), True),
        (DELIVERED._replace(usage=Usage(0, 50)), True),
        (DELIVERED._replace(usage=Usage(0, 50), is_output_delivered=False), True),
        (DELIVERED._replace(usage=Usage(0, 50, cost_nano_usd=1)), False),
        (DELIVERED._replace(usage=Usage(0, 50), is_replayed=True), False),
        (DELIVERED._replace(usage=COUNTED), False),
        (DELIVERED._replace(usage=REPORT), False),
        (DELIVERED._replace(usage=Usage(), is_output_delivered=False), False),
        (INSURED, False),
    ],
)
def test_a_local_count_is_asked_for_only_when_it_would_be_used(evidence: Evidence, is_needed: bool) -> None:
    """Counting takes a thread and milliseconds: nobody counts for nothing."""
    assert evidence.is_local_count_needed is is_needed
    assert (book(evidence._replace(local=LOCAL)) != book(evidence)) is is_needed


counts = st.integers(0, 10**12)
maybe_usage = st.none() | st.builds(
    Usage, counts, counts, cached_tokens=counts, cost_nano_usd=st.none() | st.integers(0, COST_NANO_USD_MAX)
)
evidences = st.builds(
    Evidence,
    hold_nano_usd=st.integers(0, COST_NANO_USD_MAX),
    most_nano_usd=st.none() | st.integers(0, COST_NANO_USD_MAX),
    prices=st.sampled_from([None, PRICES]),
    usage=maybe_usage,
    local=maybe_usage,
    is_output_delivered=st.booleans(),
    is_failed=st.booleans(),
    is_billed_when_failed=st.booleans(),
    is_replayed=st.booleans(),
)


@given(evidences)
def test_every_booking_is_a_number_with_a_source_or_unknown(evidence: Evidence) -> None:
    """Unknown is never 0, 0 without a source is only what the provider makes free, and no cost breaks the books."""
    booking = book(evidence)
    assert (booking.cost_nano_usd is None) == (booking.source is CostSource.UNKNOWN)
    assert booking.source is not CostSource.UNKNOWN or evidence.prices is None
    if booking.cost_nano_usd is not None:
        assert 0 <= booking.cost_nano_usd <= COST_NANO_USD_MAX
        assert booking.is_overrun == (booking.cost_nano_usd > evidence.hold_nano_usd)
    if booking.source is None:
        assert booking.cost_nano_usd == 0
        assert evidence.is_replayed or (evidence.is_failed and not evidence.is_billed_when_failed)


# ---------------------------------------------------------------- transcripts


def chunk(**delta: Any) -> bytes:
    """Write one event of a stream in OpenAI's shape."""
    return event(orjson.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))


def test_a_transcript_gives_all_text_that_was_delivered() -> None:
    """Reasoning, content, refusals and tool calls, in the order they came; comments and `[DONE]` hold none."""
    transcript = Transcript()
    for part in (
        b": keep-alive\n\n",
        chunk(role="assistant", content=""),
        chunk(reasoning="Hm. "),
        chunk(content="Grüße"),
        chunk(content=", Welt"),
        chunk(tool_calls=[{"index": 0, "id": "t", "function": {"name": "find", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a":1}'}}]),
        b"data: not json\n\n",
        b"data: [1]\n\n",
        event(b'{"choices":[],"usage":{"prompt_tokens":1}}'),
        DONE_EVENT,
    ):
        transcript.append(part)
    assert transcript.text() == 'Hm. Grüße, Weltfind{"a":1}'
    assert transcript.text() == 'Hm. Grüße, Weltfind{"a":1}'
    assert transcript.overflow_bytes == 0


def test_a_transcript_folds_its_events_into_text_when_they_grow_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays near the text: raw events are four to forty times as long."""
    one = chunk(content="x")
    monkeypatch.setattr(metering, "RAW_BYTES_MAX", 3 * len(one))
    transcript = Transcript()
    for _ in range(3):
        transcript.append(one)
    assert len(transcript) == 3 * len(one)
    transcript.append(one)
    assert len(transcript) == 4
    transcript.append(one)
    assert transcript.text() == "xxxxx"


def test_a_transcript_takes_many_events_as_it_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is the same, and they are folded where they grow large."""
    parts = [chunk(content=content) for content in "abcdef"]
    for most in (10**6, 2 * len(parts[0]), 1):
        monkeypatch.setattr(metering, "RAW_BYTES_MAX", most)
        singly, together = Transcript(), Transcript()
        for part in parts:
            singly.append(part)
        together.extend([Frame(part) for part in parts[:4]])
        together.extend([])
        together.extend([Frame(part) for part in parts[4:]])
        assert together.text() == singly.text() == "abcdef"
        assert together.overflow_bytes == 0


def test_a_transcript_measures_text_beyond_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream without end fills no memory, and what was cut off is still known by its size."""
    monkeypatch.setattr(metering, "TEXT_BYTES_MAX", 5)
    transcript = Transcript()
    for content in ("abc", "dé", "fg"):
        transcript.append(chunk(content=content))
    assert transcript.text() == "abcd"  # the cap falls inside é, whose half is no character
    assert transcript.overflow_bytes == len("abcdéfg".encode()) - 5


def test_the_newest_events_are_told_while_they_are_kept() -> None:
    """All are counted; those whose text was read out of them are gone as events."""
    transcript = Transcript()
    assert (transcript.event_count, transcript.newest(3)) == (0, [])
    events = [event(orjson.dumps({"choices": [{"delta": {"content": word}}]})) for word in ("a", "b", "c")]
    for one in events:
        transcript.append(one)
    assert (transcript.event_count, transcript.newest(2), transcript.newest(0)) == (3, events[1:], [])
    assert text_of_events([*events, b"data: {\n\n"]) == "abc"
    assert transcript.text() == "abc"
    assert (transcript.event_count, transcript.newest(2)) == (3, [])
