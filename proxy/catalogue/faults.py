"""What is wrong with a file of the catalogue, in words a person can act on (part of `catalogue`, floor 2)."""

from __future__ import annotations

from pathlib import Path

from proxy.errors import ConfigError, ConfigProblem


def read_text(path: Path, remedy: str) -> str:
    """Read a file; raises `ConfigError` naming it and the remedy."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise make_fault(path, f"cannot be read ({reason}); {remedy}") from error


def make_fault(path: Path, message: str, where: str = "", *, line: int = 1, column: int = 1) -> ConfigError:
    """Make the error for one fault; `where` is the member, dots between its names."""
    return ConfigError((ConfigProblem(str(path), line, column, where, message),))
