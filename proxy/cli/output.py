"""How results are printed (part of `cli`, floor 7): results on stdout, everything said about them on stderr.

A person at a terminal gets tables made by rich; a pipe gets plain aligned text; a program asks for JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

BAD = 1
"""Exit code: what was asked about is bad."""
WRONG = 2
"""Exit code: wrong use, bad configuration, port in use."""
UNREACHABLE = 3
"""Exit code: the ledger cannot be reached."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    is_number: bool = False


def complain(*lines: str) -> None:
    """Tell a person what went wrong."""
    for line in lines:
        sys.stderr.write(printable(line) + "\n")


def say(line: str) -> None:
    """Print one line of the result."""
    sys.stdout.write(printable(line) + "\n")


def print_json(content: Any) -> None:
    """Print the result for a program."""
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print the result as a table."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain(columns, cells)


def printable(text: str) -> str:
    """Spell out what could move a cursor: names come from files and from clients."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.title for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        parts = [
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        sys.stdout.write("  ".join(parts).rstrip() + "\n")
