"""Tenants, their stored credentials and prepaid credits as the ledger keeps them (floor 2): plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A tenant's own credential at a provider, encrypted."""

    tenant: str
    provider: str
    sealed: str
    """What `vault` made of it; nothing else can read it."""
    fingerprint: str
    """First digits of its SHA-256: enough to tell two apart, not to find it out."""
    created_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant: one of routes.yaml has its name here and the rest in the table in force."""

    name: str
    models: tuple[str, ...] | None = None
    """Aliases and globs its keys may ask for, as far as each key may too; None is all."""
    default_model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    max_cost_nano_usd: int | None = None
    """Ceiling of one request of its keys."""
    is_declared: bool = False
    """It stands in routes.yaml."""
    is_enabled: bool = True
    """False: no key of its may do anything."""
    is_deleted: bool = False
    """Gone for good: its name stays taken, because what it used stays in the books under it."""
    created_at_s: float = 0.0
    updated_at_s: float = 0.0
    revision: int = 1
    """Raised by every change; it counts into the revision of its keys."""
    credentials: tuple[CredentialRecord, ...] = ()
    """Filled in by the ledger."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of the prepaid credits; lines are added, never changed."""

    place: str
    """`key:NAME` or `tenant:NAME`."""
    amount_nano_usd: int
    """Below 0 takes credit back."""
    kind: str
    """`opening`: what was spent before the first grant, so that a grant is all there to be spent; `grant`."""
    at_s: float
    actor: str
    note: str | None = None
    seq: int = 0
    """Its place in the table, given by the ledger."""
