"""Who administers (floor 5): the admin key, and how often somebody may be wrong about it.

It is not a client key: it opens `/admin/*` and shows all keys' figures, and no request for a model is answered to it.
Wrong ones are counted by address and written into the audit log; whoever guesses too often waits, right or not.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque

from starlette.requests import Request

from proxy.clock import Clock
from proxy.edge.auth import read_key
from proxy.edge.chat import wished_id
from proxy.errors import ClientError, RateLimited, Unauthenticated
from proxy.ledger.audit import Act
from proxy.ledger.deeds import note
from proxy.ledger.registry import Registry

ADMIN = "admin"
FAILURES_MAX = 20
"""Wrong keys an address may send in `WINDOW_S`."""
WINDOW_S = 60.0
ADDRESSES_MAX = 4_096
"""Addresses whose failures are counted; the one that was wrong longest ago goes first."""
NOTED_MAX = 100
"""Failures of all addresses that are written down in `WINDOW_S`: the log must not be filled by strangers."""


class Guard:
    """Knows the admin key, as a hash."""

    def __init__(self, admin_key: str, *, registry: Registry, clock: Clock) -> None:
        """Guard with this key."""
        self._digest = hashlib.sha256(admin_key.encode()).digest()
        self._registry = registry
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}
        self._noted: deque[float] = deque()

    async def admit(self, request: Request) -> Act:
        """Let an administrator in; raises `Unauthenticated`, `RateLimited` or `ClientError`."""
        self.refuse_guessers(request)
        if not self._is_right(read_key(request.scope["headers"])):
            await self._note_failure(request)
            raise Unauthenticated("This needs the admin key of this gateway.")
        return self.act_of(request, ADMIN)

    def holds(self, request: Request) -> bool:
        """Tell whether a request comes with the admin key; where none is needed, nobody is refused for lack of it."""
        try:
            return not self._is_guesser(request) and self._is_right(read_key(request.scope["headers"]))
        except ClientError:
            return False

    def refuse_guessers(self, request: Request) -> None:
        """Raise `RateLimited` for an address that was wrong too often."""
        if self._is_guesser(request):
            raise RateLimited("Too many wrong keys came from this address; wait a minute.", retry_after_s=WINDOW_S)

    def count_failure(self, request: Request) -> None:
        """Count a key that was neither the admin's nor a client's."""
        address = _address_of(request) or ""
        failures = self._failures.pop(address, None)
        if failures is None:
            if len(self._failures) >= ADDRESSES_MAX:
                del self._failures[next(iter(self._failures))]
            failures = deque(maxlen=FAILURES_MAX)
        failures.append(self._clock.monotonic_s())
        self._failures[address] = failures

    def act_of(self, request: Request, actor: str) -> Act:
        """Say who does what this request asks for."""
        request_id = wished_id(request.scope["headers"])
        return Act(actor, self._clock.now_s(), address=_address_of(request), request_id=request_id)

    def _is_right(self, key: bytes) -> bool:
        return hmac.compare_digest(hashlib.sha256(key).digest(), self._digest)

    def _is_guesser(self, request: Request) -> bool:
        failures = self._failures.get(_address_of(request) or "")
        if failures is None or len(failures) < FAILURES_MAX:
            return False
        return self._clock.monotonic_s() - failures[0] < WINDOW_S

    async def _note_failure(self, request: Request) -> None:
        self.count_failure(request)
        now_s = self._clock.monotonic_s()
        while self._noted and now_s - self._noted[0] >= WINDOW_S:
            self._noted.popleft()
        if len(self._noted) >= NOTED_MAX:
            return
        self._noted.append(now_s)
        act = self.act_of(request, "unknown")
        path = request.scope["path"][:200]
        await self._registry.write(lambda store: note(store, act, "admin.refuse", "admin", (None, {"path": path})))


def _address_of(request: Request) -> str | None:
    return None if request.client is None else request.client.host
