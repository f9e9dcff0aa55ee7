"""One stream on its way out: what goes at once, what is held back, and how it ends."""

from __future__ import annotations

import orjson
import pytest

from proxy.codecs.surface import Cost, View
from proxy.codecs.wire import Frame, JsonObject, Surface
from proxy.errors import Failure, FailureKind
from proxy.gateway.outflow import TAIL_FRAMES_MAX, Outflow
from proxy.sse import DONE_EVENT, event
from proxy.usage import CostSource

COST = Cost(5_000, CostSource.COMPUTED)
BROKEN = Failure(FailureKind.BROKEN_STREAM, "it broke")
DONE = Frame(DONE_EVENT, is_done=True)


def view(*, wants_usage: bool = True) -> View:
    """Make a client of `/v1`."""
    return View(Surface.OPENAI, provider="up", is_openrouter=False, wants_usage=wants_usage)


def frame(chunk: JsonObject, *, is_parsed: bool = True) -> Frame:
    """Make a frame; one that does not matter is not parsed."""
    return Frame(event(orjson.dumps(chunk)), chunk if is_parsed else None)


def words(text: str) -> Frame:
    """Make a frame of content."""
    return frame({"choices": [{"delta": {"content": text}}]}, is_parsed=False)


def usage(tokens: int = 1) -> Frame:
    """Make a frame of usage alone."""
    return frame({"choices": [], "usage": {"completion_tokens": tokens}})


def test_content_goes_out_at_once_and_as_it_came() -> None:
    """Several frames of one read leave in one piece."""
    outflow = Outflow(view(), price=lambda _: None)
    assert outflow.take([words("a"), words("b")]) == words("a").raw + words("b").raw


def test_the_end_is_held_back_and_told_with_the_booked_cost() -> None:
    """Usage and `[DONE]` wait for the settlement."""
    outflow = Outflow(view(), price=lambda _: None)
    assert outflow.take([usage(), DONE]) == b""
    last = outflow.finish(COST)
    assert last.endswith(DONE_EVENT)
    assert orjson.loads(last.removesuffix(DONE_EVENT)[6:])["usage"] == {
        "completion_tokens": 1,
        "cost": 5e-06,
        "cost_source": "computed",
    }


def test_a_whole_stream_without_done_gets_one() -> None:
    """It had its finish reason: the end is ours to write."""
    assert Outflow(view(), price=lambda _: None).finish(COST) == DONE_EVENT


def test_usage_before_content_goes_out_in_its_place() -> None:
    """What was held back turns out not to be the end."""
    outflow = Outflow(view(), price=lambda _: COST)
    outflow.take([usage(1)])
    shown = outflow.take([words("more")])
    assert shown.endswith(words("more").raw)
    assert b'"cost_source"' in shown
    assert outflow.finish(COST) == DONE_EVENT


def test_only_so_much_is_held_back() -> None:
    """A provider that sends nothing but usage does not fill our memory."""
    outflow = Outflow(view(), price=lambda _: COST)
    shown = outflow.take([usage(number) for number in range(TAIL_FRAMES_MAX + 1)])
    assert shown.count(b'"usage"') == TAIL_FRAMES_MAX + 1


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_broken_stream_ends_with_its_error(*, wants_usage: bool) -> None:
    """Behind what was held back; without `[DONE]`."""
    outflow = Outflow(view(wants_usage=wants_usage), price=lambda _: None)
    outflow.take([usage()])
    last = outflow.break_off(COST, BROKEN, seed={})
    assert (b'"usage"' in last) is wants_usage
    assert orjson.loads(last.split(b"\n\n")[-2][6:]).keys() == {"error"}
    assert DONE_EVENT not in last
