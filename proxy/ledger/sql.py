"""The named blocks of `queries.sql` and the numbered migrations, as text (floor 2).

It parses and nothing else: no statement is run here, and none is written anywhere but in those files.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


class Migration(NamedTuple):
    """One numbered file: the statements that lead to its version."""

    version: int
    statements: tuple[str, ...]


def parse_blocks(text: str) -> Mapping[str, str]:
    """Split text into its named blocks, comments left out; ValueError when a name stands twice."""
    _, *parts = _BLOCK.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) < len(names):
        raise ValueError(f"a block's name stands twice in {sorted(names)}")
    return MappingProxyType({name: _COMMENT.sub("", body).strip() for name, body in zip(names, bodies, strict=True)})


def split_statements(text: str) -> tuple[str, ...]:
    """Split a script at the semicolons that end a statement; a `;` inside a trigger or a text ends none."""
    statements, current = [], ""
    for piece in re.split(r"(?<=;)", _COMMENT.sub("", text)):
        current += piece
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    if current.strip():
        raise ValueError(f"a statement without its semicolon: {current.strip()!r}")
    return tuple(statements)


def load_migrations() -> tuple[Migration, ...]:
    """Read the migrations in the order of their numbers."""
    folder = resources.files("proxy.ledger").joinpath("migrations")
    found = [(match, entry) for entry in folder.iterdir() if (match := _MIGRATION.fullmatch(entry.name))]
    return tuple(sorted(Migration(int(match[1]), split_statements(entry.read_text("utf-8"))) for match, entry in found))


STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("queries.sql").read_text("utf-8"))
