"""One attempt's turn with a key: the credential on the call, and what a reply says on the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson
import pytest

from proxy.clock import ManualClock
from proxy.codecs.wire import Call, Upstream, UpstreamReply, say_nothing
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.pools import KeyedUpstream, Pools, Turn
from proxy.routing.table import Provider
from tests.gateway.stage import FakeReply, Gate, Script
from tests.pools.test_records import a_target

K = FailureKind
CALL = Call("/chat/completions", b"{}", is_stream=False, headers={"x-session-id": "7"})


class Line:
    """An upstream that notes calls and answers with one script, or fails."""

    def __init__(self, script: Script | UpstreamError) -> None:
        """Answer so."""
        self.calls: list[Call] = []
        self.replies: list[FakeReply] = []
        self._script = script

    async def open(
        self, provider: Provider, call: Call, *, connect_timeout_s: float, on_sent: Callable[[], None] = say_nothing
    ) -> UpstreamReply:
        self.calls.append(call)
        if isinstance(self._script, UpstreamError):
            raise self._script
        self.replies.append(FakeReply(self._script, Gate()))
        return self.replies[-1]

    async def close(self) -> None:
        raise AssertionError


class Stage:
    """A pool of one key before an upstream."""

    def __init__(self, script: Script | UpstreamError) -> None:
        """Choose the key."""
        self.clock = ManualClock()
        self.pools = Pools(self.clock)
        self.target = a_target("a")
        self.line = Line(script)
        turn = self.pools.choose(self.target)
        assert isinstance(turn, Turn)
        self.turn = turn
        upstream: Upstream[Provider] = self.line
        self.keyed = KeyedUpstream(turn, self.pools, upstream, clock=self.clock)

    async def open(self) -> UpstreamReply:
        """Send the call."""
        return await self.keyed.open(self.target.provider, CALL, connect_timeout_s=1.0)


def good(**headers: str) -> Script:
    """Answer well."""
    return Script((b"{}",), headers=headers)


def limited(headers: Mapping[str, str], error: object = "slow down") -> Script:
    """Answer with 429."""
    return Script((orjson.dumps({"error": error}),), 429, headers)


async def test_the_key_goes_on_the_call_and_nothing_else_changes() -> None:
    """Its other headers stay; closing the front closes nobody's upstream."""
    stage = Stage(good())
    await stage.open()
    (call,) = stage.line.calls
    assert call.headers == {"x-session-id": "7", "authorization": "Bearer sk-a"}
    assert (call.path, call.body) == (CALL.path, CALL.body)
    assert CALL.headers == {"x-session-id": "7"}
    assert "sk-a" not in f"{stage.turn!r} {call!r}"
    await stage.keyed.close()


async def test_a_call_is_under_way_until_its_reply_is_closed() -> None:
    """Twice closed is once."""
    stage = Stage(good())
    reply = await stage.open()
    assert stage.turn.record.in_flight == 1
    assert await reply.read_all(100) == b"{}"
    assert await reply.read() == b""
    for _ in range(2):
        await reply.close()
    assert stage.turn.record.in_flight == 0
    assert stage.line.replies[0].is_closed


async def test_a_key_is_busy_from_the_choice_on() -> None:
    """Whoever chose it gives it back when the call is never made, or got no reply."""
    stage = Stage(UpstreamError(Failure(K.CONNECT, "no")))
    assert stage.turn.record.in_flight == 1
    with pytest.raises(UpstreamError):
        await stage.open()
    for _ in range(2):
        stage.keyed.end()
    assert stage.turn.record.in_flight == 0


@pytest.mark.parametrize(
    ("script", "status", "rest_s"),
    [
        (limited({"retry-after": "30"}), 429, 30.0),
        (limited({"retry-after": "7200"}), 429, 7_200.0),
        (
            limited({"retry-after": "5", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}),
            429,
            9.0,
        ),
        (limited({}), 429, 12.0),
        (limited({"retry-after": "0"}), 429, 12.0),
    ],
)
async def test_a_refused_key_rests_as_long_as_it_was_told(script: Script, status: int, rest_s: float) -> None:
    """By the window that is used up, by Retry-After however long, else by what the codec made of it."""
    stage = Stage(script)
    reply = await stage.open()
    await reply.read_all(1_000)
    assert stage.keyed.judge(Failure(K.RATE_LIMITED, "no", status=status, retry_after_s=12.0))
    resting = stage.pools.find_resting(stage.target)
    assert resting is not None
    assert resting.returns_in_s == pytest.approx(rest_s)


@pytest.mark.parametrize("kind", sorted(set(K) - {K.RATE_LIMITED, K.CREDENTIALS, K.CREDITS}))
async def test_other_failures_are_not_the_keys(kind: FailureKind) -> None:
    """It does not rest, and no other key would do better."""
    stage = Stage(good())
    await stage.open()
    assert not stage.keyed.judge(Failure(kind, "no"))
    assert stage.pools.find_resting(stage.target) is None


async def test_a_limit_of_others_is_not_the_keys() -> None:
    """OpenRouter says who was limited."""
    stage = Stage(limited({}, {"message": "Provider returned error", "metadata": {"provider_name": "Made Up"}}))
    await (await stage.open()).read_all(1_000)
    assert not stage.keyed.judge(Failure(K.RATE_LIMITED, "no", status=429))
    assert stage.pools.find_resting(stage.target) is None
