"""Late truths in plain dicts (floor 2): what `sqlite_resolution.py` does in transactions, for the twin in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.ledger.admission import ERROR_OWNER_DIED, Reserve
from proxy.ledger.correcting import Booked, Dead, is_given_up, judge_dead, judge_exhausted, judge_truth
from proxy.ledger.memory_entries import Entry
from proxy.ledger.records import AttemptEnd, AttemptState
from proxy.ledger.resolution import DueLookup, Progress, ProgressByAttempt, Reason, Resolved, Truth
from proxy.policy.lookups import HELD_TRIES, LOOKUP_AFTER_S, TRIES_MAX, find_delay_s
from proxy.usage import CostSource, Usage

_LEASE_S = 60.0


@dataclass(slots=True)
class _Lookup:
    due_s: float
    tries: int = 0
    estimate_nano_usd: int | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class LateBooks:
    """What several owners have in common."""

    progress: dict[int, ProgressByAttempt] = field(default_factory=dict)
    """By owner."""
    lookups: dict[int, _Lookup] = field(default_factory=dict)
    """By seq."""
    corrected: set[tuple[int, Reason]] = field(default_factory=set)

    def find_progress(self, owner: int) -> Mapping[tuple[str, int], Progress]:
        """Give an owner's last word on its attempts."""
        return self.progress.get(owner, {})

    def ask_later(self, seq: int, at_s: float) -> None:
        """Have the provider asked what an attempt cost that was booked without its word."""
        self.lookups[seq] = _Lookup(at_s + LOOKUP_AFTER_S[0])


class MemoryResolution:
    """The `Resolution` of resolution.py."""

    def __init__(
        self,
        owner: int,
        late: LateBooks,
        entries: Sequence[Entry],
        *,
        correct_rates: Callable[[Reserve, int], None],
        check_open: Callable[[], None],
    ) -> None:
        """Learn about `entries`, of which entry n has seq n + 1."""
        self._owner = owner
        self._late = late
        self._entries = entries
        self._correct_rates = correct_rates
        self._check_open = check_open

    async def note_progress(self, progress: Sequence[Progress]) -> None:
        """Keep what this owner's open attempts have come to."""
        self._late.progress[self._owner] = {(one.request_id, one.number): one for one in progress}

    async def claim_lookups(self, now_s: float, *, count_max: int) -> Sequence[DueLookup]:
        """Take the look-ups that are due, each for one try."""
        self._check_open()
        due = sorted((one.due_s, seq) for seq, one in self._late.lookups.items() if one.due_s <= now_s)
        return [self._claim(seq, now_s) for _, seq in due[:count_max]]

    async def correct(self, truth: Truth) -> Resolved | None:
        """Book a truth and end its look-up; None when it changes nothing."""
        self._check_open()
        return self.take(truth)

    async def miss_lookup(self, lookup: DueLookup, at_s: float) -> bool:
        """Note that a try told nothing; tells whether an unresolved attempt was booked for it."""
        self._check_open()
        is_booked = lookup.tries >= HELD_TRIES and self._book_known(lookup.attempt_seq)
        if lookup.tries >= TRIES_MAX:
            self._late.lookups.pop(lookup.attempt_seq, None)
        return is_booked

    def leave_open(self, entry: Entry, dead: Dead) -> bool:
        """Resolve a dead owner's attempt by what is known of it; False: by nothing."""
        attempt = entry.pending
        can_look_up, estimate, progress = judge_dead(attempt, dead.progress)
        if progress is None or not (can_look_up or estimate is not None):
            return False
        usage = Usage(progress.input_tokens, progress.output_tokens)
        entry.row = replace(entry.row, error=ERROR_OWNER_DIED, generation_id=progress.generation_id)
        if can_look_up:
            entry.row = replace(entry.row, state=AttemptState.UNRESOLVED)
            self._late.lookups[attempt.seq] = _Lookup(dead.now_s + LOOKUP_AFTER_S[0], 0, estimate, usage)
        else:
            self._post(entry, estimate, CostSource.ESTIMATED, usage)
        return True

    def settle_late(self, entry: Entry, end: AttemptEnd, at_s: float) -> bool:
        """Book the end of an attempt that had been given up; False when it had not, or its end is known."""
        row = entry.row
        if not is_given_up(row.state, row.error):
            return False
        cost = end.cost_nano_usd if end.state is AttemptState.POSTED else 0
        if self.take(Truth(row.seq, cost, end.cost_source, end.usage, Reason.LATE, at_s)) is None:
            return False
        entry.row = replace(entry.row, error=end.error)
        return True

    def take(self, truth: Truth) -> Resolved | None:
        """Change a row to the truth."""
        seq = truth.attempt_seq
        if not 0 < seq <= len(self._entries) or (seq, truth.reason) in self._late.corrected:
            return None
        entry = self._entries[seq - 1]
        if entry.is_rolled:
            return None
        row, attempt = entry.row, entry.pending
        tokens = row.usage.input_tokens + row.usage.output_tokens
        change = judge_truth(Booked(attempt, row.state, row.cost_nano_usd, row.cost_source, tokens), truth)
        if row.state is not AttemptState.PENDING:
            self._late.lookups.pop(seq, None)
        if change is None:
            return None
        if change.correction is not None:
            self._late.corrected.add((seq, truth.reason))
        entry.row = replace(
            row,
            state=change.state,
            cost_nano_usd=truth.cost_nano_usd if truth.cost_source is not None else 0,
            cost_source=truth.cost_source,
            is_overrun=change.is_overrun,
            usage=truth.usage,
        )
        if attempt.reserve is not None:
            self._correct_rates(attempt.reserve, attempt.reserve.tokens + change.tokens)
        return Resolved(change.correction)

    def _claim(self, seq: int, now_s: float) -> DueLookup:
        lookup, row = self._late.lookups[seq], self._entries[seq - 1].row
        lookup.tries = min(lookup.tries + 1, TRIES_MAX)
        lookup.due_s = now_s + (find_delay_s(lookup.tries) or _LEASE_S)
        assert row.generation_id is not None, "nobody is asked without it"
        return DueLookup(
            seq,
            row.request_id,
            row.attempt,
            row.provider,
            row.upstream_key,
            row.payer,
            row.tenant,
            row.generation_id,
            row.hold_nano_usd,
            lookup.tries,
            row.state is AttemptState.UNRESOLVED,
        )

    def _book_known(self, seq: int) -> bool:
        entry, known = self._entries[seq - 1], self._late.lookups.get(seq)
        if known is None or entry.row.state is not AttemptState.UNRESOLVED:
            return False
        cost, source = judge_exhausted(entry.pending, known.estimate_nano_usd)
        self._post(entry, cost, source, known.usage)
        return True

    def _post(self, entry: Entry, cost_nano_usd: int | None, source: CostSource, usage: Usage) -> None:
        reserve = entry.reserve
        entry.row = replace(
            entry.row, state=AttemptState.POSTED, cost_nano_usd=cost_nano_usd, cost_source=source, usage=usage
        )
        if reserve is not None:
            self._correct_rates(reserve, usage.input_tokens + usage.output_tokens or reserve.tokens)
