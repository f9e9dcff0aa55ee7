"""`/admin/*` (floor 5): keys, limits, credits and the audit log, for whoever has the admin key; bearer only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from proxy.edge import shapes, terms
from proxy.edge.answers import json_response
from proxy.edge.auth import mint_key
from proxy.edge.body import read_body
from proxy.edge.services import Services
from proxy.errors import ClientError, InvalidJson
from proxy.files import parse_duration_s
from proxy.ledger import deeds
from proxy.ledger.audit import Act
from proxy.ledger.records import KeyRecord
from proxy.ledger.tenancy import Grant
from proxy.money import parse_amount

BODY_BYTES_MAX = 1 << 20
PAGE_DEFAULT = 100
PAGE_MAX = 1_000
GRACE_S_MAX = 30 * 86_400
NOTE_CHARS_MAX = 200
CREATED = 201

_CREATE_FIELDS = terms.KEY_FIELDS | {"name", "tenant", "key_sha256"}
_GRANT_FIELDS = frozenset({"key", "tenant", "amount", "note"})


class Admin:
    """The endpoints of keys, limits, credits and the audit log."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services
        self._registry = services.ledger.registry

    # ------------------------------------------------------------ keys

    async def list_keys(self, request: Request) -> Response:
        """`GET /admin/keys?tenant=&state=&offset=&limit=`."""
        act = await self._services.guard.admit(request)
        tenant, state = request.query_params.get("tenant"), request.query_params.get("state")
        if state not in {None, *shapes.STATES}:
            raise ClientError(f"`state` must be one of {', '.join(shapes.STATES)}.", param="state")
        keys = [shapes.key_object(key, act.at_s) for key in await self._services.ledger.list_keys()]
        found = [key for key in keys if tenant in {None, key["tenant"]} and state in {None, key["state"]}]
        return json_response({"object": "list", "data": _page(found, request), "total": len(found)})

    async def create_key(self, request: Request) -> Response:
        """`POST /admin/keys`: the key's value is in this answer and nowhere else."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request)
        terms.check_fields(fields, _CREATE_FIELDS)
        key, digest = self._mint(fields.get("key_sha256"))
        tenant = fields.get("tenant")
        record = KeyRecord(
            name=terms.read_name(fields.get("name")),
            digest=digest,
            tenant=None if tenant is None else terms.read_name(tenant, "tenant"),
            created_at_s=act.at_s,
        )
        record = terms.edit_key(record, _without(fields, "name", "tenant", "key_sha256"), act.at_s)
        made = await self._registry.write(partial(deeds.create_key, key=record, act=act))
        shown = shapes.key_object(made, act.at_s)
        return json_response({**shown, **({} if key is None else {"key": key})}, status=CREATED)

    async def show_key(self, request: Request) -> Response:
        """`GET /admin/keys/{name}`: with how its budgets stand."""
        act = await self._services.guard.admit(request)
        name = request.path_params["name"]
        key = await self._registry.read(partial(deeds.find_key, name=name))
        budgets = await self._services.ledger.budgets(name, act.at_s)
        shown = shapes.key_object(key, act.at_s)
        return json_response({**shown, "budgets": [shapes.budget_object(one) for one in budgets]})

    async def update_key(self, request: Request) -> Response:
        """`PATCH /admin/keys/{name}`: holds from the key's next request on."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request)
        terms.check_fields(fields, terms.KEY_FIELDS)
        edit = partial(terms.edit_key, fields=fields, now_s=act.at_s)
        deed = partial(deeds.update_key, name=request.path_params["name"], edit=edit, act=act)
        return json_response(shapes.key_object(await self._registry.write(deed), act.at_s))

    async def rotate_key(self, request: Request) -> Response:
        """`POST /admin/keys/{name}/rotate {"grace": "1h"}`: another value; the former ends at once or behind it."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request, may_be_empty=True)
        terms.check_fields(fields, frozenset({"grace"}))
        key = mint_key()
        deed = partial(
            deeds.rotate_key,
            name=request.path_params["name"],
            digest=self._services.authenticator.digest(key),
            former_until_s=read_grace(fields.get("grace"), act.at_s),
            act=act,
        )
        return json_response({**shapes.key_object(await self._registry.write(deed), act.at_s), "key": key})

    async def revoke_key(self, request: Request) -> Response:
        """`DELETE /admin/keys/{name}`, `POST .../revoke`: for good, from its next request on."""
        act = await self._services.guard.admit(request)
        gone = await self._registry.write(partial(deeds.revoke_key, name=request.path_params["name"], act=act))
        note = {"note": "It stands in routes.yaml too; take it out there, or the next load enables it again."}
        return json_response({**shapes.key_object(gone, act.at_s), **(note if gone.is_declared else {})})

    # ------------------------------------------------------------ limits, credits, the audit log

    async def list_budgets(self, request: Request) -> Response:
        """`GET /admin/budgets`: how every budget stands, those of users and tags too."""
        act = await self._services.guard.admit(request)
        states = [shapes.budget_object(one) for one in await self._services.ledger.list_budgets(act.at_s)]
        return json_response({"object": "list", "data": _page(states, request), "total": len(states)})

    async def set_limits(self, request: Request) -> Response:
        """`PUT /admin/budgets/{place}`: what holds for `key:NAME`, `tenant:NAME`, `model:ALIAS`, `global` and so on."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request)
        terms.check_fields(fields, terms.LIMIT_FIELDS)
        place = request.path_params["place"]
        edit = partial(terms.edit_limits, fields=fields)
        limits = await self._registry.write(partial(deeds.set_limits, place=place, edit=edit, act=act))
        return json_response({"place": place, **shapes.limits_object(limits)})

    async def list_credits(self, request: Request) -> Response:
        """`GET /admin/credits`: every grant, and what was prepaid by place."""
        await self._services.guard.admit(request)
        grants = await self._registry.read(lambda store: store.list_grants(None))
        shown = [shapes.grant_object(grant) for grant in grants]
        page = _page(shown, request)
        return json_response(
            {"object": "list", "data": page, "total": len(shown), "prepaid_usd": shapes.prepaid_object(grants)}
        )

    async def grant_credits(self, request: Request) -> Response:
        """`POST /admin/credits {"key" or "tenant", "amount": "$10"}`."""
        act = await self._services.guard.admit(request)
        given = read_grant(await read_object(request), act)
        await self._registry.write(partial(deeds.grant, given=given, act=act))
        grants = await self._registry.read(lambda store: store.list_grants(given.place))
        shown = shapes.grant_object(grants[-1])
        return json_response({**shown, "prepaid_usd": shapes.prepaid_object(grants)[given.place]}, status=CREATED)

    async def list_audit(self, request: Request) -> Response:
        """`GET /admin/audit?before=&limit=`: newest first; `next` goes on."""
        await self._services.guard.admit(request)
        before, rows_max = _count(request, "before", 1 << 62), _count(request, "limit", PAGE_DEFAULT)
        rows_max = min(max(1, rows_max), PAGE_MAX)
        entries = await self._registry.read(
            lambda store: store.list_newest_entries(before_seq=before, rows_max=rows_max)
        )
        more = entries[-1].seq if len(entries) == rows_max else None
        return json_response({"object": "list", "data": [shapes.entry_object(one) for one in entries], "next": more})

    def _mint(self, sha256: object) -> tuple[str | None, str]:
        """Make a key, or take over one of which only the hash is known; gives value and digest."""
        if sha256 is not None:
            return None, self._services.authenticator.digest_sha256(terms.read_sha256(sha256))
        key = mint_key()
        return key, self._services.authenticator.digest(key)


async def read_object(request: Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Read a request's body as a JSON object; raises `ClientError`."""
    data = await read_body(request.scope["headers"], request.receive)
    if not data and may_be_empty:
        return {}
    if len(data) > BODY_BYTES_MAX:
        raise InvalidJson(f"The body is longer than {BODY_BYTES_MAX >> 20} MiB.")
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The body is not valid JSON: {error.msg} at character {error.pos}.") from error
    if not isinstance(body, dict):
        raise InvalidJson("The body must be a JSON object.")
    return body


def read_grace(value: object, now_s: float) -> float | None:
    """Read until when a former value is good; None: no longer than now."""
    if value is None:
        return None
    try:
        seconds = parse_duration_s(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise ClientError(f"`grace`: {error}.", param="grace") from error
    if seconds > GRACE_S_MAX:
        raise ClientError("`grace`: at most 30d.", param="grace")
    return now_s + seconds if seconds else None


def read_grant(fields: Mapping[str, Any], act: Act) -> Grant:
    """Read who is granted how much."""
    terms.check_fields(fields, _GRANT_FIELDS)
    key, tenant = fields.get("key"), fields.get("tenant")
    if (key is None) == (tenant is None):
        raise ClientError("Name one `key` or one `tenant`.", param="key")
    place = f"key:{terms.read_name(key, 'key')}" if key is not None else f"tenant:{terms.read_name(tenant, 'tenant')}"
    amount = str(fields.get("amount", ""))
    try:
        amount_nano_usd = parse_amount(amount.removeprefix("-")) * (-1 if amount.startswith("-") else 1)
    except ValueError as error:
        raise ClientError(f"`amount`: {error}.", param="amount") from error
    note = fields.get("note")
    if note is not None and (not isinstance(note, str) or len(note) > NOTE_CHARS_MAX or not note.isprintable()):
        raise ClientError(f"`note` must be at most {NOTE_CHARS_MAX} visible characters.", param="note")
    return Grant(place, amount_nano_usd, "grant", act.at_s, act.actor, note)


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _page(found: list[Any], request: Request) -> list[Any]:
    offset = _count(request, "offset", 0)
    return found[offset : offset + min(_count(request, "limit", PAGE_DEFAULT), PAGE_MAX)]


def _count(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # digits of a number in 32 bits
        raise ClientError(f"`{name}` must be a whole number.", param=name)
    return int(text)
