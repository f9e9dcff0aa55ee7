"""The audit log's chain (floor 2, pure): every line is sealed with the hash of the one before it.

A line's hash is SHA-256(hash before it + canonical JSON of the line), hex (reliability.md 3.7). Whoever edits, deletes
or inserts a line would have to write all behind it anew; `find_break` names the first that does not fit. What a cut
tail was is only known to whoever kept a later hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

GENESIS = "0" * 64
"""What stands in place of a hash before the first line."""
FINGERPRINT_HEX_DIGITS = 12


class Act(NamedTuple):
    """Who does something, and how he came here."""

    actor: str
    """`admin`, `cli`, `key:NAME`, `routes.yaml` or `gateway`."""
    at_s: float
    address: str | None = None
    """Of the client."""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log."""

    seq: int
    """Counts from 1 without gaps."""
    at_s: float
    actor: str
    address: str | None
    request_id: str | None
    action: str
    """As `key.create`."""
    target: str
    """As `key:mobile`."""
    before: str | None
    """JSON of what was there; secrets as fingerprints only."""
    after: str | None
    hash: str = ""


class Head(NamedTuple):
    """The newest line, to which the next is chained."""

    seq: int
    hash: str


START = Head(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Break:
    """The first line that does not fit behind the one before it."""

    seq: int
    expected: str
    found: str


def make_entry(head: Head, act: Act, action: str, target: str, change: tuple[Any, Any]) -> Entry:
    """Write the next line; `change` is what was there and what is, either may be None."""
    before, after = (None if side is None else _canonical(side) for side in change)
    draft = Entry(head.seq + 1, act.at_s, act.actor, act.address, act.request_id, action, target, before, after)
    return replace(draft, hash=seal(head.hash, draft))


def seal(previous: str, entry: Entry) -> str:
    """Give the hash of a line behind the hash of the one before it."""
    content = {
        "seq": entry.seq,
        "at_s": entry.at_s,
        "actor": entry.actor,
        "address": entry.address,
        "request_id": entry.request_id,
        "action": entry.action,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
    }
    return hashlib.sha256((previous + _canonical(content)).encode()).hexdigest()


def find_break(entries: Iterable[Entry], head: Head = START) -> tuple[Break | None, Head]:
    """Give the first line that does not fit behind `head` and those before it, and the last one that does."""
    for entry in entries:
        if entry.seq != head.seq + 1:
            return Break(head.seq + 1, f"line {head.seq + 1}", f"line {entry.seq}"), head
        expected = seal(head.hash, entry)
        if entry.hash != expected:
            return Break(entry.seq, expected, entry.hash), head
        head = Head(entry.seq, entry.hash)
    return None, head


def fingerprint(secret: str) -> str:
    """Give enough of a secret's hash to tell it from another, and too little to find it out."""
    return hashlib.sha256(secret.encode()).hexdigest()[:FINGERPRINT_HEX_DIGITS]


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
