"""Keys and tenants of a table, and what must hold between them and its models (part of `files`, floor 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from proxy.files.caching import build_cache
from proxy.files.chains import Chain, Names
from proxy.files.document import Node
from proxy.files.problems import Problems
from proxy.files.schema import KeyOptions, TenantOptions
from proxy.routing.principal import matches
from proxy.routing.resolve import SUFFIXES
from proxy.routing.table import DeclaredKey, Route, Target, Tenant


def build_tenants(
    entries: Mapping[str, TenantOptions | None], models: frozenset[str], *, node: Node, problems: Problems
) -> dict[str, Tenant]:
    """Give every tenant; a default that no model answers to is noted."""
    tenants: dict[str, Tenant] = {}
    for name, entry in entries.items():
        options = entry or TenantOptions()
        check_askable(options.default_model, models, node=node.at(name, "default_model"), problems=problems)
        tenants[name] = Tenant(name, options.default_model, options.params or {})
    return tenants


def build_keys(
    entries: Sequence[KeyOptions], names: Names, *, node: Node, problems: Problems
) -> tuple[DeclaredKey, ...]:
    """Give every key by the hash of its value; findings are noted and never show a value."""
    keys: dict[str, DeclaredKey] = {}
    values: dict[str, str] = {}
    for index, options in enumerate(entries):
        here = node.at(index)
        if options.tenant is not None and options.tenant not in names.tenants:
            near = problems.suggest(options.tenant, names.tenants) or "; add it under `tenants`"
            problems.add(here.at("tenant"), f"there is no tenant `{options.tenant}`{near}")
        for position, pattern in enumerate(options.models or ()):
            check_askable(pattern, names.models, node=here.at("models", position), problems=problems, is_pattern=True)
        check_askable(options.default_model, names.models, node=here.at("default_model"), problems=problems)
        key = _build_key(options, here, problems)
        if key is not None and key.name in keys:
            problems.add(here.at("name"), f"two keys are named `{key.name}`; call one of them something else")
        elif key is not None:
            keys[key.name] = key
        if key is not None and (twin := values.setdefault(key.sha256_hex, key.name)) != key.name:
            problems.add(
                here.at("key", "key_sha256"), f"the key has the same value as `{twin}`; give it one of its own"
            )
    return tuple(keys.values())


def check_askable(
    name: str | None, models: frozenset[str], *, node: Node, problems: Problems, is_pattern: bool = False
) -> None:
    """Note a name that no model of the file answers to, alias, suffix or glob; a pattern must meet at least one."""
    if name is None or problems.is_flooded:
        return
    if "*" in name and not is_pattern:
        problems.add(node, f"`{name}` is a glob; a default is one model, write its name")
    elif name not in models and not any(_overlap(name, model) for model in models) and not _is_variant(name, models):
        near = problems.suggest(name, models) or "; name one of `models`"
        problems.add(node, f"there is no model `{name}`{near}")


def check_prices(
    keys: Sequence[DeclaredKey],
    chains: Mapping[str, Chain],
    routes: Mapping[str, Route],
    problems: Problems,
) -> None:
    """Note named targets without a price that a key with a budget may ask for; a glob's are a matter of the request."""
    exact, patterns, everything = _index_budgets(keys)
    for name, route in routes.items():
        asking = everything or exact.get(name) or next((patterns[p] for p in patterns if matches(p, name)), None)
        if asking is None:
            continue
        written = [target for target in route.targets if not target.is_backup]
        for leg, target in zip(chains[name].legs, written, strict=True):
            if target.facts.prices is None and "*" not in target.model:
                problems.add(leg.place, _say_no_price(target, asking))


def _index_budgets(keys: Sequence[DeclaredKey]) -> tuple[dict[str, str], dict[str, str], str | None]:
    """Give the name of a key with a budget by what it may ask for: names, globs, everything."""
    exact: dict[str, str] = {}
    patterns: dict[str, str] = {}
    everything: str | None = None
    for key in keys:
        if key.budget is not None and key.models is None:
            everything = everything or key.name
        elif key.budget is not None:
            for name in key.models or ():
                (patterns if "*" in name else exact).setdefault(name, key.name)
    return exact, patterns, everything


def _build_key(options: KeyOptions, node: Node, problems: Problems) -> DeclaredKey | None:
    if (options.key is None) == (options.key_sha256 is None):
        message = 'a key has one of `key: "${NAME}"` and `key_sha256` (the SHA-256 of it)'
        if not node.is_wounded:
            problems.add(node, message)
        return None
    digest = options.key_sha256 or hashlib.sha256((options.key or "").encode()).hexdigest()
    return DeclaredKey(
        name=options.name,
        sha256_hex=digest,
        tenant=options.tenant,
        budget=options.budget,
        models=None if options.models is None else tuple(options.models),
        default_model=options.default_model,
        params=options.params or {},
        cache=build_cache(options.cache),
    )


def _is_variant(name: str, models: frozenset[str]) -> bool:
    stem, colon, suffix = name.rpartition(":")
    return bool(colon) and suffix in SUFFIXES and stem in models


def _overlap(pattern: str, model: str) -> bool:
    """Tell whether some name matches both; each holds at most one `*`."""
    if "*" not in pattern:
        return matches(model, pattern)
    if "*" not in model:
        return matches(pattern, model)
    head, _, tail = pattern.partition("*")
    other_head, _, other_tail = model.partition("*")
    return (head.startswith(other_head) or other_head.startswith(head)) and (
        tail.endswith(other_tail) or other_tail.endswith(tail)
    )


def _say_no_price(target: Target, key: str) -> str:
    free = "`price: {input: $0/M, output: $0/M}` when it is free"
    return (
        f"the price of `{target.name}` is not known, and the budget of key `{key}` cannot be kept without it;"
        f" give it one: `price: {{input: $1/M, output: $2/M}}`, {free}"
    )
