"""What goes into the ledger and comes out of it (floor 2): plain values, free of any backend's words.

One request has one or more attempts. Every attempt carries its own hold from before its first upstream byte until it is
posted or voided; a request is over when none of its attempts is pending. A chain has one attempt pending at a time,
parallel strategies will have several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from proxy.ledger.tenancy import TenantRecord
from proxy.money import UTC_NAME
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Quota
from proxy.policy.scopes import PAYER_GATEWAY
from proxy.usage import CostSource, Usage

GENERATIONS_SEARCHED_MAX = 50_000
"""Attempts of a key looked through for an upstream's id: clients ask soon, and there is no index for it to keep up."""


DIMENSIONS = (
    "key",
    "tenant",
    "app",
    "user",
    "tag",
    "payer",
    "route",
    "provider",
    "model",
    "hour",
    "day",
    "month",
)
"""What usage can be summed by, beside `tag:NAME`. By `tag` an attempt counts once for each of its tags."""
TAG_PREFIX = "tag:"
"""Before the name of a tag whose values usage is summed by."""


class AttemptState(StrEnum):
    """Where an attempt's hold stands; a hold ends exactly once."""

    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"
    UNRESOLVED = "unresolved"
    """Its process died, and its provider is still to be asked what it cost."""


HOLDING = frozenset({AttemptState.PENDING, AttemptState.UNRESOLVED})
"""States in which a hold counts."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A client key as the ledger keeps it."""

    name: str
    digest: str
    """HMAC-SHA-256(pepper, hex SHA-256(key)), hex."""
    tenant: str | None = None
    limits: Limits = NO_LIMITS
    models: tuple[str, ...] | None = None
    default_model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    is_declared: bool = False
    """It stands in routes.yaml: upserted by name at load, disabled when it leaves the file."""
    is_enabled: bool = True
    created_at_s: float = 0.0
    expires_at_s: float | None = None
    revision: int = 1
    """Raised by every change: an admission made under another revision is refused as stale."""
    parent: str | None = None
    """The key that made it; what limits that one holds for this one too, and it dies with it."""
    may_create_keys: bool = False
    """It may make keys that may do no more than itself."""
    max_cost_nano_usd: int | None = None
    """Ceiling of one request."""
    is_revoked: bool = field(default=False, compare=False)
    """Disabled for good, unless routes.yaml declares it anew."""
    updated_at_s: float = field(default=0.0, compare=False)
    former_digest: str | None = field(default=None, compare=False)
    """Of a rotated key's former value, good until `former_until_s`."""
    former_until_s: float | None = field(default=None, compare=False)
    is_walled: bool = field(default=False, compare=False)
    """Some hard budget may hold for its requests, wherever it is written; filled in by the ledger."""
    maker: KeyRecord | None = field(default=None, compare=False)
    """The record of `parent`; filled in by `Ledger.find_key`."""
    house: TenantRecord | None = field(default=None, compare=False)
    """The record of `tenant`, None when only a table knows it; filled in by `Ledger.find_key`."""


class AttemptStart(NamedTuple):
    """One upstream call about to begin."""

    number: int
    """Counts from 1 within the request."""
    provider: str
    model: str
    hold_nano_usd: int
    is_priced: bool = True
    """False: no price is known, the hold is 0. If its process dies, its cost is booked as unknown, not as that 0."""
    upstream_key: str | None = None
    """Which credential of the provider's pool."""
    payer: str = PAYER_GATEWAY
    tokens: int = 0
    """What rates of tokens are charged with until the true count is known."""
    patterns: tuple[str, ...] = ()
    """Of the provider's models, those with a limit of their own that this one is among."""
    alias: str | None = None
    """The key of `models` whose target this is; None: that of the request, of its next attempt as before."""


class Admission(NamedTuple):
    """A request that asks to be let in: all or nothing, in one durable transaction."""

    request_id: str
    """As wished; the ledger suffixes `-2`, `-3` when it is taken."""
    key_name: str
    key_revision: int
    tenant: str | None
    route: str
    """The alias asked for."""
    app: str | None
    """`X-Title` of the client."""
    is_stream: bool
    at_s: float
    attempts: tuple[AttemptStart, ...]
    user: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    """Names and values, sorted by name."""
    alias: str | None = None
    """The key of `models` behind `route`, where that is another name: a glob, or one with a suffix."""
    is_redirected: bool = False
    """A spent budget has sent it here: soft budgets hold it up no more."""
    parent: str | None = None
    """The key that made the key."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Let in: the holds are durable under this id."""

    request_id: str
    quotas: tuple[Quota, ...] = ()
    """How the rates stand that hold for it, the tightest of each measure."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A budget has no room for what was asked; nothing was written."""

    scope: str
    """`key:NAME`, `global` and so on: the one with the least left."""
    needed_nano_usd: int
    left_nano_usd: int
    """Limit less posted less held, never below 0; no budget that holds has less."""
    limit_nano_usd: int
    held_nano_usd: int
    resets_at_s: float | None
    """Start of the next period, None for `total`."""
    when_spent: str | None = None
    """The model to go to instead."""
    is_soft: bool = False
    """Only `when_spent` is asked for: no wall is in the way."""


@dataclass(frozen=True, slots=True)
class Limited:
    """A rate or a parallel limit is used up for now; nothing was written."""

    scope: str
    measure: Measure | None
    """None: requests under way at once."""
    limit: int
    window_s: int | None
    """None for requests at once."""
    retry_after_s: float
    wait_s: float = 0.0
    """How long the limit lets a request queue."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A hard budget holds and the price of what was asked is not known; nothing was written."""

    scope: str


@dataclass(frozen=True, slots=True)
class KeyGone:
    """The key was revoked, expired or changed since it was looked up; nothing was written."""

    is_stale: bool
    """True: it still exists in another revision, look it up again and plan anew. False: it may do nothing any more."""


class AttemptEnd(NamedTuple):
    """How one attempt ended and what is booked for it."""

    number: int
    state: AttemptState
    """POSTED or VOIDED."""
    cost_nano_usd: int | None
    """None only with `CostSource.UNKNOWN`; 0 when voided."""
    cost_source: CostSource | None
    """None when voided."""
    usage: Usage
    status: int | None
    """HTTP status of the upstream."""
    error: str | None
    """`FailureKind` or `client_left`, None when it succeeded."""
    latency_ms: int
    first_token_ms: int | None = None
    generation_id: str | None = None
    """The upstream's own id of the reply."""
    is_overrun: bool = False
    """It cost more than was held; the truth is booked."""
    saved_nano_usd: int | None = None
    """What an answer out of the response cache would have cost."""
    is_lookup_due: bool = False
    """The cost is not its provider's word, which can be asked for by `generation_id`: that is done later."""


@dataclass(frozen=True, slots=True)
class Advance:
    """One attempt is over and another is about to begin, in one transaction under the same limits."""

    request_id: str
    ended: AttemptEnd
    begins: AttemptStart
    at_s: float


class Settlement(NamedTuple):
    """The request is over: every pending attempt ends here, exactly once."""

    request_id: str
    ended: tuple[AttemptEnd, ...]
    at_s: float


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget as it stands."""

    scope: str
    period: str
    limit_nano_usd: int
    posted_nano_usd: int
    held_nano_usd: int
    resets_at_s: float | None
    is_soft: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One row of `turnpike export`."""

    seq: int
    """Rises with every attempt: the order of the books, and the cursor of a page."""
    request_id: str
    attempt: int
    state: AttemptState
    at_s: float
    key: str
    tenant: str | None
    app: str | None
    route: str
    provider: str
    model: str
    is_stream: bool
    status: int | None
    usage: Usage
    hold_nano_usd: int
    cost_nano_usd: int | None
    cost_source: CostSource | None
    latency_ms: int | None
    first_token_ms: int | None
    error: str | None
    generation_id: str | None
    is_overrun: bool
    user: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    upstream_key: str | None = None
    payer: str = PAYER_GATEWAY
    saved_nano_usd: int | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which rows of an export; without any word all of them."""

    until_s: float | None = None
    """Exclusive."""
    key_name: str | None = None
    tenant: str | None = None


EVERYTHING = AttemptFilter()


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which rows to sum and by what."""

    by: tuple[str, ...] = ()
    """Dimensions: those of `DIMENSIONS`, and `tag:NAME` for the values of one tag."""
    from_s: float | None = None
    to_s: float | None = None
    """Exclusive."""
    key_name: str | None = None
    """Only this key's rows."""
    tenant: str | None = None
    """Only this tenant's."""
    timezone: str = UTC_NAME
    """Whose hours, days and months to group by; days that have been rolled up are those of UTC."""
    groups_max: int | None = None
    """The first so many groups; None: all."""


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Sums over attempts of one group; `requests` counts requests, not attempts."""

    group: tuple[str, ...]
    """Values in the order of `UsageQuery.by`; days as 2026-11-20."""
    requests: int
    failed: int
    """Requests whose last attempt did not succeed."""
    fallbacks: int
    """Requests with more than one attempt."""
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_nano_usd: int
    held_nano_usd: int
    """Of attempts pending or unresolved."""
    unknown_cost: int
    """Posted attempts without a known cost."""
    cost_by_source: Mapping[str, int]
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    overruns: int = 0
    """Attempts that cost more than was held."""
    cache_hits: int = 0
    """Answers out of the response cache."""
    saved_nano_usd: int = 0
    """What those would have cost."""


@dataclass(frozen=True, slots=True)
class ProviderStats:
    """One provider's part in `GET /v1/stats`; counts attempts."""

    provider: str
    requests: int
    failed: int
    cost_nano_usd: int
    first_token_ms_p50: int | None


Outcome = Admitted | Refused | Limited | Unpriced | KeyGone
"""What the ledger says to a request that asks for something."""
