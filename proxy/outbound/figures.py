"""What came back from a provider that was asked of an account (part of `outbound`, floor 2)."""

from __future__ import annotations

from dataclasses import dataclass


class AccountUnreadable(Exception):
    """The provider did not say; the message is a clause in our words that names neither host nor credential."""


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """What was said."""

    billed_nano_usd: int
    """Since the credential was made."""
    left_nano_usd: int | None
    """The lower of what the credential's limit and the account's credit leave; None: neither is told."""
