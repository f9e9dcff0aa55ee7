"""What the kernel says about a process tree, and how it is ended: CPU, memory, whom to signal. Linux's /proc only."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
END_WAIT_S = 4.0
POLL_S = 0.05
PORTS_TRIED_MAX = 2_000
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stat_of(process_id: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat from the state on; None when there is no such process, or only its zombie."""
    try:
        text = (PROC / str(process_id) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else fields


def processes() -> Iterator[tuple[int, int, int]]:
    """Every process: its id, its parent's and its session's."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := stat_of(int(entry.name))):
            yield int(entry.name), int(fields[1]), int(fields[3])


def tree_of(root: int) -> set[int]:
    """Give the processes of a server: the one we started, its descendants, and whoever is left in its session."""
    found: set[int] = set()
    everyone = list(processes())
    while True:
        more = {pid for pid, parent, session in everyone if root in {pid, session} or parent in found}
        if more == found:
            return found
        found = more


def cpu_s(root: int) -> float:
    """User and system time of a process tree, its ended children included."""
    ticks = 0
    for process_id in tree_of(root):
        if fields := stat_of(process_id):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def memory_mb(root: int, field: str) -> float:
    """Sum a memory field of /proc/PID/status over a process tree: `VmRSS` now, `VmHWM` at its peak."""
    kilobytes = 0
    for process_id in tree_of(root):
        with suppress(OSError):
            for line in (PROC / str(process_id) / "status").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024


def end(process: Popen[bytes]) -> None:
    """End a process we started and all it started: politely, then for good."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for process_id in tree_of(process.pid):
            with suppress(ProcessLookupError):
                os.kill(process_id, sent)
        until_s = time.monotonic() + END_WAIT_S
        while time.monotonic() < until_s:
            process.poll()
            if not tree_of(process.pid):
                return
            time.sleep(POLL_S)


def heed_interrupts() -> None:
    """Let Ctrl-C, SIGTERM and a hang-up all unwind the run, once: a second one may not cut its tidying short."""

    def unwind(*_: object) -> None:
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, unwind)


def free_ports(first: int, count: int) -> list[int]:
    """Give `count` ports of loopback that nobody listens on, from `first` up."""
    found: list[int] = []
    for port in range(first, first + PORTS_TRIED_MAX):
        if len(found) == count:
            return found
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found.append(port)
    message = f"no {count} free ports from {first} up"
    raise OSError(message)
