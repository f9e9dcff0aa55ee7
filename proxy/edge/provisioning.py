"""OpenRouter's provisioning of keys (floor 5): `GET|POST keys`, `GET|PATCH|DELETE keys/{hash}` on both prefixes.

Amounts are JSON numbers, `limit` is per `limit_reset` or for all time, the key itself is told once. `hash` is what we
keep of a key; the SHA-256 of it is understood too. Whoever has the admin key manages every key; a client key that may
make keys manages those it made, which may do no more than itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.edge import terms
from proxy.edge.admin import CREATED, read_object
from proxy.edge.answers import iso_time, json_response, usd_number
from proxy.edge.auth import mint_key
from proxy.edge.services import Services
from proxy.errors import ClientError, NotFound, PermissionRefused, Unauthenticated
from proxy.ledger import deeds
from proxy.ledger.audit import Act
from proxy.ledger.records import BudgetState, KeyRecord, UsageQuery
from proxy.money import AMOUNT_NANO_USD_MAX, Budget, Period, to_nano_usd
from proxy.policy.calendar import find_window

PAGE = 100
"""Keys in one answer, as at OpenRouter."""
RESETS = {"daily": Period.DAY, "weekly": Period.WEEK, "monthly": Period.MONTH}
_WORDS = {period: word for word, period in RESETS.items()}
_FIELDS = frozenset({"name", "limit", "limit_reset", "include_byok_in_limit", "expires_at", "workspace_id"})
_CREATE_FIELDS = _FIELDS | {"creator_user_id"}
_UPDATE_FIELDS = (_FIELDS - {"expires_at"}) | {"disabled"}
_FIGURES = {
    "usage": Period.TOTAL,
    "usage_daily": Period.DAY,
    "usage_weekly": Period.WEEK,
    "usage_monthly": Period.MONTH,
}


@dataclass(frozen=True, slots=True)
class _Manager:
    """Who manages keys, and which."""

    act: Act
    maker: KeyRecord | None
    """None: the administrator."""

    def manages(self, key: KeyRecord) -> bool:
        """Tell whether a key is his."""
        return not key.is_revoked and (self.maker is None or key.parent == self.maker.name)


class Provisioning:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services
        self._registry = services.ledger.registry

    async def list_keys(self, request: Request) -> Response:
        """`GET keys?offset=&include_disabled=`: a hundred at a time, the newest first."""
        manager = await self._identify(request)
        asked = request.query_params
        with_disabled = asked.get("include_disabled", "").lower() in {"true", "1"}
        offset = asked.get("offset") or "0"
        if not (offset.isascii() and offset.isdigit() and len(offset) < 10):  # a number in 32 bits
            raise ClientError("`offset` must be a whole number.", param="offset")
        keys = [key for key in await self._services.ledger.list_keys() if manager.manages(key)]
        found = sorted(
            (key for key in keys if with_disabled or key.is_enabled), key=lambda key: (-key.created_at_s, key.name)
        )
        page = found[int(offset) : int(offset) + PAGE]
        return json_response({"data": await self._entries(page, manager.act.at_s)})

    async def create_key(self, request: Request) -> Response:
        """`POST keys`: 201, the key beside its entry."""
        manager = await self._identify(request)
        fields = await read_object(request)
        terms.check_fields(fields, _CREATE_FIELDS)
        key, maker = mint_key(), manager.maker
        draft = KeyRecord(
            name=terms.read_name(fields.get("name")),
            digest=self._services.authenticator.digest(key),
            created_at_s=manager.act.at_s,
        )
        if maker is not None:
            draft = replace(
                draft,
                parent=maker.name,
                tenant=maker.tenant,
                models=maker.models,
                params=maker.params,
                expires_at_s=maker.expires_at_s,
            )
        record = _edit(draft, fields)
        made = await self._registry.write(partial(deeds.create_key, key=record, act=manager.act))
        (entry,) = await self._entries([made], manager.act.at_s)
        return json_response({"data": entry, "key": key}, status=CREATED)

    async def show_key(self, request: Request) -> Response:
        """`GET keys/{hash}`."""
        manager = await self._identify(request)
        key = await self._find(request, manager)
        (entry,) = await self._entries([key], manager.act.at_s)
        return json_response({"data": entry})

    async def update_key(self, request: Request) -> Response:
        """`PATCH keys/{hash}`: `disabled`, `limit`, `limit_reset`; a name stays, the books know the key by it."""
        manager = await self._identify(request)
        fields = await read_object(request)
        terms.check_fields(fields, _UPDATE_FIELDS)
        key = await self._find(request, manager)
        if fields.get("name", key.name) != key.name:
            raise ClientError("A key's name stays: its figures are kept under it. Make another key.", param="name")
        edit = partial(_edit, fields=fields)
        changed = await self._registry.write(partial(deeds.update_key, name=key.name, edit=edit, act=manager.act))
        (entry,) = await self._entries([changed], manager.act.at_s)
        return json_response({"data": entry})

    async def delete_key(self, request: Request) -> Response:
        """`DELETE keys/{hash}`: for good."""
        manager = await self._identify(request)
        key = await self._find(request, manager)
        if key.is_declared:
            raise deeds.declared(f"The key {key.name!r}")
        await self._registry.write(partial(deeds.revoke_key, name=key.name, act=manager.act))
        return json_response({"data": {"success": True}, "deleted": True})

    async def _identify(self, request: Request) -> _Manager:
        """Take the admin key, or a client key that may make keys; raises `Unauthenticated`, `PermissionRefused`."""
        services = self._services
        if services.guard.holds(request):
            return _Manager(services.guard.act_of(request, "admin"), None)
        services.guard.refuse_guessers(request)
        try:
            record = await services.authenticator.find(request.scope["headers"])
        except Unauthenticated as error:
            if error.code == Unauthenticated.code:
                services.guard.count_failure(request)
            raise
        if not record.may_create_keys or record.parent is not None:
            msg = "This key may not manage keys; use the admin key, or one made with `may_create_keys`."
            raise PermissionRefused(msg, code="not_allowed")
        return _Manager(services.guard.act_of(request, f"key:{record.name}"), record)

    async def _find(self, request: Request, manager: _Manager) -> KeyRecord:
        """Find a key by its hash; one that is somebody else's is as unknown as one that never was."""
        asked = request.path_params["hash"]
        digests = {asked.lower(), self._services.authenticator.digest_sha256(asked)}
        keys = await self._services.ledger.list_keys()
        found = next((key for key in keys if key.digest in digests and manager.manages(key)), None)
        if found is None:
            raise NotFound("There is no key of that hash.", code="key_not_found")
        return found

    async def _entries(self, keys: Sequence[KeyRecord], now_s: float) -> list[dict[str, Any]]:
        used = {name: await self._spent(period, now_s) for name, period in _FIGURES.items()}
        return [
            _entry(
                key,
                {name: used[name].get(key.name, 0) for name in used},
                await self._services.ledger.budgets(key.name, now_s),
            )
            for key in keys
        ]

    async def _spent(self, period: Period, now_s: float) -> Mapping[str, int]:
        """Sum what every key spent in a period that is under way."""
        from_s = None if period is Period.TOTAL else find_window(period, now_s).starts_s
        sums = await self._services.ledger.sum_usage(UsageQuery(("key",), from_s=from_s))
        return {one.group[0]: one.cost_nano_usd for one in sums}


def _entry(key: KeyRecord, used: Mapping[str, int], budgets: Sequence[BudgetState]) -> dict[str, Any]:
    """Give a key as OpenRouter shows one; `limit` is the first of its own hard budgets."""
    budget = _first_wall(key)
    left = min(
        (max(0, one.limit_nano_usd - one.posted_nano_usd - one.held_nano_usd) for one in budgets if not one.is_soft),
        default=None,
    )
    return {
        "hash": key.digest,
        "name": key.name,
        "label": key.name,
        "disabled": not key.is_enabled,
        "limit": None if budget is None else usd_number(budget.limit_nano_usd),
        "limit_remaining": None if left is None else usd_number(left),
        "limit_reset": None if budget is None else _WORDS.get(budget.period),
        "include_byok_in_limit": True,
        **{name: usd_number(amount) for name, amount in used.items()},
        "byok_usage": 0,
        "byok_usage_daily": 0,
        "byok_usage_weekly": 0,
        "byok_usage_monthly": 0,
        "created_at": iso_time(key.created_at_s),
        "updated_at": iso_time(key.updated_at_s or key.created_at_s),
        "expires_at": iso_time(key.expires_at_s),
        "creator_user_id": None,
        "workspace_id": None,
    }


def _edit(key: KeyRecord, fields: Mapping[str, Any]) -> KeyRecord:
    """Give a key with OpenRouter's fields said of it changed."""
    _check_flag(fields, "include_byok_in_limit")
    _check_flag(fields, "disabled")
    if "disabled" in fields:
        key = replace(key, is_enabled=not fields["disabled"])
    if fields.get("expires_at") is not None:
        key = terms.edit_key(key, {"expires_at": fields["expires_at"]}, key.created_at_s)
    if not {"limit", "limit_reset"} & fields.keys():
        return key
    wall = _first_wall(key)
    amount, period = (None, Period.TOTAL) if wall is None else (wall.limit_nano_usd, wall.period)
    amount = _read_limit(fields["limit"]) if "limit" in fields else amount
    period = _read_reset(fields["limit_reset"]) if "limit_reset" in fields else period
    others = tuple(budget for budget in key.limits.budgets if budget is not wall)
    own = () if amount is None else (Budget(amount, period),)
    return replace(key, limits=replace(key.limits, budgets=own + others))


def _first_wall(key: KeyRecord) -> Budget | None:
    return next((budget for budget in key.limits.budgets if not budget.is_soft), None)


def _check_flag(fields: Mapping[str, Any], name: str) -> None:
    if not isinstance(fields.get(name, False), bool):
        raise ClientError(f"`{name}` must be true or false.", param=name)


def _read_limit(value: object) -> int | None:
    """Read USD as a JSON number, exact to the digits it shows."""
    if value is None:
        return None
    msg = "`limit` must be an amount in USD, 0 or more, or null for none."
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ClientError(msg, param="limit")
    try:
        amount = to_nano_usd(Decimal(repr(value)))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ClientError(msg, param="limit") from error
    if not 0 <= amount <= AMOUNT_NANO_USD_MAX:
        raise ClientError(msg, param="limit")
    return amount


def _read_reset(value: object) -> Period:
    if value is None:
        return Period.TOTAL
    if not isinstance(value, str) or value not in RESETS:
        raise ClientError(f"`limit_reset` must be one of {', '.join(RESETS)}, or null.", param="limit_reset")
    return RESETS[value]
