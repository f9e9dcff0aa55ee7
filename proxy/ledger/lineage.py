"""A key together with the key that made it and its tenant (floor 2, pure): what of all three holds for a request."""

from __future__ import annotations

from dataclasses import replace

from proxy.ledger.records import KeyRecord
from proxy.ledger.tenancy import TenantRecord


def join(key: KeyRecord, *, maker: KeyRecord | None, house: TenantRecord | None) -> KeyRecord:
    """Give a key as a request sees it: usable only while all are, stale when any of them changed."""
    others = [one for one in (maker, house) if one is not None]
    return replace(
        key,
        is_enabled=key.is_enabled and all(one.is_enabled for one in others),
        expires_at_s=_earlier(key.expires_at_s, None if maker is None else maker.expires_at_s),
        revision=key.revision + sum(one.revision for one in others),
        maker=maker,
        house=house,
    )


def as_presented(key: KeyRecord, digest: str) -> KeyRecord:
    """Give a key as the value it was found by entitles to: a former value ends when its grace does."""
    if key.digest == digest:
        return key
    return replace(key, digest=digest, expires_at_s=_earlier(key.expires_at_s, key.former_until_s))


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)
