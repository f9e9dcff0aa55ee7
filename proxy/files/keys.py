"""Keys and tenants of a table, and what must hold between them and its models (part of `files`, floor 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from proxy.files.chains import Names
from proxy.files.document import Node
from proxy.files.names import check_askable
from proxy.files.problems import Problems
from proxy.files.schema import KeyOptions, TenantOptions
from proxy.policy.limits import NO_LIMITS, Limits
from proxy.routing.table import DeclaredKey, Tenant


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
        for position, pattern in enumerate(options.models or ()):
            check_askable(pattern, names.models, node=here.at("models", position), problems=problems, is_pattern=True)
        check_askable(options.default_model, names.models, node=here.at("default_model"), problems=problems)
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
        params=options.params or {},
    )
