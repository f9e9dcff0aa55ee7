"""Secrets that are kept on disk (floor 2): encrypted under TURNPIKE_SECRET_KEY, or not kept at all.

The variable holds one or more Fernet keys, separated by commas. The first encrypts, all decrypt: a new one is put in
front, `turnpike secrets rotate` encrypts everything anew, then the old one may go.
"""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from proxy.errors import ClientError

VARIABLE = "TURNPIKE_SECRET_KEY"
REMEDY = f"set {VARIABLE} to a key made by `turnpike secrets key`"


class SecretKeyError(ValueError):
    """The variable holds something that is no key; says so without showing it."""


class VaultClosed(ClientError):
    """There is no key to encrypt with."""

    status = 409
    code = "secret_key_missing"


def make_secret_key() -> str:
    """Make a key for the variable."""
    return Fernet.generate_key().decode()


class Vault:
    """Encrypts and decrypts under the keys of the variable."""

    def __init__(self, keys: str | None) -> None:
        """Take the variable's text; raises `SecretKeyError`."""
        parts = [part.strip() for part in (keys or "").split(",") if part.strip()]
        try:
            fernets = [Fernet(part) for part in parts]
        except ValueError as error:
            raise SecretKeyError(f"{VARIABLE} holds a text that is no key; {REMEDY}") from error
        self._fernet = MultiFernet(fernets) if fernets else None

    def seal(self, secret: str) -> str:
        """Encrypt; raises `VaultClosed` without a key."""
        if self._fernet is None:
            raise VaultClosed(f"Credentials are stored encrypted only: {REMEDY}, or name a variable in routes.yaml.")
        return self._fernet.encrypt(secret.encode()).decode()

    def unseal(self, sealed: str) -> str | None:
        """Decrypt; None when no key of ours has sealed it."""
        if self._fernet is None:
            return None
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            return None

    def seal_again(self, sealed: str) -> str:
        """Encrypt anew under the first key; raises `VaultClosed` when it cannot be read."""
        secret = self.unseal(sealed)
        if secret is None:
            raise VaultClosed(
                f"A stored credential was sealed under a key that {VARIABLE} no longer holds; add it again."
            )
        return self.seal(secret)
