"""What a key, a tenant or a place is to have, as JSON (floor 5, no I/O): the words are those of routes.yaml.

Raises `ClientError` naming the field. A field that is left out stays as it is; null takes away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from proxy.errors import ClientError, UnknownParameter
from proxy.files import list_zones, parse_duration_s, parse_pause_s, parse_rate, read_params
from proxy.ledger.records import KeyRecord
from proxy.ledger.tenancy import TenantRecord
from proxy.money import UTC_NAME, Budget, parse_amount, parse_budget
from proxy.policy.limits import NO_LIMITS, Limits

NAME_CHARS_MAX = 64
MODELS_MAX = 1_000
PATTERN_CHARS_MAX = 200
LIST_MAX = 16
"""Budgets, rates or tags of one place."""
PARALLEL_MAX = 1_000_000
PARAMS_MAX = 64

LIMIT_FIELDS = frozenset({"budget", "rate", "parallel", "wait", "users", "tags"})
KEY_FIELDS = LIMIT_FIELDS | {
    "models", "default_model", "params", "max_cost", "expires_in", "expires_at", "disabled", "may_create_keys",
}  # fmt: skip
TENANT_FIELDS = LIMIT_FIELDS | {"models", "default_model", "params", "max_cost", "disabled"}

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
T = TypeVar("T")


def check_fields(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse a field that means nothing: a misspelt limit must not be taken for none."""
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
        there_are = ", ".join(sorted(known))
        raise UnknownParameter(f"`{unknown[:40]}` is not a field here; there are {there_are}.", param=unknown[:40])


def read_name(value: object, param: str = "name") -> str:
    """Read the name of a key or a tenant."""
    is_good = isinstance(value, str) and 0 < len(value) <= NAME_CHARS_MAX and value.isprintable()
    if not isinstance(value, str) or not is_good or value != value.strip():
        raise ClientError(f"`{param}` must be 1 to {NAME_CHARS_MAX} visible characters.", param=param)
    return value


def read_sha256(value: object) -> str:
    """Read the hex SHA-256 of a key that clients have already."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        msg = "`key_sha256` must be the SHA-256 of a key, 64 hex digits."
        raise ClientError(msg, param="key_sha256")
    return value.lower()


def edit_key(key: KeyRecord, fields: Mapping[str, Any], now_s: float) -> KeyRecord:
    """Give a key with the fields said of it changed."""
    read: dict[str, Callable[[Any], Any]] = {
        "models": read_models,
        "default_model": _read_model,
        "params": _read_params,
        "max_cost": _read_amount,
        "may_create_keys": _read_flag,
    }
    changed: dict[str, Any] = {
        ("max_cost_nano_usd" if name == "max_cost" else name): _read(name, fields[name], how)
        for name, how in read.items()
        if name in fields
    }
    if "disabled" in fields:
        changed["is_enabled"] = not _read("disabled", fields["disabled"], _read_flag)
    if "expires_in" in fields or "expires_at" in fields:
        changed["expires_at_s"] = _read_end(fields, now_s)
    return replace(key, limits=edit_limits(key.limits, fields), **changed)


def edit_tenant(tenant: TenantRecord, limits: Limits, fields: Mapping[str, Any]) -> tuple[TenantRecord, Limits]:
    """Give a tenant and its limits with the fields said of it changed."""
    as_key = edit_key(
        KeyRecord(
            tenant.name,
            "",
            limits=limits,
            models=tenant.models,
            default_model=tenant.default_model,
            params=tenant.params,
            max_cost_nano_usd=tenant.max_cost_nano_usd,
            is_enabled=tenant.is_enabled,
        ),
        fields,
        0.0,
    )
    changed = replace(
        tenant,
        models=as_key.models,
        default_model=as_key.default_model,
        params=as_key.params,
        max_cost_nano_usd=as_key.max_cost_nano_usd,
        is_enabled=as_key.is_enabled,
    )
    return changed, as_key.limits


def edit_limits(limits: Limits, fields: Mapping[str, Any]) -> Limits:
    """Give limits with the fields said of them changed."""
    changed: dict[str, Any] = {}
    if "budget" in fields:
        changed["budgets"] = tuple(_read("budget", entry, _read_budget) for entry in _list(fields["budget"], "budget"))
    if "rate" in fields:
        rates = (_read("rate", entry, lambda text: parse_rate(_text(text))) for entry in _list(fields["rate"], "rate"))
        changed["rates"] = tuple(dict.fromkeys(rates))
    if "parallel" in fields:
        changed["parallel"] = _read("parallel", fields["parallel"], _read_parallel)
    if "wait" in fields:
        changed["wait_s"] = _read("wait", fields["wait"], lambda text: parse_pause_s(_text(text))) or 0.0
    if "users" in fields:
        changed["users"] = _read("users", fields["users"], _read_each)
    if "tags" in fields:
        tags = _read("tags", fields["tags"], _read_object) or {}
        each = {name: _read("tags", entry, _read_each) for name, entry in sorted(tags.items())}
        changed["tags"] = tuple((name, limits) for name, limits in each.items() if limits is not None)
    return replace(limits, **changed) if changed else limits


def read_models(value: object) -> tuple[str, ...]:
    """Read a list of models and globs; ValueError for what is none."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MODELS_MAX:
        raise ValueError(f"a list of 1 to {MODELS_MAX:,} models and globs; null for all")
    return tuple(dict.fromkeys(_read_pattern(entry) for entry in value))


def _read(name: str, value: object, how: Callable[[Any], T]) -> T | None:
    if value is None:
        if name in {"disabled", "may_create_keys"}:
            raise ClientError(f"`{name}` must be true or false.", param=name)
        return {} if name == "params" else None  # type: ignore[return-value]  # what is empty of its kind
    try:
        return how(value)
    except (ValueError, OverflowError) as error:
        raise ClientError(f"`{name}`: {error}.", param=name) from error


def _read_pattern(value: object) -> str:
    text = _text(value)
    if text.count("*") > 1 or not 0 < len(text) <= PATTERN_CHARS_MAX or not text.isprintable():
        raise ValueError(f"{text[:80]!r} is no model's name; one * may stand in it")
    return text


def _read_model(value: object) -> str:
    text = _read_pattern(value)
    if "*" in text:
        raise ValueError("a default is one model, write its name")
    return text


def _read_params(value: object) -> Mapping[str, Any]:
    params = read_params(value)
    if len(params) > PARAMS_MAX:
        raise ValueError(f"at most {PARAMS_MAX} fields")
    return params


def _read_object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")  # noqa: TRY004  # the client's value, not a type of ours
    return value


def _read_amount(value: object) -> int:
    return parse_amount(_text(value))


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004  # the client's value, not a type of ours
    return value


def _read_parallel(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= PARALLEL_MAX:
        raise ValueError(f"a whole number from 1 to {PARALLEL_MAX:,}")
    return value


def _read_end(fields: Mapping[str, Any], now_s: float) -> float | None:
    span, moment = fields.get("expires_in"), fields.get("expires_at")
    if span is not None and moment is not None:
        raise ClientError("Say one of `expires_in` and `expires_at`.", param="expires_at")
    if span is not None:
        seconds = _read("expires_in", span, lambda text: parse_duration_s(_text(text)))
        return now_s + (seconds or 0.0)
    return _read("expires_at", moment, read_moment)


def read_moment(value: object) -> float:
    """Read an ISO 8601 time, UTC without an offset; ValueError for what is none."""
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        raise ValueError("a time as 2026-12-31T23:59:59Z") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _read_budget(value: object) -> Budget:
    if not isinstance(value, dict):
        return parse_budget(_text(value))
    check_fields(value, frozenset({"limit", "soft", "when_spent", "timezone"}))
    zone = value.get("timezone", UTC_NAME)
    if zone not in list_zones():
        raise ValueError(f"there is no time zone {str(zone)[:40]!r}; write it as Europe/Berlin or UTC")
    return replace(
        parse_budget(_text(value.get("limit"))),
        timezone=zone,
        is_soft=_read_flag(value.get("soft", False)),
        when_spent=None if value.get("when_spent") is None else _read_model(value["when_spent"]),
    )


def _read_each(value: object) -> Limits | None:
    """Read what each user or each value of a tag gets; a bare amount is a budget."""
    fields = value if isinstance(value, dict) else {"budget": value}
    check_fields(fields, LIMIT_FIELDS - {"users", "tags"})
    limits = edit_limits(NO_LIMITS, fields)
    return None if limits == NO_LIMITS else limits


def _list(value: object, name: str) -> Sequence[object]:
    entries = [] if value is None else list(value) if isinstance(value, list) else [value]
    if len(entries) > LIST_MAX:
        raise ClientError(f"`{name}`: at most {LIST_MAX}.", param=name)
    return entries


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text, not {str(value)[:40]!r}")  # noqa: TRY004  # the client's value, not a type of ours
    return value
