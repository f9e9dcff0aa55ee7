"""Providers of a table: the known ones of config/providers.yaml under the entries of routes.yaml (part of `files`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from proxy.files.document import Node
from proxy.files.environment import Credential, Environment
from proxy.files.known import KnownProvider, build_flags
from proxy.files.pools import Pool, build_pool, check_pool
from proxy.files.prices import build_prices
from proxy.files.problems import Problems
from proxy.files.schema import ProviderOptions
from proxy.pricing import Prices
from proxy.routing.caching import PROVIDER as CACHED
from proxy.routing.table import Dialect, Provider, Simulation

STATIC = "static"
"""The provider behind `static:`; nobody else may have its name."""
KNOBS = ("first_token", "speed", "length", "seed", "fail", "fail_after", "fail_rate")
_NETWORKED = ("base_url", "api_key", "api_keys", "headers", "verify", "site_url", "site_name")
_OPENROUTER_ONLY = {
    "site_url": "use `headers` instead",
    "site_name": "use `headers` instead",
    "reconcile": "leave it out",
}
_DIALECTS = ", ".join(Dialect)

_OWN_MAKER = {Dialect.OPENROUTER: "openrouter", Dialect.ANTHROPIC: "anthropic", Dialect.GOOGLE: "google"}
"""Dialects spoken by one company: a second account there needs no base_url."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One provider before it is built."""

    name: str
    options: ProviderOptions
    known: KnownProvider | None
    node: Node
    written: frozenset[str]
    """Members routes.yaml itself gives."""


def build_providers(
    entries: Mapping[str, ProviderOptions | None],
    known: Mapping[str, KnownProvider],
    environment: Environment,
    *,
    node: Node,
    problems: Problems,
) -> dict[str, Provider]:
    """Give every provider, declared ones and known ones; what cannot be built is noted and left out."""
    built: dict[str, Provider] = {}
    names_by_url = {entry.base_url: name for name, entry in known.items() if entry.base_url}
    for name in [*known, *(name for name in entries if name not in known)]:
        entry = _merge(name, entries.get(name), known, node.at(name))
        if _is_sound(entry, problems):
            check_pool(entry.options.api_keys or (), entry.node, problems)
            provider = _build(entry, environment)
            catalogue_name = None if name in known else names_by_url.get(provider.base_url)
            built[name] = replace(provider, catalogue_name=catalogue_name)
    return built


def build_static(content: str) -> Provider:
    """Give the built-in provider of one fixed answer: at once, free, and kept nowhere."""
    return Provider(
        name=STATIC,
        dialect=Dialect.SIMULATED,
        price=Prices(Decimal(0), Decimal(0)),
        simulation=Simulation(first_token_s=0.0, speed_per_s=math.inf, content=content),
        zdr=True,
        data_collection="deny",
    )


def _merge(name: str, own: ProviderOptions | None, known: Mapping[str, KnownProvider], node: Node) -> _Entry:
    own = own or ProviderOptions()
    base = known.get(name)
    model = base or (known.get(_OWN_MAKER.get(own.dialect, "")) if own.dialect else None)
    written = frozenset(own.model_fields_set)
    if model is None:
        return _Entry(name, own, None, node, written)
    changes: dict[str, Any] = {member: getattr(own, member) for member in written}
    if base is None:
        changes["key_variables"] = []  # another account: the known variable is not its key
    merged = model.model_copy(update=changes)
    return _Entry(name, merged, merged, node, written)


def _is_sound(entry: _Entry, problems: Problems) -> bool:
    wrong = _find_wrong(entry)
    for member, message in wrong:
        is_given = entry.node.member(member) is not None
        if is_given or not entry.node.is_wounded:
            problems.add(entry.node.at(member), message)
    return not wrong


def _find_wrong(entry: _Entry) -> list[tuple[str, str]]:
    options, dialect = entry.options, entry.options.dialect
    if entry.name == STATIC:
        return [("", f"`{STATIC}` is the provider of fixed answers; call yours something else")]
    if entry.name == CACHED:
        return [("", f"`{CACHED}` is what kept answers are booked as; call yours something else")]
    if dialect is None:
        return [("dialect", f"`dialect` is missing for a provider that is not a known one; one of {_DIALECTS}")]
    if dialect is Dialect.SIMULATED:
        idle = [member for member in _NETWORKED if member in entry.written]
        return [(member, f"`{member}` means nothing to a simulated provider; leave it out") for member in idle]
    if options.api_key is not None and options.api_keys is not None:
        return [("api_keys", "a provider has either `api_key` or `api_keys`; put the one key into the list")]
    knobs = [member for member in KNOBS if member in entry.written]
    wrong = [(knob, f"`{knob}` is for `dialect: simulated` only; leave it out") for knob in knobs]
    if dialect is not Dialect.OPENROUTER:
        sites = [member for member in _OPENROUTER_ONLY if member in entry.written]
        wrong += [(site, f"`{site}` is for OpenRouter only; {_OPENROUTER_ONLY[site]}") for site in sites]
    if not options.base_url and not (entry.known and not entry.written):
        wrong.append(
            ("base_url", "`base_url` is missing; write it as https://host/v1, up to and including the version")
        )
    return wrong


def _build(entry: _Entry, environment: Environment) -> Provider:
    options = entry.options
    assert options.dialect is not None
    is_simulated = options.dialect is Dialect.SIMULATED
    pool = build_pool(options.api_keys or ())
    credential = Credential() if is_simulated else _find_credential(entry, pool, environment)
    return Provider(
        name=entry.name,
        dialect=options.dialect,
        base_url="" if is_simulated else options.base_url or "",
        api_key=credential.secret,
        pool=pool.keys,
        pool_missing=pool.missing,
        headers={} if is_simulated else _headers(options),
        on_disconnect=options.on_disconnect,
        verify=options.verify,
        price=build_prices(options.price),
        is_reconciled=options.reconcile and options.dialect is Dialect.OPENROUTER,
        model_rates={name: tuple(dict.fromkeys(rates)) for name, rates in (options.model_rates or {}).items()},
        flags=build_flags(entry.known),
        simulation=_simulation(options) if is_simulated else None,
        not_ready=_find_not_ready(options, credential),
        zdr=options.zdr,
        data_collection="deny" if options.zdr else options.data_collection or "allow",
    )


def _find_credential(entry: _Entry, pool: Pool, environment: Environment) -> Credential:
    if entry.options.api_keys is not None:
        return pool.credential
    if entry.options.api_key is not None:
        return entry.options.api_key
    variables = tuple(entry.known.key_variables) if entry.known else ()
    return environment.credential_from(variables) if variables else Credential()


def _find_not_ready(options: ProviderOptions, credential: Credential) -> str | None:
    if credential.missing:
        return credential.missing
    needs_url = options.dialect is not Dialect.SIMULATED and not options.base_url
    return "its base_url is not set" if needs_url else None


def _headers(options: ProviderOptions) -> dict[str, str]:
    headers = dict(options.headers or {})
    if options.site_url:
        headers["HTTP-Referer"] = options.site_url
    if options.site_name:
        headers["X-Title"] = options.site_name
    return headers


def _simulation(options: ProviderOptions) -> Simulation:
    knobs = {
        "first_token_s": options.first_token,
        "speed_per_s": options.speed,
        "length_tokens": options.length,
        "seed": options.seed,
        "fail": options.fail,
        "fail_after_events": options.fail_after,
        "fail_rate": options.fail_rate,
    }
    given: dict[str, Any] = {name: value for name, value in knobs.items() if value is not None}
    return Simulation(**given)
