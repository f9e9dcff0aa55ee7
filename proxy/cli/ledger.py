"""`turnpike ledger` (part of `cli`, floor 7): whether the books add up, and a copy of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import typer

from proxy.cli.books import expect_ledger
from proxy.cli.output import BAD, complain, print_json, say
from proxy.cli.places import LEDGER, Places
from proxy.edge.answers import iso_time
from proxy.ledger.backup import back_up
from proxy.ledger.folder import find_owners
from proxy.ledger.verification import FINDINGS_MAX, Finding, Verification, verify
from proxy.money import format_usd
from proxy.policy.calendar import Window

NICENESS = 10
"""How far a command that may work for seconds stands back behind servers that want the processor."""


def verify_ledger(places: Places, *, as_json: bool) -> int:
    """Print whether the ledger adds up: 0, or 1 with every finding."""
    expect_ledger(places)
    os.nice(NICENESS)
    begun_s = time.monotonic()
    path = places.data / LEDGER
    verification = verify(path, owners=find_owners(places.data))
    took_s = time.monotonic() - begun_s
    if as_json:
        print_json({**_verification_json(verification), "took_s": round(took_s, 3)})
    else:
        _print_verification(str(path), verification, took_s)
    return 0 if verification.is_good else BAD


def back_up_ledger(places: Places, file: Path, *, as_json: bool) -> int:
    """Write a copy and tell whether it adds up: 0, or 1 with every finding; `BadParameter` when the file is there."""
    expect_ledger(places)
    os.nice(NICENESS)
    begun_s = time.monotonic()
    try:
        verification = back_up(places.data, file)
    except FileExistsError as error:
        raise typer.BadParameter(f"{file} is there already; name another file", param_hint="FILE") from error
    took_s = time.monotonic() - begun_s
    size_bytes = file.stat().st_size
    if as_json:
        content = {"file": str(file), "bytes": size_bytes, **_verification_json(verification)}
        print_json({**content, "took_s": round(took_s, 3)})
    else:
        _print_verification(f"{file} ({size_bytes:,} bytes)", verification, took_s)
    complain("keep it secret, and `pepper` of the data folder with it: without that no minted key is known")
    return 0 if verification.is_good else BAD


def _print_verification(name: str, verification: Verification, took_s: float) -> None:
    for finding in verification.findings:
        say(_show_finding(finding))
    if verification.is_cut:
        say(f"there are more; at most {FINDINGS_MAX} of a kind are shown")
    counted = (
        f"{verification.attempts:,} attempts of {verification.requests:,} requests, "
        f"{verification.balances:,} balances, schema {verification.schema}, {took_s:.1f} s"
    )
    verdict = "good" if verification.is_good else f"{len(verification.findings)} findings"
    say(f"{name}: {verdict}: {counted}")
    for orphan in verification.orphans:
        held = format_usd(orphan.held_nano_usd)
        say(
            f"note: {orphan.attempts} attempts with ${held} held are pending for a process that has ended; "
            "a running or starting server posts them"
        )


def _show_finding(finding: Finding) -> str:
    return f"{finding.check.value}: {_show_place(finding)}expected {finding.expected}; found {finding.found}"


def _show_place(finding: Finding) -> str:
    if finding.window is not None:
        return f"{finding.scope} {_show_window(finding.window)}: "
    if finding.request_id is not None:
        attempt = "" if finding.attempt is None else f" attempt {finding.attempt}"
        return f"request {finding.request_id}{attempt}: "
    return ""


def _show_window(window: Window) -> str:
    if window.ends_s is None:
        return "of all time"
    return f"from {_moment(window.starts_s)} to {_moment(window.ends_s)}"


def _verification_json(verification: Verification) -> dict[str, Any]:
    return {
        "ok": verification.is_good,
        "schema": verification.schema,
        "attempts": verification.attempts,
        "requests": verification.requests,
        "balances": verification.balances,
        "findings": [_finding_json(finding) for finding in verification.findings],
        "more": verification.is_cut,
        "orphans": [
            {"owner": orphan.owner, "attempts": orphan.attempts, "held_usd": format_usd(orphan.held_nano_usd)}
            for orphan in verification.orphans
        ],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    window = finding.window
    return {
        "check": finding.check.value,
        "scope": finding.scope,
        "from": None if window is None else _moment(window.starts_s),
        "to": None if window is None or window.ends_s is None else _moment(window.ends_s),
        "request_id": finding.request_id,
        "attempt": finding.attempt,
        "expected": finding.expected,
        "found": finding.found,
    }


def _moment(at_s: int) -> str:
    """Write a moment as a time, or as the number it is when no calendar has it."""
    try:
        return iso_time(at_s) or ""
    except OverflowError:
        return str(at_s)
