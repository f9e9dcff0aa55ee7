"""Keys and tenants of a table, and what must hold between them and its models (part of `files`, floor 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.files.caching import build_cache
from proxy.files.chains import Names
from proxy.files.document import Node
from proxy.files.names import check_askable
from proxy.files.problems import Problems
from proxy.files.schema import CallerOptions, KeyOptions, TenantOptions
from proxy.policy.limits import NO_LIMITS, Limits
from proxy.routing.table import DeclaredKey, Tenant


def build_tenants(
    entries: Mapping[str, TenantOptions | None], names: Names, *, node: Node, problems: Problems
) -> dict[str, Tenant]:
    """Give every tenant; names that no model or provider answers to are noted."""
    tenants: dict[str, Tenant] = {}
    for name, entry in entries.items():
        options = entry or TenantOptions()
        own = options.provider_keys or {}
        _check_models(options, names, node.at(name), problems)
        for provider in own:
            if provider not in names.providers:
                near = problems.suggest(provider, names.providers) or "; declare it under `providers`"
                place = node.at(name, "provider_keys", provider)
                problems.add(place, f"there is no provider `{provider}`{near}")
        tenants[name] = Tenant(
            name=name,
            default_model=options.default_model,
            params=_params(options),
            models=None if options.models is None else tuple(options.models),
            max_cost_nano_usd=options.max_cost,
            provider_keys={provider: key.secret for provider, key in own.items() if key.secret is not None},
            not_ready={provider: key.missing for provider, key in own.items() if key.missing is not None},
        )
    return tenants


def build_keys(
    entries: Sequence[KeyOptions], names: Names, limits: Mapping[str, Limits], *, node: Node, problems: Problems
) -> tuple[DeclaredKey, ...]:
    """Give every key by the hash of its value; findings are noted and never show a value."""
    keys: dict[str, DeclaredKey] = {}
    values: dict[str, str] = {}
    for index, options in enumerate(entries):
        here = node.at(index)
        if options.tenant is not None and options.tenant not in names.tenants:
            near = problems.suggest(options.tenant, names.tenants) or "; add it under `tenants`"
            problems.add(here.at("tenant"), f"there is no tenant `{options.tenant}`{near}")
        _check_models(options, names, here, problems)
        key = _build_key(options, limits.get(f"key:{options.name}", NO_LIMITS), here, problems)
        if key is not None and key.name in keys:
            problems.add(here.at("name"), f"two keys are named `{key.name}`; call one of them something else")
        elif key is not None:
            keys[key.name] = key
        if key is not None and (twin := values.setdefault(key.sha256_hex, key.name)) != key.name:
            problems.add(
                here.at("key", "key_sha256"), f"the key has the same value as `{twin}`; give it one of its own"
            )
    return tuple(keys.values())


def _check_models(options: CallerOptions, names: Names, node: Node, problems: Problems) -> None:
    for position, pattern in enumerate(options.models or ()):
        check_askable(pattern, names.models, node=node.at("models", position), problems=problems, is_pattern=True)
    check_askable(options.default_model, names.models, node=node.at("default_model"), problems=problems)


def _params(options: CallerOptions) -> Mapping[str, Any]:
    """Give the defaults for request fields, the one of them with a word of its own included."""
    params = options.params or {}
    return params if options.transforms is None else {"transforms": [*options.transforms], **params}


def _build_key(options: KeyOptions, limits: Limits, node: Node, problems: Problems) -> DeclaredKey | None:
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
        limits=limits,
        models=None if options.models is None else tuple(options.models),
        default_model=options.default_model,
        params=_params(options),
        max_cost_nano_usd=options.max_cost,
        may_create_keys=options.may_create_keys,
        cache=build_cache(options.cache),
    )
