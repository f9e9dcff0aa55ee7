"""The routing table: routes.yaml after it has been read, checked and resolved (floor 1b, pure, immutable).

`files` builds it; a request sees one table from start to end. Aliases are already flattened: a route's targets are
concrete (provider, model) pairs in the order to try, except for the one `*` of a glob, which stands until a request
fills it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Thinking
from proxy.policy.limits import NO_LIMITS, Limits, Rate
from proxy.policy.rules import Rule
from proxy.policy.scopes import PAYER_GATEWAY, PAYER_TENANT
from proxy.pricing import ModelFacts, Prices
from proxy.routing.caching import CacheRule, Caching
from proxy.routing.principal import matches

_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
"""Names of headers that hold a credential (Azure: `api-key`), with or without a scheme before it."""
RETENTION_S = 90 * 86_400.0
"""How long attempts are kept unless routes.yaml says otherwise."""
_NONE: frozenset[str] = frozenset()
_FREE_SUFFIX = ":free"


def holds_secret(header: str) -> bool:
    """Tell from a header's name whether it holds a credential."""
    return _SECRET_HEADER.search(header) is not None


class Secret:
    """A credential that shows itself only when asked by name; repr and str are `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wrap the value."""
        self._value = value

    def reveal(self) -> str:
        """Give the value, for the one header it is meant for."""
        return self._value

    def __repr__(self) -> str:
        """Hide the value."""
        return "***"

    def __eq__(self, other: object) -> bool:
        """Compare by value, so that tables can be compared."""
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(self._value)


class Dialect(StrEnum):
    """How a provider is spoken to."""

    OPENAI = "openai"
    OPENROUTER = "openrouter"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Four separate clocks of one attempt, in seconds; None is the default of `policy.timeouts`."""

    connect_s: float | None = None
    first_token_s: float | None = None
    """To the first meaningful event of a stream; to the end of a JSON answer, which comes in one piece."""
    idle_s: float | None = None
    """Between two reads of a reply that has begun."""
    total_s: float | None = None
    """Of the whole request, all attempts together."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The knobs of a simulated provider (design.md section 5); no network is used."""

    first_token_s: float = 0.2
    speed_per_s: float = 50.0
    """Tokens a second."""
    length_tokens: int = 120
    seed: int = 0
    fail: str | None = None
    """refuse, rate_limit, server_error, hang, cut, error_event, garbage, no_usage or empty_choices."""
    fail_after_events: int = 0
    fail_rate: float = 1.0
    """Share of requests that fail, 0 to 1, decided by the seed."""
    content: str | None = None
    """The one answer to whatever is asked, at once and whole (`static:`); None: it makes one up."""


@dataclass(frozen=True, slots=True)
class ProviderFlags:
    """How a provider differs from the plain OpenAI dialect, as data of config/providers.yaml."""

    stream_usage: bool = True
    """It understands `stream_options.include_usage`."""
    max_tokens_field: str = "max_tokens"
    """Where an output cap of ours goes when the client sent none."""
    billed_when_cut: bool = True
    """A stream that ends in error is charged for; OpenRouter insures against that."""
    stops_when_left: frozenset[str] = frozenset()
    """Who behind it ends a stream, and its bill, when the client leaves (OpenRouter's list, names in lower case).

    Empty: `on_disconnect` says all there is to say.
    """
    key_header: str = "authorization"
    """Where the credential goes; in `authorization` it stands behind `Bearer`, elsewhere alone."""
    call_id_chars: int | None = None
    """Ids of tool calls are so many letters and digits, neither more nor less; None: any text."""
    unsupported: frozenset[str] = frozenset()
    """Request fields none of its models takes."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Request fields it knows by another name, ours to its own."""


@dataclass(frozen=True, slots=True)
class UpstreamKey:
    """One credential of a provider's pool."""

    label: str
    """What usage calls it: its name in the file, else its place in the list from 1."""
    secret: Secret
    rates: tuple[Rate, ...] = ()
    is_free: bool = False
    """Its account has no credit: it may be sent what costs nothing, and nothing else."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One upstream account: where it is, how it is spoken to, what it may cost."""

    name: str
    dialect: Dialect
    base_url: str = ""
    """Up to and including the version, without a trailing slash; empty for simulated."""
    api_key: Secret | None = None
    """Of a pool its first."""
    pool: tuple[UpstreamKey, ...] = ()
    """Credentials to choose from (`api_keys`), those whose variable is set; () when there is but `api_key`."""
    pool_missing: tuple[str, ...] = ()
    """Why others of the pool are left out, by label: `2: SPARE_KEY is not set`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent on every call, HTTP-Referer and X-Title of OpenRouter included."""
    on_disconnect: str = "cancel"
    """What happens to a call whose client has left: `cancel` ends it, `drain` reads on for its usage."""
    verify: bool = True
    """Check the TLS certificate."""
    price: Prices | None = None
    is_reconciled: bool = False
    """It is asked what it billed and what credit is left."""
    model_rates: Mapping[str, tuple[Rate, ...]] = field(default_factory=dict)
    """By a pattern with one `*`: all models that match share them, as the place `target:PROVIDER/PATTERN`."""
    flags: ProviderFlags = field(default_factory=ProviderFlags)
    simulation: Simulation | None = None
    not_ready: str | None = None
    """Why its targets are skipped (`OPENAI_API_KEY is not set`), None when it can be called."""
    zdr: bool = False
    """It stores nothing of what it is sent (zero data retention), as the operator says."""
    data_collection: str = "allow"
    """`deny`: it neither stores what it is sent nor trains on it, as the operator says."""
    catalogue_name: str | None = None
    """The known provider it is another account of; the catalogue knows its models by that name. None: by its own."""
    account: str | None = None
    """The tenant whose own credential it is called with; None: the operator's."""

    @property
    def account_name(self) -> str:
        """Give the name that tells its accounts apart: `openrouter`, or `openrouter@acme` on a tenant's."""
        return self.name if self.account is None else f"{self.name}@{self.account}"

    @property
    def payer(self) -> str:
        """Tell whose money its calls cost."""
        return PAYER_GATEWAY if self.account is None else PAYER_TENANT

    @property
    def is_static(self) -> bool:
        """Tell whether it gives one fixed answer to everything."""
        return self.simulation is not None and self.simulation.content is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Give every credential it is called with, its headers' too: what no log and no client may see."""
        named = (value.rpartition(" ")[2] for name, value in self.headers.items() if holds_secret(name))
        keys = {} if self.api_key is None else {self.api_key.reveal(): None}
        return (*(keys | {key.secret.reveal(): None for key in self.pool}), *named)

    def credential_header(self, secret: Secret) -> tuple[str, str]:
        """Give the header that a credential goes out in, its name in lower case."""
        place, key = self.flags.key_header, secret.reveal()
        return place, f"Bearer {key}" if place == "authorization" else key

    def list_patterns(self, model: str) -> tuple[str, ...]:
        """Give the patterns of `model_rates` that a model of it matches."""
        return tuple(pattern for pattern in self.model_rates if matches(pattern, model))


@dataclass(frozen=True, slots=True)
class Target:
    """One provider and one of its model ids, with what this route says about it."""

    provider: Provider
    model: str
    """The provider's own id; holds one `*` in a glob route."""
    facts: ModelFacts = field(default_factory=ModelFacts)
    """Price (target > model > provider > catalogue), context, output limit; of a glob only what the file says."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """Already the tightest of target, route and the aliases on the way."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the aliases on the way, outer ones winning; the request wins over them."""
    wants_backup: bool = False
    """The same model at its maker is to be tried behind it (`direct_backup`); of OpenRouter's targets only."""
    is_backup: bool = False
    """It stands in the chain for no other reason than `direct_backup`."""

    @property
    def name(self) -> str:
        """Give `provider/model`, the form of routes.yaml."""
        return f"{self.provider.name}/{self.model}"

    @property
    def account_name(self) -> str:
        """Give the name its health is kept under: what one account's credential meets says nothing of another's."""
        return f"{self.provider.account_name}/{self.model}"

    @property
    def is_gratis(self) -> bool:
        """Tell whether it certainly costs nothing: it is priced so, or is one of OpenRouter's free variants."""
        if self.provider.dialect is Dialect.OPENROUTER and self.model.endswith(_FREE_SUFFIX):
            return True
        return self.facts.prices is not None and self.facts.prices.is_zero

    @property
    def abilities(self) -> Abilities:
        """Give what a codec must know of the model to write a call; what is not known is given the benefit."""
        known = self.facts.capabilities
        if not known and self.facts.output_tokens_max is None:
            return UNKNOWN_ABILITIES
        thinking, efforts = known.get("thinking"), known.get("efforts")
        return Abilities(
            output_tokens_max=self.facts.output_tokens_max,
            thinking=thinking if isinstance(thinking, Thinking) else None,
            sampling=known.get("sampling") is not False,
            forced_tools=known.get("forced_tools") is not False,
            prefill=known.get("prefill") is not False,
            json_schema=known.get("json_schema") is not False,
            efforts=efforts if isinstance(efforts, tuple) else (),
        )

    @property
    def unsupported(self) -> frozenset[str]:
        """Give the request fields that the provider, or this model of it, does not take."""
        of_model = self.facts.capabilities.get("unsupported", _NONE)
        assert isinstance(of_model, frozenset)
        return self.provider.flags.unsupported | of_model if of_model else self.provider.flags.unsupported

    @property
    def renamed(self) -> Mapping[str, str]:
        """Give the request fields that go by another name here, ours to its own."""
        of_model = self.facts.capabilities.get("renamed")
        if not isinstance(of_model, dict):
            return self.provider.flags.renamed
        return {**self.provider.flags.renamed, **of_model}


@dataclass(frozen=True, slots=True)
class Route:
    """One key of `models`: an ordered chain of targets."""

    name: str
    """The alias or glob as written."""
    targets: tuple[Target, ...]
    max_cost_nano_usd: int | None = None
    """Ceiling of one request, all attempts together; the lowest on the way of nested aliases."""
    transforms: tuple[str, ...] | None = None
    """What may be done to a request that is too long (`middle-out`), () forbids it; None: nothing is said."""
    prefers_larger: bool = False
    """An overlong request goes to a target with a larger context before anything of it is cut."""
    cache: CacheRule | None = None
    """Whether its answers are kept; None: nothing is said."""

    @property
    def is_glob(self) -> bool:
        """Tell whether the name holds the one `*`."""
        return "*" in self.name


@dataclass(frozen=True, slots=True)
class Tenant:
    """A group of keys with defaults of its own."""

    name: str
    default_model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    """Aliases and globs its keys may ask for, as far as each key may too; None is all."""
    max_cost_nano_usd: int | None = None
    """Ceiling of one request of its keys."""
    provider_keys: Mapping[str, Secret] = field(default_factory=dict)
    """Its own credentials by provider: calls there go out with these, on its account."""
    not_ready: Mapping[str, str] = field(default_factory=dict)
    """By provider why its own credential cannot be used (`ACME_KEY is not set`): nothing of its is sent there."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Give its credentials: what no log and no client may see."""
        return tuple(secret.reveal() for secret in self.provider_keys.values())


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """A client key of routes.yaml; `files` keeps the SHA-256 of it, never the key itself."""

    name: str
    sha256_hex: str
    tenant: str | None = None
    limits: Limits = NO_LIMITS
    models: tuple[str, ...] | None = None
    """Aliases and globs it may ask for; None is all."""
    default_model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    max_cost_nano_usd: int | None = None
    """Ceiling of one request."""
    may_create_keys: bool = False
    """It may make keys that may do no more than itself."""
    cache: CacheRule | None = None
    """Whether answers to it are kept; None: nothing is said."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts are sent, and in which form."""

    id: str
    """First 12 hex digits of the SHA-256 of its address: it tells webhooks apart and shows none."""
    url: Secret
    """Slack's hold a token, so the whole of it is a secret."""
    format: str = "slack"
    """`slack` or `json`."""
    secret: Secret | None = None
    """What messages are signed with."""
    allow_private: bool = False
    """Plain http and private addresses are the operator's choice."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Give what no log may show: the address, what stands behind its host, and the secret."""
        url = self.url.reveal()
        behind = url.partition("://")[2].partition("/")[2]
        return (url, behind) if self.secret is None else (url, behind, self.secret.reveal())


@dataclass(frozen=True, slots=True)
class Alert:
    """One entry of `alerts`: what is watched, and who is told."""

    rules: tuple[Rule, ...]
    webhook: Webhook | None = None
    """None: the log only."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often one target is tried (design.md section 5)."""

    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Table:
    """One routes.yaml, whole: what every request is planned with."""

    id: str
    """First 12 hex digits of the SHA-256 of the file and of the names of what it drew in."""
    providers: Mapping[str, Provider]
    routes: Mapping[str, Route]
    """Exact aliases by name."""
    globs: tuple[Route, ...] = ()
    """Longest literal prefix first."""
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    keys: tuple[DeclaredKey, ...] = ()
    default_model: str | None = None
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    alerts: tuple[Alert, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """By place: `key:mobile`, `provider:openrouter`, `global` and so on; a place without any is left out."""
    walls: frozenset[str] = frozenset()
    """Of these places, the models and providers with a hard budget."""
    retention_s: float | None = RETENTION_S
    """How long attempts are kept before their day's sums stand for them; None: for ever."""
    caching: Caching = field(default_factory=Caching)
    notes: tuple[str, ...] = ()
    """What a start says aloud: no routes.yaml, providers not ready."""
    price_refresh_s: float | None = None
    """How often OpenRouter's prices are fetched; None: never, and none fetched earlier are used."""


class Catalogue:
    """Facts about models by provider and id; the shipped one is config/prices.json with config/models.yaml over it."""

    def __init__(self, facts: Mapping[str, Mapping[str, ModelFacts]] | None = None) -> None:
        """Keep facts by provider name, then model id."""
        self._facts = facts or {}

    def find(self, provider: str, model: str) -> ModelFacts:
        """Give what is known, empty facts when nothing is."""
        return self._facts.get(provider, {}).get(model) or ModelFacts()

    def stamp(self) -> tuple[object, ...]:
        """Tell one state of the facts from another; these never change."""
        return ()

    def renew(self, *, is_live: bool) -> tuple[str, ...]:
        """Take up what is new since the last time, and tell what the operator should know; here there is nothing."""
        return ()

    def list_models(self, provider: str) -> Iterable[str]:
        """Give the ids known of a provider."""
        return self._facts.get(provider, {}).keys()
