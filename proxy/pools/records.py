"""What is known of each key of a pool (part of `pools`, floor 2): the one mutable memory of it in this process.

A key rests as widely as what was refused: for everything (its credential), for what costs money (its credit), for
OpenRouter's free models (their limits are the account's), or for one model (most limits are). Durations run on the
monotonic clock; only the days of free models are the calendar's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.clock import Clock
from proxy.codecs.allowances import Allowance, Windowed, read_allowances
from proxy.errors import Failure, FailureKind
from proxy.policy.pools import KeyState, Resting, choose_key, find_rest_s, find_resting
from proxy.routing.table import Dialect, Provider, Secret, Target, UpstreamKey

KEYS_MAX = 4_096
"""Keys remembered. The oldest goes first."""
MODELS_MAX = 256
"""Models of which a key remembers something; behind a glob a client chooses the names. It is then begun anew."""
UNTOLD_S = 60.0
"""How long it counts what a provider says is left without saying until when."""
FREE_A_DAY = 1_000
FREE_A_DAY_WITHOUT_CREDIT = 50
"""Free requests a day that OpenRouter grants an account (openrouter.md 6.2); what a 429 says takes their place."""
DAY_S = 86_400

_EVERYTHING = ""
_PAID = "$"
_FREE = ":free"


class Turn(NamedTuple):
    """A key chosen for one attempt."""

    key: UpstreamKey
    provider: Provider
    record: KeyRecord
    scopes: Scopes


class RefusedKey(NamedTuple):
    """A key whose credential or credit its provider refuses."""

    provider: str
    label: str
    why: FailureKind


class Scopes(NamedTuple):
    """What a call of one target counts in."""

    rests: tuple[str, ...]
    """A rest for any of these holds for it."""
    told: str
    """What replies say of quotas is about this."""
    is_gratis: bool
    is_in_free_window: bool
    """OpenRouter's limits of free models hold."""


@dataclass(slots=True)
class Rest:
    """That a key is not to be called."""

    until_s: float = 0.0
    why: FailureKind = FailureKind.RATE_LIMITED
    refusals: int = 0
    """In a row."""


@dataclass(slots=True)
class Told:
    """What a reply said is left."""

    allowances: tuple[Allowance, ...]
    at_s: float
    begun: int = 0
    """Calls since."""

    def share(self, now_s: float) -> float:
        """Give the share left of the tightest allowance that still counts."""
        passed_s = now_s - self.at_s
        shares = [
            one.share(self.begun)
            for one in self.allowances
            if passed_s < (UNTOLD_S if one.returns_in_s is None else one.returns_in_s)
        ]
        return min(shares, default=1.0)

    def spent_until_s(self) -> float:
        """Tell until when nothing is left of an allowance, 0 when there is of each."""
        spent = [one.returns_in_s for one in self.allowances if not one.left and one.returns_in_s is not None]
        return self.at_s + max(spent) if spent else 0.0


@dataclass(slots=True)
class KeyRecord:
    """One key since this process first used it."""

    label: str
    in_flight: int = 0
    """Calls it was chosen for that are not over: from the choice on, or all who choose at once would choose alike."""
    turn: int = 0
    rests: dict[str, Rest] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    free_day: int = 0
    free_used: int = 0
    """Requests of that day."""
    free_limit: int | None = None
    """A day, as a 429 said."""

    @property
    def why_refused(self) -> FailureKind | None:
        """Tell why its provider refuses it, None when it does not."""
        whys = (rest.why for rest in self.rests.values())
        return next((why for why in whys if why is not FailureKind.RATE_LIMITED), None)


class Pools:
    """The records of all keys of all pools."""

    def __init__(
        self,
        clock: Clock,
        *,
        tell: Callable[..., None] | None = None,
        count: Callable[[int], None] | None = None,
    ) -> None:
        """Begin without any.

        `tell` is given an event and its fields when a provider refuses a key, `count` how many are refused.
        """
        self._clock = clock
        self._tell = tell
        self._count = count
        self._records: dict[tuple[str, Secret], KeyRecord] = {}
        self._turns = 0

    def choose(self, target: Target, *, besides: Collection[str] = ()) -> Turn | Resting:
        """Choose the key for a call of a target, none of the labels in `besides`; it is busy until `give_back`."""
        scopes = _scopes_of(target)
        index = self._find(target, scopes, besides)
        if isinstance(index, Resting):
            return index
        key = target.provider.pool[index]
        record = self._record_of(target.provider, key)
        self._turns += 1
        record.turn = self._turns
        record.in_flight += 1
        return Turn(key, target.provider, record, scopes)

    def give_back(self, turn: Turn) -> None:
        """Count a key as no longer busy with a call; once for each turn."""
        turn.record.in_flight -= 1

    def find_resting(self, target: Target, *, besides: Collection[str] = ()) -> Resting | None:
        """Tell until when no key can be chosen, None when one can."""
        found = self._find(target, _scopes_of(target), besides)
        return found if isinstance(found, Resting) else None

    def list_refused(self) -> list[RefusedKey]:
        """List the keys whose provider refused their credential or credit and has not taken a call since."""
        return [
            RefusedKey(provider, record.label, why)
            for (provider, _), record in self._records.items()
            if (why := record.why_refused) is not None
        ]

    def keep_only(self, providers: Iterable[Provider]) -> None:
        """Forget the keys that no provider has any more: the table is another one."""
        kept = {(provider.name, key.secret) for provider in providers for key in provider.pool}
        self._records = {place: record for place, record in self._records.items() if place in kept}
        self._recount()

    # --- told by the front ----------------------------------------------------------------------------------------

    def note_call(self, turn: Turn) -> None:
        """Count a call that begins; free requests count also when they fail (openrouter.md 6.2)."""
        record = turn.record
        if (told := record.told.get(turn.scopes.told)) is not None:
            told.begun += 1
        if turn.scopes.is_in_free_window:
            self._begin_day(record)
            record.free_used += 1

    def note_reply(self, turn: Turn, headers: Mapping[str, str], *, is_good: bool) -> None:
        """Take in what a reply says is left; a good one ends what was counted of refusals."""
        record, now_s = turn.record, self._clock.monotonic_s()
        if is_good and record.rests:
            over = [scope for scope in turn.scopes.rests if scope in record.rests]
            ended = [record.rests.pop(scope) for scope in over if record.rests[scope].until_s <= now_s]
            if any(rest.why is not FailureKind.RATE_LIMITED for rest in ended):
                self._recount()
        allowances = read_allowances(headers, self._clock.now_s())
        if allowances:
            if len(record.told) >= MODELS_MAX:
                record.told.clear()
            record.told[turn.scopes.told] = Told(allowances, now_s)

    def note_refusal(self, turn: Turn, failure: Failure, window: Windowed, told_s: float | None) -> None:
        """Let a key rest whose call was refused; `told_s` is for how long, if the provider said so."""
        record, scope = turn.record, _scope_of_refusal(turn.scopes, failure, window)
        if len(record.rests) >= MODELS_MAX:
            record.rests.clear()
        rest = record.rests.setdefault(scope, Rest())
        is_news = failure.kind is not FailureKind.RATE_LIMITED and not (rest.refusals and rest.why is failure.kind)
        rest.refusals, rest.why = rest.refusals + 1, failure.kind
        rest.until_s = self._clock.monotonic_s() + find_rest_s(failure.kind, rest.refusals, told_s)
        if window.is_daily and window.limit:
            record.free_limit = window.limit
        if is_news:
            self._recount()
        if is_news and self._tell is not None:
            self._tell(
                "upstream_key_refused", provider=turn.provider.name, label=turn.key.label, why=failure.kind.value
            )

    # --- small things ---------------------------------------------------------------------------------------------

    def _find(self, target: Target, scopes: Scopes, besides: Collection[str]) -> int | Resting:
        now_s, provider = self._clock.monotonic_s(), target.provider
        states = [self._state(key, self._record_of(provider, key), scopes, now_s) for key in provider.pool]
        left = states
        if besides:
            left = [
                state._replace(fits=state.fits and key.label not in besides)
                for key, state in zip(provider.pool, states, strict=True)
            ]
        index = choose_key(left, now_s)
        return find_resting(states, now_s) if index is None else index

    def _record_of(self, provider: Provider, key: UpstreamKey) -> KeyRecord:
        place = (provider.name, key.secret)
        record = self._records.get(place)
        if record is None:
            if len(self._records) >= KEYS_MAX:
                del self._records[next(iter(self._records))]
            record = self._records[place] = KeyRecord(key.label)
        return record

    def _recount(self) -> None:
        if self._count is not None:
            self._count(len(self.list_refused()))

    def _state(self, key: UpstreamKey, record: KeyRecord, scopes: Scopes, now_s: float) -> KeyState:
        rest = max((record.rests.get(scope, _NO_REST) for scope in scopes.rests), key=lambda one: one.until_s)
        until_s, why, share = rest.until_s, rest.why, 1.0
        told = record.told.get(scopes.told)
        if told is not None:
            share = told.share(now_s)
            if (spent_until_s := told.spent_until_s()) > max(until_s, now_s):
                until_s, why = spent_until_s, FailureKind.RATE_LIMITED
        if scopes.is_in_free_window:
            free = self._free_share(key, record)
            share = min(share, free)
            if not free and record.free_limit is not None and until_s <= now_s:
                until_s, why = now_s + DAY_S - self._clock.now_s() % DAY_S, FailureKind.RATE_LIMITED
        return KeyState(
            fits=scopes.is_gratis or not key.is_free,
            is_spare=scopes.is_gratis and key.is_free,
            rests_until_s=until_s,
            why=why,
            share_left=share,
            in_flight=record.in_flight,
            turn=record.turn,
        )

    def _free_share(self, key: UpstreamKey, record: KeyRecord) -> float:
        """Tell what is left of a day's free requests; only a limit that a 429 named is believed to the last one."""
        self._begin_day(record)
        assumed = FREE_A_DAY_WITHOUT_CREDIT if key.is_free else FREE_A_DAY
        return max(0.0, 1 - record.free_used / (record.free_limit or assumed))

    def _begin_day(self, record: KeyRecord) -> None:
        day = int(self._clock.now_s() // DAY_S)
        if day != record.free_day:
            record.free_day, record.free_used = day, 0


_NO_REST = Rest()


def _scopes_of(target: Target) -> Scopes:
    is_gratis = target.is_gratis
    is_in_free_window = is_gratis and target.provider.dialect is Dialect.OPENROUTER
    return Scopes(
        rests=(_EVERYTHING, _FREE if is_gratis else _PAID, target.model),
        told=_FREE if is_in_free_window else target.model,
        is_gratis=is_gratis,
        is_in_free_window=is_in_free_window,
    )


def _scope_of_refusal(scopes: Scopes, failure: Failure, window: Windowed) -> str:
    """Tell what a key rests for: a 403 may be about the model alone, an empty purse still pays for what is free."""
    everything, of_kind, model = scopes.rests
    if failure.kind is FailureKind.RATE_LIMITED:
        if window.is_free_window:
            return _FREE
        return everything if failure.status == 402 else model
    if failure.kind is FailureKind.CREDITS:
        return everything if scopes.is_gratis else of_kind
    return model if failure.status == 403 else everything
