"""The members of routes.yaml, one class per mapping (part of `files`, floor 2).

This is the one place that says which words exist; config/routes.schema.json is generated from it. Classes check the
form of each member alone; what members say about each other (names, cycles, prices) is checked in `providers`,
`chains`, `routes` and `keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import core_schema

from proxy.files import values
from proxy.files.alert_options import AlertOptions
from proxy.files.limit_options import (
    PATTERNS_MAX,
    POOL_MAX,
    EachOptions,
    HolderOptions,
    MoneyOptions,
    PaceOptions,
    Rates,
    UpstreamKeyOptions,
)
from proxy.files.options import Options
from proxy.files.prices import PriceOptions, PricesOptions
from proxy.routing.table import RETENTION_S, Dialect

ATTEMPTS_MAX = 10
FAILURES = (
    "refuse",
    "rate_limit",
    "server_error",
    "hang",
    "cut",
    "error_event",
    "garbage",
    "no_usage",
    "empty_choices",
)
Transforms = list[Literal["middle-out"]]
STRATEGIES = ("two_tier", "ensemble", "hedge", "cheapest", "fastest", "weighted", "when", "strategy", "custom")


class TimeoutOptions(Options):
    """Four separate clocks; the tightest of target, model and nested models counts."""

    connect: values.Wait | None = Field(None, description="To reach the provider.")
    first_token: values.Wait | None = Field(
        None, description="To the first meaningful event of a stream, or to the whole of a JSON answer."
    )
    idle: values.Wait | None = Field(None, description="Between two reads of an answer that has begun.")
    total: values.Wait | None = Field(None, description="For the whole request, all attempts together.")


class ProviderOptions(MoneyOptions, PaceOptions):
    """An upstream account. Known providers need no entry; what is written here overrides what is known."""

    later: ClassVar[tuple[str, ...]] = ("weight", "timeouts")

    dialect: Dialect | None = Field(
        None,
        strict=False,
        description="How it is spoken to; needed unless the provider is a known one.",
        examples=["openai"],
    )
    base_url: values.Url | None = Field(
        None, description="Up to and including the version, http or https; may hold ${VAR}."
    )
    api_key: values.ProviderKey | None = Field(
        None, description="As ${VAR}; while the variable is not set the provider's targets are skipped."
    )
    api_keys: Annotated[list[UpstreamKeyOptions], Field(min_length=1, max_length=POOL_MAX)] | None = Field(
        None,
        description="Instead of `api_key`: several of them, each used while it has quota left.",
        examples=[["${FIRST_KEY}", "${SECOND_KEY}"]],
    )
    model_rates: Annotated[dict[values.ModelName, Rates], Field(max_length=PATTERNS_MAX)] | None = Field(
        None,
        description="Rates of models by a name with one *: all models that match share it.",
        examples=[{"*:free": "20/min"}],
    )
    headers: dict[values.HeaderName, values.HeaderValue] | None = Field(
        None, description="Sent on every call; values may hold ${VAR}.", examples=[{"X-Team": "search"}]
    )
    site_url: values.Url | None = Field(None, description="OpenRouter only: your app's address (HTTP-Referer).")
    site_name: values.HeaderValue | None = Field(
        None, description="OpenRouter only: your app's name (X-Title).", examples=["Example"]
    )
    on_disconnect: values.OnDisconnect = Field(
        "cancel",
        description="When the client leaves: `cancel` ends the call upstream, `drain` reads on for its usage.",
    )
    verify: bool = Field(default=True, description="Check the TLS certificate.")
    price: PriceOptions | None = Field(None, description="Price of every model here; beats the catalogue.")
    reconcile: bool = Field(
        default=True, description="OpenRouter only: ask it from time to time what it billed and what credit is left."
    )
    zdr: bool = Field(
        default=False, description="It stores nothing of what it is sent: requests with `provider.zdr` may go there."
    )
    data_collection: Literal["allow", "deny"] | None = Field(
        None, description="`deny`: it neither stores nor trains; requests that ask for that may go there."
    )
    first_token: values.Duration | None = Field(None, description="Simulated only: wait before the first token.")
    speed: values.Speed | None = Field(None, description="Simulated only: tokens a second.")
    length: values.PositiveCount | None = Field(
        None, description="Simulated only: tokens of an answer.", examples=[120]
    )
    seed: values.Count | None = Field(
        None, description="Simulated only: the same seed gives the same answers.", examples=[7]
    )
    fail: Literal[FAILURES] | None = Field(  # type: ignore[valid-type]
        None, description="Simulated only: how it fails.", examples=["server_error"]
    )
    fail_after: values.Count | None = Field(
        None, description="Simulated only: events sent before it fails.", examples=[10]
    )
    fail_rate: values.Share | None = Field(None, description="Simulated only: share of requests that fail.")


class StaticOptions(Options):
    """A fixed answer, made here: no provider, no price."""

    content: values.Content = Field(description="What clients get.", examples=["Please try again later."])


class CacheOptions(Options):
    """Whether answers are given again to equal requests: true, false, or for how long (`10m`, `{ttl: 10m}`)."""

    ttl: values.Wait | None = Field(None, description="How long an answer may be given again.", examples=["10m"])
    enabled: bool = Field(default=True, description="The same as `cache: true` and `cache: false`.")

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {"enabled": value}
        return value if isinstance(value, dict) else {"ttl": _short(value, "true, false or {ttl: 10m} is wanted")}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors that true, false or a duration will do."""
        own = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [{"type": "boolean"}, own["properties"]["ttl"]["anyOf"][0], own]}


class TargetOptions(PaceOptions):
    """One place to try: a provider's model, another model of this file, or a fixed answer."""

    later: ClassVar[tuple[str, ...]] = (*STRATEGIES, "on", "weight")
    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("direct_backup", "transforms", "prefer", "max_cost", "params", "cache"),
        "an option of the model; put it beside `targets`",
    )

    target: values.ModelText | None = Field(
        None,
        description="PROVIDER/MODEL, or the name of another model of this file.",
        examples=["openrouter/openai/gpt-4o"],
    )
    model: values.ModelText | None = Field(
        None, description="Another model of this file, even when its name looks like a provider's.", examples=["chat"]
    )
    static: StaticOptions | None = Field(
        None, description="A last resort: this text is the answer.", examples=[{"content": "Please try again later."}]
    )
    price: PriceOptions | None = Field(None, description="Price of this target; beats model, provider and catalogue.")
    timeouts: TimeoutOptions | None = Field(None, description="Clocks of this target.")
    context: values.PositiveCount | None = Field(
        None, description="Tokens it can read and write together.", examples=["128k"]
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"target": _short(value)}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors that a bare string will do."""
        return {"anyOf": [_TARGET_TEXT, handler.resolve_ref_schema(handler(schema))]}


class ModelOptions(EachOptions):
    """A name clients ask for: targets in the order to try, and options for all of them."""

    later: ClassVar[tuple[str, ...]] = (*STRATEGIES, "on", "weight")

    targets: list[TargetOptions] = Field(
        description="What to try, in this order.", examples=[["openrouter/openai/gpt-4o", "openai/gpt-4o"]]
    )
    max_cost: values.Amount | None = Field(None, description="Ceiling of one request, all attempts together.")
    timeouts: TimeoutOptions | None = Field(None, description="Clocks of every target here.")
    params: values.Params | None = Field(
        None, description="Defaults for request fields; the request wins.", examples=[{"temperature": 0.2}]
    )
    price: PriceOptions | None = Field(None, description="Price of every target here that names none.")
    direct_backup: bool | None = Field(
        None, description="Behind each OpenRouter target try the same model at its maker.", examples=[True]
    )
    transforms: Transforms | None = Field(
        None,
        description="What may be done to a request that is too long; `[]` forbids it.",
        examples=[["middle-out"]],
    )
    prefer: Literal["larger_context"] | None = Field(
        None,
        description="A request that is too long goes to a target with a larger context before anything is cut.",
        examples=["larger_context"],
    )
    cache: CacheOptions | None = Field(
        None, description="Keep its answers for equal requests; wins over `defaults`.", examples=[{"ttl": "10m"}]
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"targets": value}
        if not isinstance(value, dict):
            return {"targets": [_short(value)]}
        if "targets" not in value and not {"target", "model", "static"}.isdisjoint(value):
            return {"targets": [value]}
        targets = value.get("targets")
        return {**value, "targets": [targets]} if isinstance(targets, (str, dict)) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors that a string, a target or a list of targets will do."""
        own = handler.resolve_ref_schema(handler(schema))
        targets = own["properties"]["targets"]
        many = {"type": "array", "items": targets["items"], "minItems": 1}
        own["properties"]["targets"] = {**targets, "minItems": 1}
        return {"anyOf": [targets["items"], many, own]}


class CallerOptions(HolderOptions):
    """What a key and a tenant may both say."""

    models: list[values.ModelText] | None = Field(
        None,
        description="Models and globs that may be asked for; all when left out. A key and its tenant must both allow.",
        examples=[["chat", "gpt-*"]],
    )
    default_model: values.ModelText | None = Field(
        None, description="Used when a request names no model.", examples=["chat"]
    )
    params: values.Params | None = Field(
        None,
        description="Defaults for request fields; a key's win over its tenant's, both over the model's.",
        examples=[{"max_tokens": 2048}],
    )
    max_cost: values.Amount | None = Field(
        None, description="Ceiling of one request, all attempts together; the lowest that holds counts."
    )
    transforms: Transforms | None = Field(
        None, description="For requests that do not say themselves.", examples=[["middle-out"]]
    )


class TenantOptions(CallerOptions):
    """A group of keys with defaults and limits of its own."""

    provider_keys: dict[values.ProviderName, values.ProviderKey] | None = Field(
        None,
        description="Its own credentials by provider; calls there are on its account alone.",
        examples=[{"openrouter": "${ACME_OPENROUTER_KEY}"}],
    )


class KeyOptions(CallerOptions):
    """A client's key."""

    later: ClassVar[tuple[str, ...]] = ("provider_keys",)

    name: values.Name = Field(description="Shown in usage and logs; unique.", examples=["mobile"])
    key: values.ClientKey | None = Field(None, description="8 to 256 visible ASCII characters, best as ${VAR}.")
    key_sha256: values.KeySha256 | None = Field(None, description="Instead of `key`: its SHA-256, 64 hex digits.")
    tenant: values.Name | None = Field(None, description="One of `tenants`.", examples=["acme"])
    may_create_keys: bool = Field(
        default=False, description="It may make keys over the API, which may do no more than itself."
    )
    cache: CacheOptions | None = Field(
        None, description="Keep answers to it for equal requests of its tenant; wins over the model's.", examples=[True]
    )


class RetryOptions(Options):
    """How often a target is tried."""

    attempts: int = Field(
        3,
        ge=1,
        le=ATTEMPTS_MAX,
        description="Tries of one target; a failing target is called once while another is untried.",
        examples=[3],
    )


class DefaultOptions(Options):
    """What holds where nothing nearer is said."""

    later: ClassVar[tuple[str, ...]] = ("key_budget", "max_cost", "on_disconnect")
    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("budget", "rate", "parallel", "wait", "timezone", "users", "tags"),
        "a limit of the whole gateway; put it at the top level of the file, or on a key, tenant, model or provider",
    )

    default_model: values.ModelText | None = Field(
        None, description="Used when a request names no model.", examples=["chat"]
    )
    retry: RetryOptions | None = Field(None, description="How often a target is tried.", examples=[{"attempts": 3}])
    params: values.Params | None = Field(
        None, description="Defaults for request fields of every model.", examples=[{"max_tokens": 4096}]
    )
    timeouts: TimeoutOptions | None = Field(
        None, description="Clocks where neither target nor model sets one.", examples=[{"total": "15m"}]
    )
    direct_backup: bool = Field(default=False, description="For models that do not say themselves.")
    transforms: Transforms | None = Field(
        None, description="For models that do not say themselves.", examples=[["middle-out"]]
    )
    cache: CacheOptions | None = Field(None, description="For models and keys that do not say themselves.")


class RoutesOptions(HolderOptions):
    """A whole routes.yaml."""

    model_config = ConfigDict(title="Turnpike routing table")
    later: ClassVar[tuple[str, ...]] = ("transforms", "strategies")

    providers: dict[values.ProviderName, ProviderOptions | None] | None = Field(
        None,
        description="Upstream accounts by name. Known ones are ready as soon as their variable is set.",
        examples=[{"local": {"dialect": "openai", "base_url": "http://127.0.0.1:11434/v1"}}],
    )
    models: dict[values.ModelName, ModelOptions] = Field(
        description="What clients may ask for, by name; a name may hold one *, which a target's * repeats.",
        examples=[{"gpt-4o": ["openrouter/openai/gpt-4o", "openai/gpt-4o"], "*": "openrouter/*"}],
    )
    defaults: DefaultOptions | None = Field(None, description="What holds where nothing nearer is said.")
    prices: PricesOptions | None = Field(
        None, description="Where prices come from, besides the catalogue that ships.", examples=[{"refresh": "24h"}]
    )
    tenants: dict[values.Name, TenantOptions | None] | None = Field(
        None, description="Groups of keys by name.", examples=[{"acme": {"default_model": "chat"}}]
    )
    keys: list[KeyOptions] | None = Field(
        None,
        description="Client keys; more can be minted with `turnpike keys create`.",
        examples=[[{"name": "mobile", "key": "${MOBILE_KEY}", "budget": "$5/day"}]],
    )
    retention: values.Retention = Field(
        RETENTION_S, description="How long each attempt is kept; then its day's sums alone are. At least 35d."
    )
    cache: CacheOptions | None = Field(
        None,
        description="For how long answers are kept where a model, a key or a request asks for it and does not say;"
        " false: never, whoever asks.",
        examples=[{"ttl": "10m"}],
    )
    alerts: list[AlertOptions] | None = Field(
        None,
        description="What the operator is told, and where.",
        examples=[[{"webhook": "${ALERT_URL}", "when": ["spend > 80%", "provider_down"]}]],
    )


_TARGET_TEXT = {
    "type": "string",
    "description": "PROVIDER/MODEL, or the name of another model of this file.",
    "examples": ["openrouter/openai/gpt-4o"],
}


def _short(value: Any, wanted: str = "a target is wanted (PROVIDER/MODEL or a model's name)") -> Any:
    """Let only text through as a short form; the rest would be told about members it does not have."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    kind = "empty" if value is None else "a list" if isinstance(value, list) else "a number, true or false"
    raise ValueError(f"{wanted}, this is {kind}")


def routes_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of routes.yaml: the text of config/routes.schema.json."""
    schema = RoutesOptions.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
