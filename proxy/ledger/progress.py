"""How far a process's open attempts have come (floor 2): a file beside its lock, for whoever finds it dead.

The file is replaced whole and never synced: it outlives a killed process, which is what it is for, and costs the store
nothing. After a power cut it may be gone or old; then what was held is booked, as if there had been none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from proxy.ledger.resolution import Progress, ProgressByAttempt

FILE_BYTES_MAX = 64 << 20
"""Of a dead process's word; a larger file is not ours."""
_VERSION = 1
_SUFFIX = ".progress"


def find_progress(folder: Path, owner_id: str) -> Path:
    """Tell where an owner keeps word of its attempts."""
    return folder / f"{owner_id}{_SUFFIX}"


def write_progress(path: Path, progress: Iterable[Progress]) -> None:
    """Put the whole word in place of the last one, mode 0600. Raises OSError."""
    draft = path.with_name(f".{path.name}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(orjson.dumps({"version": _VERSION, "attempts": [tuple(one) for one in progress]}))
    draft.replace(path)


def remove_progress(path: Path) -> None:
    """Take back what was said, half-written or whole."""
    path.with_name(f".{path.name}").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def read_progress(path: Path) -> ProgressByAttempt:
    """Read the last word of a dead owner; nothing when there is none, or none that can be believed."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            return {}
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return {}
    attempts = content.get("attempts")
    read = [_read_one(one) for one in attempts] if isinstance(attempts, list) else []
    return {(one.request_id, one.number): one for one in read if one is not None}


def _read_one(value: Any) -> Progress | None:
    if not isinstance(value, list) or len(value) != len(Progress._fields):
        return None
    request_id, number, generation_id, can_look_up, cost, *tokens = value
    is_sound = (
        isinstance(request_id, str)
        and isinstance(generation_id, str | None)
        and isinstance(can_look_up, bool)
        and all(type(count) is int and count >= 0 for count in (number, cost or 0, *tokens))
    )
    return Progress(*value) if is_sound else None
