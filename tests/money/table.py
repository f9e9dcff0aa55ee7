"""The golden table: what vendors send, and what it costs by hand.

A row is the vendor's own bytes (or the name of a recording), prices in USD per million tokens, the tokens by kind, and
the cost in nano-USD with its arithmetic. Nothing here imports `proxy`: the arithmetic is done by fractions.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.faults.replay import recordings

FOLDER: Final = Path(__file__).with_name("golden")
HOLD_NANO_USD: Final = 5_000_000_000
"""What is held for each row: booked in full where nobody can tell."""
STREAM_STARTS: Final = ("data:", "event:", ": ")
OPERATORS: Final[Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One bill."""

    vendor: str
    """The file it stands in."""
    name: str
    dialect: str
    recording: str | None
    """Whose body it is; None: it stands in the table."""
    raw: bytes
    """The body as the vendor sends it."""
    is_stream: bool
    price: Mapping[str, Any] | None
    """USD per million tokens as text, `request` in USD; `tiers` from their `above` on. None: not known."""
    model: str | None
    """Whose price in the catalogue this is; None: the price is the row's own."""
    tokens: Mapping[str, int]
    sum: str | None
    """The arithmetic, in nano-USD."""
    nano_usd: int | None
    source: str | None
    """None: the vendor charges nothing by its own terms."""
    anomalies: tuple[str, ...] = ()
    is_byok: bool = False
    local: Mapping[str, int] = field(default_factory=dict)
    """What is counted here, if that is asked for."""
    is_left: bool = False
    """The client leaves behind the last byte."""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_gateway_only: bool = False
    """What is booked is decided from more than the body."""

    @property
    def id(self) -> str:
        """Name it in a test's id."""
        return f"{self.vendor}: {self.name}"


def load() -> list[Row]:
    """Read all rows but those whose recording is not beside this checkout."""
    recorded = {recording.id: recording for recording in recordings()}
    written = [(file.stem, row) for file in sorted(FOLDER.glob("*.yaml")) for row in yaml.safe_load(file.read_text())]
    bodies = {name: (recording.body, recording.is_stream) for name, recording in recorded.items()}
    return [_row(vendor, row, bodies) for vendor, row in written if row.get("recording", "") in {"", *bodies}]


@cache
def names() -> frozenset[str]:
    """Name all rows there are, recorded ones too wherever their recordings lie."""
    files = sorted(FOLDER.glob("*.yaml"))
    return frozenset(f"{file.stem}: {row['row']}" for file in files for row in yaml.safe_load(file.read_text()))


def _row(vendor: str, row: Mapping[str, Any], bodies: Mapping[str, tuple[bytes, bool]]) -> Row:
    raw, is_stream = bodies[row["recording"]] if "recording" in row else _body(row["raw"])
    return Row(
        vendor=vendor,
        name=row["row"],
        dialect=row["dialect"],
        recording=row.get("recording"),
        raw=raw,
        is_stream=is_stream,
        price=row["price"],
        model=row.get("model"),
        tokens=row["tokens"],
        sum=None if row["sum"] is None else str(row["sum"]),
        nano_usd=row["nano_usd"],
        source=row["source"],
        anomalies=tuple(row.get("anomalies", ())),
        is_byok=row.get("is_byok", False),
        local=row.get("local", {}),
        is_left=row.get("left", False),
        headers=row.get("headers", {}),
        is_gateway_only=row.get("via") == "gateway",
    )


def _body(text: str) -> tuple[bytes, bool]:
    """Give the bytes, and whether they are an event stream, whose last event ends in a blank line too."""
    is_stream = text.startswith(STREAM_STARTS)
    return (text.rstrip("\n") + "\n\n" if is_stream else text).encode(), is_stream


def reckon(text: str) -> Fraction:
    """Do the arithmetic of a row exactly; ValueError for anything but numbers, brackets and + - * /."""
    return _reckon(ast.parse(text, mode="eval").body, text)


def _reckon(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()):
            return Fraction(ast.get_source_segment(text, node) or "")
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](_reckon(left, text), _reckon(right, text))
    raise ValueError(f"{text!r} is no arithmetic")
