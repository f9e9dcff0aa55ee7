"""How each target has been doing (floor 2): the one mutable memory of outcomes in this process.

Outcomes are only recorded here; a circuit breaker that acts on them comes later and will read the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.errors import FailureKind

TARGETS_MAX = 10_000
"""Targets remembered; behind a glob a client chooses the names, so there must be an end. The oldest goes first."""


@dataclass(slots=True)
class TargetHealth:
    """One target's record since this process started."""

    successes: int = 0
    failures: int = 0
    consecutive_failures: int = 0
    last_failure: FailureKind | None = None
    last_failure_at_s: float | None = None
    last_first_token_ms: int | None = None


class Health:
    """The records of all targets, by `provider/model`."""

    def __init__(self, on_outcome: Callable[[str, str], None] = lambda _target, _outcome: None) -> None:
        """Begin without any; `on_outcome` is told each target and `ok` or the kind of its failure."""
        self._targets: dict[str, TargetHealth] = {}
        self._on_outcome = on_outcome

    def record_success(self, target: str, *, first_token_ms: int | None) -> None:
        """Note an answer."""
        health = self._of(target)
        health.successes += 1
        health.consecutive_failures = 0
        health.last_first_token_ms = first_token_ms
        self._on_outcome(target, "ok")

    def record_failure(self, target: str, kind: FailureKind, *, at_s: float) -> None:
        """Note a failure; a client that left is none."""
        health = self._of(target)
        health.failures += 1
        health.consecutive_failures += 1
        health.last_failure = kind
        health.last_failure_at_s = at_s
        self._on_outcome(target, kind.value)

    def find(self, target: str) -> TargetHealth | None:
        """Give a target's record, None when it was never called."""
        return self._targets.get(target)

    def _of(self, target: str) -> TargetHealth:
        health = self._targets.get(target)
        if health is None:
            if len(self._targets) >= TARGETS_MAX:
                del self._targets[next(iter(self._targets))]
            health = self._targets[target] = TargetHealth()
        return health
