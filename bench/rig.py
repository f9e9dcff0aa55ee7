"""The measuring side: the mock upstream and the load generator, built from C, and the folder of a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import processes

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
# Not the system's temporary folder: where that is memory, a ledger's fsync would cost nothing.
SCRATCH = ROOT / ".cache" / "bench"
START_WAIT_S = 5.0
ASK_TIMEOUT_S = 10.0
LOAD_DRAIN_S = 60.0  # the load generator itself gives up 30 s after its last request
TOOLS = {"gcc": "apt-get install gcc libc6-dev", "taskset": "apt-get install util-linux"}


class RigError(Exception):
    """This machine lacks what a measurement needs; the text is the one line for the user."""


class Cpus(NamedTuple):
    """Which core the gateways run on, and which the measuring side."""

    gateway: str
    load: str


def run_script(script: Callable[[ExitStack], str]) -> int:
    """Run a script, print what it gives, and end what its stack holds, also on Ctrl-C.

    Gives the exit code: 2 when this machine cannot measure, 130 when interrupted.
    """
    processes.heed_interrupts()
    try:
        with ExitStack() as stack:
            text = script(stack)
    except RigError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; everything it started is ended", file=sys.stderr)
        return 130
    print(text)
    return 0


@contextmanager
def workspace() -> Iterator[Path]:
    """Give a folder with the two built programs, and remove it at the end."""
    for tool, remedy in TOOLS.items():
        if shutil.which(tool) is None:
            raise RigError(f"{tool} is needed to measure anything: {remedy}")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="run-", ignore_cleanup_errors=True) as name:
        for program in ("upstream", "load"):
            _build(Path(name), program)
        yield Path(name)


def _build(folder: Path, program: str) -> None:
    command = ["gcc", "-O2", "-w", "-o", str(folder / program), str(BENCH / f"{program}.c")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        reason = re.search(r"^.*error.*$", built.stderr, re.MULTILINE)
        raise RigError(f"gcc cannot build bench/{program}.c ({TOOLS['gcc']}): {reason[0] if reason else built.stderr}")


def choose_cpus(gateway: str | None, load: str | None) -> Cpus:
    """Fill in what the command line left open: the first two cores this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    chosen = Cpus(gateway or str(allowed[0]), load or str(allowed[min(1, len(allowed) - 1)]))
    for flag, cpu in (("--gateway-cpu", chosen.gateway), ("--load-cpu", chosen.load)):
        if not re.fullmatch(r"\d+(?:[-,]\d+)*", cpu) or int(re.split("[-,]", cpu)[0]) not in allowed:
            raise RigError(f"{flag} {cpu}: this machine offers {', '.join(map(str, allowed))}")
    if chosen.gateway == chosen.load:
        print("one core for all: latency and req/s mean little here, CPU per request still does", file=sys.stderr)
    return chosen


class Mock:
    """The mock upstream: started on entering, ended on leaving."""

    def __init__(self, folder: Path, port: int, cpu: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = ["taskset", "-c", cpu, str(folder / "upstream"), str(port)]

    def __enter__(self) -> Self:
        # A session of its own: Ctrl-C reaches this script alone, which then ends everything in order.
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, start_new_session=True)
        try:
            self._await_answer()
        except BaseException:
            processes.end(self._process)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        processes.end(self._process)

    def _await_answer(self) -> None:
        until_s = time.monotonic() + START_WAIT_S
        while time.monotonic() < until_s and self._process.poll() is None:
            try:
                self.counts()
            except OSError:
                time.sleep(0.01)
            else:
                return
        said = self._process.stderr.read().decode().strip() if self._process.poll() is not None else "no answer"
        raise RigError(f"the mock upstream does not start on port {self.port}: {said}")

    def counts(self) -> dict[str, int]:
        """Give what it has seen since its start: requests, streams, active, aborted, bytes, cpu_us and more."""
        return self._ask("/stats")

    def set_mode(self, *, chunks: int, delay_us: int) -> None:
        """Let every later stream have so many pieces of content, so far apart."""
        self._ask(f"/ctl?chunks={chunks}&delay_us={delay_us}")

    def _ask(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=ASK_TIMEOUT_S) as reply:
            return json.load(reply)


class Load:
    """The load generator, run once for each measurement."""

    def __init__(self, folder: Path, cpu: str) -> None:
        self._command = ["taskset", "-c", cpu, str(folder / "load")]

    def run(self, arguments: list[str], *, seconds: float) -> dict[str, Any]:
        """Send requests for so long, wait for those in flight, and give the generator's figures."""
        done = subprocess.run(
            [*self._command, *arguments, "-d", str(seconds)],
            stdout=subprocess.PIPE,
            check=True,
            timeout=seconds + LOAD_DRAIN_S,
        )
        return json.loads(done.stdout)
