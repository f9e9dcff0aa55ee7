"""The data folder and the secret in it (floor 2): what must be private is made so before anything is in it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from proxy.errors import LedgerUnavailable

PEPPER_BYTES = 32
ADMIN_KEY_PREFIX = "sk-tp-admin-"
ADMIN_KEY_CHARS_MIN = 16
_PEPPER = "pepper"
_ADMIN_KEY = "admin_key"
_OWNERS = "owners"
_JOBS = "jobs.lock"


def make_data_folder(data_dir: Path) -> None:
    """Make the data folder (mode 0700) and what stands in it; LedgerUnavailable when that cannot be done."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        find_owners(data_dir).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unusable(data_dir.name, error) from error


def find_owners(data_dir: Path) -> Path:
    """Tell where the living processes' locks are."""
    return data_dir / _OWNERS


def find_jobs_lock(data_dir: Path) -> Path:
    """Tell which file's lock makes a process the one that does the ledger's jobs."""
    return data_dir / _JOBS


def make_private_file(path: Path) -> None:
    """Make an empty file of mode 0600 that outlives a power cut, unless it is there."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    sync_folder(path.parent)


def load_pepper(data_dir: Path) -> bytes:
    """Read the secret that client keys are digested with, made at first use; processes that start together agree.

    Raises LedgerUnavailable when it cannot be read or is not ours: with another one, no client key would be known.
    """
    path = data_dir / _PEPPER
    try:
        if not path.exists():
            make_data_folder(data_dir)
            _create(path, secrets.token_bytes(PEPPER_BYTES))
        pepper = path.read_bytes()
    except OSError as error:
        raise unusable(_PEPPER, error) from error
    if len(pepper) != PEPPER_BYTES:
        raise LedgerUnavailable(
            f"{_PEPPER} in the data folder does not hold {PEPPER_BYTES} bytes; restore it from a backup, "
            "or remove it and issue new client keys"
        )
    return pepper


def load_admin_key(data_dir: Path) -> str:
    """Read the admin key, made at first use; processes that start together agree.

    Raises LedgerUnavailable when it cannot be read or holds too little to be one.
    """
    path = data_dir / _ADMIN_KEY
    try:
        if not path.exists():
            make_data_folder(data_dir)
            _create(path, f"{ADMIN_KEY_PREFIX}{secrets.token_urlsafe(PEPPER_BYTES)}\n".encode())
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise unusable(_ADMIN_KEY, error) from error
    if len(key) < ADMIN_KEY_CHARS_MIN:
        raise LedgerUnavailable(
            f"{_ADMIN_KEY} in the data folder holds fewer than {ADMIN_KEY_CHARS_MIN} characters; "
            "remove it, and the next start makes another"
        )
    return key


def digest_key(pepper: bytes, key: str) -> str:
    """Digest a client key as the ledger keeps it: HMAC-SHA-256(pepper, hex SHA-256(key)), hex."""
    return digest_key_sha256(pepper, hashlib.sha256(key.encode()).hexdigest())


def digest_key_sha256(pepper: bytes, key_sha256: str) -> str:
    """Digest a client key of which only its hex SHA-256 is known (`key_sha256:` in routes.yaml)."""
    return hmac.digest(pepper, key_sha256.lower().encode(), "sha256").hex()


def unusable(name: str, error: Exception) -> LedgerUnavailable:
    """Say which file or folder cannot be used and what to do; the system's own words hold no path."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LedgerUnavailable(
        f"{name} cannot be used: {reason}; see that the data folder exists, belongs to this user, "
        "can be written and has space left"
    )


def sync_folder(folder: Path) -> None:
    """Make a folder's list of names outlive a power cut."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _create(path: Path, content: bytes) -> None:
    """Put a whole file in place, or leave the one that somebody else put there first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # A link, unlike a rename, never replaces: the first one wins and everybody reads his.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    sync_folder(path.parent)
