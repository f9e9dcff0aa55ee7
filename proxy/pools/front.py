"""One attempt's turn with a key (part of `pools`, floor 2), in front of the upstream of its provider.

It keeps the interface of an upstream, so that relays and codecs know nothing of pools: the credential goes on the call,
and what the reply says of quotas is noted on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from proxy.clock import Clock
from proxy.codecs.allowances import NOTHING_SAID, read_wait_s, read_window
from proxy.codecs.wire import Call, Upstream, UpstreamReply, say_nothing
from proxy.errors import Failure
from proxy.policy.pools import REFUSALS_OF_KEY
from proxy.pools.records import Pools, Turn
from proxy.routing.table import Provider

OK = 200


class KeyedUpstream:
    """A provider's upstream, called with one key of its pool; keeps the interface `codecs.wire.Upstream`."""

    def __init__(self, turn: Turn, pools: Pools, upstream: Upstream[Provider], *, clock: Clock) -> None:
        """Take the turn; whoever made this gives the key back with `end`, the close of the reply does it too."""
        self._turn = turn
        self._pools = pools
        self._upstream = upstream
        self._clock = clock
        self._window = NOTHING_SAID
        self._wait_s: float | None = None
        self._is_over = False
        self.has_reply = False
        """A reply has come, whose close gives the key back."""

    @property
    def label(self) -> str:
        """Give what the books call the key."""
        return self._turn.key.label

    async def open(
        self,
        provider: Provider,
        call: Call,
        *,
        connect_timeout_s: float,
        on_sent: Callable[[], None] = say_nothing,
    ) -> UpstreamReply:
        """Send the call with the key on it; raises `UpstreamError`."""
        name, value = provider.credential_header(self._turn.key.secret)
        keyed = replace(call, headers={**call.headers, name: value})
        self._pools.note_call(self._turn)
        reply = await self._upstream.open(provider, keyed, connect_timeout_s=connect_timeout_s, on_sent=on_sent)
        self.has_reply = True
        self._pools.note_reply(self._turn, reply.headers, is_good=reply.status == OK)
        return KeyedReply(reply, self)

    async def close(self) -> None:
        """Close nothing: the upstream is everybody's."""

    def read_refusal(self, headers: Mapping[str, str], body: bytes) -> None:
        """Keep what a refusal says of the window that is used up."""
        self._window = read_window(headers, body, self._clock.now_s())
        self._wait_s = read_wait_s(headers.get("retry-after"))

    def judge(self, failure: Failure) -> bool:
        """Let the key rest if a failure is about it; tells whether another key may do better."""
        if failure.kind not in REFUSALS_OF_KEY or self._window.is_of_others:
            return False
        told = (self._window.returns_in_s, self._wait_s, failure.retry_after_s)
        self._pools.note_refusal(self._turn, failure, self._window, next((one for one in told if one), None))
        return True

    def end(self) -> None:
        """Give the key back; twice is once."""
        if not self._is_over:
            self._is_over = True
            self._pools.give_back(self._turn)


class KeyedReply:
    """The reply to such a call; keeps the interface `codecs.wire.UpstreamReply`."""

    __slots__ = ("_keyed", "_reply", "headers", "status")

    def __init__(self, reply: UpstreamReply, keyed: KeyedUpstream) -> None:
        """Stand in front of the upstream's own reply."""
        self._reply = reply
        self._keyed = keyed
        self.status = reply.status
        self.headers = reply.headers

    async def read(self) -> bytes:
        """Wait for the next piece; raises `UpstreamError`."""
        return await self._reply.read()

    async def read_all(self, bytes_max: int) -> bytes:
        """Read the rest, that of a refusal for what it says of the key too; raises `UpstreamError`."""
        body = await self._reply.read_all(bytes_max)
        if self.status != OK:
            self._keyed.read_refusal(self.headers, body)
        return body

    async def close(self) -> None:
        """Let go, and give the key back."""
        self._keyed.end()
        await self._reply.close()
