"""`turnpike audit` (part of `cli`, floor 7): who changed what, and whether anybody changed that list."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.cli.books import ask_ledger
from proxy.cli.output import BAD, Column, complain, print_json, print_table, say
from proxy.cli.places import Places
from proxy.edge.shapes import entry_object
from proxy.ledger.audit import Break, Entry, Head, find_break
from proxy.ledger.registry import Store

PAGE = 1_000
_NEWEST = 1 << 62


def list_entries(places: Places, limit: int, *, as_json: bool) -> None:
    """List the newest lines."""
    entries = ask_ledger(
        places,
        lambda ledger: ledger.registry.read(
            lambda store: store.list_newest_entries(before_seq=_NEWEST, rows_max=limit)
        ),
    )
    found = [entry_object(entry) for entry in entries]
    if as_json:
        print_json({"audit": found})
        return
    titles = ("SEQ", "AT", "ACTOR", "ACTION", "TARGET", "ADDRESS")
    columns = [Column(title, is_number=title == "SEQ") for title in titles]
    names = ("seq", "at", "actor", "action", "target", "address")
    print_table(columns, [[str(one[name] if one[name] is not None else "-") for name in names] for one in found])


def verify_audit(places: Places, *, as_json: bool) -> int:
    """Check the chain of hashes; 1 when a link is broken."""
    found, head = ask_ledger(places, lambda ledger: ledger.registry.read(verify))
    if as_json:
        broken = None if found is None else {"seq": found.seq, "expected": found.expected, "found": found.found}
        print_json({"ok": found is None, "lines": head.seq, "head": head.hash, "broken": broken})
    elif found is None:
        say(f"{head.seq} lines, nothing was changed; the last one's hash is {head.hash}")
    else:
        complain(f"the chain is broken at line {found.seq}: expected {found.expected}, found {found.found}")
    return 0 if found is None else BAD


def verify(store: Store) -> tuple[Break | None, Head]:
    """Walk the whole log."""
    return find_break(_walk(store))


def _walk(store: Store) -> Iterator[Entry]:
    after_seq = 0
    while page := store.list_entries(after_seq=after_seq, rows_max=PAGE):
        yield from page
        after_seq = page[-1].seq
