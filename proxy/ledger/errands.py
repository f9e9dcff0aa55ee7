"""What the gateway does to keys and limits of its own accord (floor 2), alike over every registry."""

from __future__ import annotations

from functools import partial

from proxy.ledger import deeds
from proxy.ledger.audit import Act
from proxy.ledger.deeds import Conflict, note
from proxy.ledger.records import KeyRecord
from proxy.ledger.registry import Registry, Store
from proxy.ledger.rules import show_limits
from proxy.policy.limits import Limits

GATEWAY = "gateway"
ROUTES = "routes.yaml"


def declaring(now_s: float) -> Act:
    """Say that a routes.yaml does it."""
    return Act(ROUTES, now_s)


async def add_key(registry: Registry, key: KeyRecord) -> bool:
    """Add a key as it is given; False when the name is taken."""
    try:
        await registry.write(partial(_add_key, key=key))
    except Conflict:
        return False
    return True


async def end_key(registry: Registry, name: str, now_s: float) -> bool:
    """Disable a key for good; False when there is none."""
    return await registry.write(partial(_end_key, name=name, act=Act(GATEWAY, now_s)))


async def limit(registry: Registry, place: str, limits: Limits, now_s: float) -> None:
    """Change the limits of a place, whoever wrote them before."""
    await registry.write(partial(_limit, place=place, limits=limits, act=Act(GATEWAY, now_s)))


def _add_key(store: Store, key: KeyRecord) -> None:
    if store.find_key(key.name) is not None:
        raise Conflict(f"A key named {key.name!r} exists already.", param="name")
    store.insert_key(key)
    store.put_limits(f"key:{key.name}", key.limits)
    note(store, Act(GATEWAY, key.created_at_s), "key.create", f"key:{key.name}", (None, deeds.show_key(key)))


def _end_key(store: Store, name: str, act: Act) -> bool:
    if store.find_key(name) is None:
        return False
    deeds.revoke_key(store, name, act)
    return True


def _limit(store: Store, place: str, limits: Limits, act: Act) -> None:
    store.put_limits(place, limits)
    deeds.renew(store, place)
    note(store, act, "limits.set", place, (None, show_limits(limits)))
