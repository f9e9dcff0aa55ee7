"""The keys one request goes through where a provider has a pool (part of the gateway, floor 4).

A key that is refused makes way for the next one at once, as another attempt of the same target. Each key of a target is
passed on from at most once in a request, and `PASSED_ON_MAX` keys in all, so a request makes never more upstream calls
than targets + attempts - 1 + `PASSED_ON_MAX`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from proxy.clock import Clock
from proxy.gateway.attempt import Attempt, Line
from proxy.gateway.refusals import shown_wait_s
from proxy.ledger.records import Limited
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.policy.pools import Resting
from proxy.pools import KeyedUpstream, Pools
from proxy.routing.steps import Outcome
from proxy.routing.table import Target

PASSED_ON_MAX = 16
"""Keys a request is passed on from. Those that were refused rest, so the requests behind it begin with the others."""

Ask = Callable[[Line], Awaitable[LedgerOutcome]]


class Keyring:
    """Which keys of pools one request has been through."""

    def __init__(self, pools: Pools, clock: Clock) -> None:
        """Begin without any."""
        self._pools = pools
        self._clock = clock
        self._refused: dict[str, set[str]] = {}
        """Labels by target."""
        self._passed_on = 0
        self._keyed: KeyedUpstream | None = None
        """The key in use."""

    def close(self) -> None:
        """Give back the key in use when its call was never made; else the close of the reply does."""
        if self._keyed is not None and not self._keyed.has_reply:
            self._keyed.end()

    async def ask(self, target: Target, line: Line, ask: Ask) -> LedgerOutcome | Resting:
        """Put a call to the ledger with one key after another, as long as it is the key itself that has no room."""
        full: set[str] = set()
        limited: Limited | None = None
        while True:
            turn = self._pools.choose(target, besides=self._refused.get(target.name, set()) | full)
            if isinstance(turn, Resting):
                return limited or turn
            keyed = KeyedUpstream(turn, self._pools, line.upstream, clock=self._clock)
            self.close()
            self._keyed = keyed
            answer = await ask(replace(line, upstream=keyed, keyed=keyed))
            if not isinstance(answer, Limited) or answer.scope != f"upstream:{target.provider.name}/{keyed.label}":
                return answer
            full.add(keyed.label)
            if limited is None or answer.retry_after_s < limited.retry_after_s:
                limited = answer

    def note_failure(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Let the key of a failed attempt rest where it is to blame; gives the outcome with what follows from it."""
        keyed, target = attempt.keyed, attempt.candidate.target
        if keyed is None or not keyed.judge(outcome.failure):
            return outcome
        refused = self._refused.setdefault(target.name, set())
        is_first_time = keyed.label not in refused
        refused.add(keyed.label)
        resting = self._pools.find_resting(target, besides=refused)
        if resting is not None and resting.kind is outcome.failure.kind:
            return replace(outcome, failure=replace(outcome.failure, retry_after_s=shown_wait_s(resting)))
        if not is_first_time or self._passed_on >= PASSED_ON_MAX:
            return outcome
        self._passed_on += 1
        return replace(outcome, is_passed_on=True)
