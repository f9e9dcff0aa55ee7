"""The parent of several workers: what it does about those that end too early, too late, or cannot be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import errno, os, signal, sys, time
from proxy.app import workers as under_test
from proxy.app.workers import Workers, run_apart
from proxy.edge.server import listen
from proxy.telemetry import Board

def tell(text):
    os.write(1, f"{text}\\n".encode())

anchor = listen("127.0.0.1", 0)
parent = os.getpid()
team = Workers(
    anchor, Board(3), on_ready=lambda: tell("ready"), on_death=lambda *told: tell("died %s of %s, %s s" % told)
)
"""


def run(code: str) -> tuple[int, list[str]]:
    """Run a parent of three in a process without threads; gives its exit code and what it said."""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + code],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 1), ("sys.exit(0)", 1)])
def test_a_worker_that_dies_before_all_serve_ends_the_start(end: str, code: int) -> None:
    """With its exit code; that it ended by itself is never a success."""
    assert run(f"""
seat = team.run()
if isinstance(seat, int):
    sys.exit(seat)
if seat.number == 1:
    {end}
seat.tell_ready()
seat.orders.recv(1)
""") == (code, [])


def test_the_exit_code_is_the_worst_of_the_workers() -> None:
    """Each is told to end, and waited for."""
    assert run("""
seat = team.run()
if isinstance(seat, int):
    sys.exit(seat)
seat.tell_ready()
if seat.number == 0:
    time.sleep(0.3)
    os.kill(parent, signal.SIGTERM)
assert seat.orders.recv(16) == b"d"
time.sleep(0.2 * seat.number)
sys.exit(seat.number + 4)
""") == (6, ["ready"])


def test_a_worker_that_takes_no_order_is_killed() -> None:
    """After the time it may take; the others have long ended well."""
    assert run("""
under_test.END_S_MAX = 0.5
seat = team.run()
if isinstance(seat, int):
    sys.exit(seat)
seat.tell_ready()
if seat.number == 0:
    time.sleep(0.3)
    os.kill(parent, signal.SIGINT)
    time.sleep(20)
seat.orders.recv(16)
sys.exit(0)
""") == (1, ["ready"])


def test_a_place_that_cannot_be_filled_stays_empty_for_a_while() -> None:
    """The system may have no process left; the parent and the other workers go on, and it tries again."""
    assert run("""
under_test.RESTART_S = (0.0, 0.1, 0.2)
forks = []

def fork(real=os.fork):
    forks.append(None)
    if len(forks) in (4, 5):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
    return real()

os.fork = fork
seat = team.run()
if isinstance(seat, int):
    sys.exit(seat)
seat.tell_ready()
if seat.number == 0 and len(forks) == 1:
    time.sleep(0.3)
    os.kill(os.getpid(), 9)
if seat.number == 0:
    tell("again")
    os.kill(parent, signal.SIGTERM)
seat.orders.recv(16)
sys.exit(0)
""") == (
        0,
        [
            "ready",
            "died 1 of signal 9, 0.0 s",
            "died 1 of Resource temporarily unavailable, 0.1 s",
            "died 1 of Resource temporarily unavailable, 0.2 s",
            "again",
        ],
    )


@pytest.mark.parametrize(("work", "code"), [("pass", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 247)])
def test_what_is_done_apart_has_its_own_end(work: str, code: int) -> None:
    """Its exit code is told, a signal as a negative one."""
    assert run(f"""
def work():
    {work}

ended = run_apart(work)
assert os.getpid() == parent
sys.exit(ended % 256)
""") == (code, [])
