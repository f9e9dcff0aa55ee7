"""The audit log's chain: every edit of it is found (S44)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.ledger.audit import GENESIS, START, Act, Entry, Head, find_break, fingerprint, make_entry, seal

ACT = Act("admin", 1_795_000_000.25, "127.0.0.1", "req_1")


def a_log(lines: int = 5) -> list[Entry]:
    """A log of so many lines."""
    entries: list[Entry] = []
    head = START
    for number in range(lines):
        entry = make_entry(head, ACT, "key.create", f"key:{number}", (None, {"b": 1, "a": [number]}))
        entries.append(entry)
        head = Head(entry.seq, entry.hash)
    return entries


def test_a_log_nobody_touched_is_whole() -> None:
    """Its head is its last line; an empty log is whole too."""
    log = a_log()
    assert find_break(log) == (None, Head(5, log[-1].hash))
    assert find_break([]) == (None, Head(0, GENESIS))


def test_what_was_there_is_written_in_one_form() -> None:
    """Sorted members without blanks: the same content always has the same hash."""
    (entry,) = a_log(1)
    assert entry.after == '{"a":[0],"b":1}'
    assert entry.before is None
    assert entry.hash == seal(GENESIS, entry)


@pytest.mark.parametrize(
    "fields",
    [
        {"actor": "cli"},
        {"address": None},
        {"request_id": "req_2"},
        {"action": "key.revoke"},
        {"target": "key:9"},
        {"before": "{}"},
        {"after": '{"a":[2],"b":2}'},
        {"at_s": 1_795_000_001.0},
        {"hash": "0" * 64},
    ],
)
def test_an_edited_line_is_the_first_that_is_broken(fields: dict[str, object]) -> None:
    """Whichever column of it was changed."""
    log = a_log()
    log[2] = replace(log[2], **fields)  # type: ignore[arg-type]  # a test's
    broken, head = find_break(log)
    assert broken is not None
    assert broken.seq == 3
    assert head == Head(2, log[1].hash)


def test_a_line_edited_with_its_hash_breaks_the_next() -> None:
    """Who knows the rule has to write everything behind it anew."""
    log = a_log()
    forged = replace(log[2], target="key:9")
    log[2] = replace(forged, hash=seal(log[1].hash, forged))
    broken, _ = find_break(log)
    assert broken is not None
    assert broken.seq == 4


@pytest.mark.parametrize("gone", [0, 2])
def test_a_missing_line_is_found(gone: int) -> None:
    """At the beginning as in the middle."""
    log = a_log()
    del log[gone]
    broken, _ = find_break(log)
    assert broken is not None
    assert (broken.seq, broken.found) == (gone + 1, f"line {gone + 2}")


def test_a_cut_tail_is_known_by_an_earlier_head() -> None:
    """What is left is whole; its head is not the one that somebody noted."""
    log = a_log()
    broken, head = find_break(log[:-1])
    assert broken is None
    assert head != Head(log[-1].seq, log[-1].hash)


def test_a_fingerprint_tells_secrets_apart_and_not_what_they_are() -> None:
    """Twelve digits of a hash."""
    assert fingerprint("sk-a") != fingerprint("sk-b")
    assert len(fingerprint("sk-a")) == 12
    assert "sk-a" not in fingerprint("sk-a")
