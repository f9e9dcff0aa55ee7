"""The gateways of gateways.toml: which of them are installed, how each is started and ended."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import processes
from rig import BENCH, ROOT, Cpus, Mock, RigError

DIRECT = "direct"  # no gateway: the load generator talks to the mock upstream itself
FILE = BENCH / "gateways.toml"
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])  # where nginx hides
PASSED_ON = ("LANG", "LD_LIBRARY_PATH")
LOG_TAIL_CHARS = 1_500
START_TIMEOUT_S = 120.0
POLL_S = 0.01
FIRST_BODY = {"messages": [{"role": "user", "content": "hi"}]}


class StartError(Exception):
    """A gateway that is installed did not serve; the text holds its last answer and the end of its log."""


@dataclass(frozen=True)
class Catalogue:
    """gateways.toml, read: sets of names, their usual workloads, and each gateway's description."""

    sets: dict[str, list[str]]
    workloads: dict[str, list[str]]
    gateways: dict[str, dict[str, Any]]
    places: dict[str, str]

    @classmethod
    def read(cls, path: Path, given: list[str]) -> Catalogue:
        """Read the file; `given` are NAME=VALUE that beat its [vars]."""
        try:
            parsed = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise RigError(f"--file {path}: {error}") from error
        fixed = {"bench": str(BENCH), "root": str(ROOT), "python": sys.executable}
        places = fixed | {name: fill(value, fixed) for name, value in parsed.get("vars", {}).items()}
        for pair in given:
            name, equals, value = pair.partition("=")
            if not equals:
                raise RigError(f"--var {pair}: expected NAME=VALUE")
            # A gateway runs in a folder of its own, where a relative path would lead nowhere.
            places[name] = str(Path(value).absolute()) if Path(value).exists() else value
        return cls(parsed["sets"], parsed.get("workloads", {}), parsed["gateway"], places)

    def choose(self, chosen_set: str, names: str | None) -> list[str]:
        """Give the names asked for, without the direct line."""
        if names is None and chosen_set not in self.sets:
            raise RigError(f"--set {chosen_set}: no such set; there are {', '.join(self.sets)}")
        chosen = names.split(",") if names is not None else self.sets[chosen_set]
        if unknown := [name for name in chosen if name != DIRECT and name not in self.gateways]:
            raise RigError(f"no gateway is called {', '.join(unknown)} in {FILE.name}")
        return [name for name in dict.fromkeys(chosen) if name != DIRECT]

    def installed(self, names: list[str]) -> list[str]:
        """Leave out what is not installed, and say so, a line for each."""
        kept = []
        for name in names:
            if absent := self._absent(name):
                remedy = fill(self.gateways[name].get("install", "see bench/README.md"), self.places)
                print(f"{name} is left out, there is no {shown(absent)}: {remedy}", file=sys.stderr)
            else:
                kept.append(name)
        return kept

    def _absent(self, name: str) -> str | None:
        description = self.gateways[name]
        program = fill(shlex.split(description["cmd"])[0], self.places)
        if shutil.which(program, path=PATH) is None:
            return program
        needs = [fill(path, self.places) for path in description.get("needs", [])]
        return next((path for path in needs if not Path(path).exists()), None)


@dataclass
class Gateway:
    """One gateway: its description, and once started its process and what the start cost."""

    name: str
    description: dict[str, Any]
    port: int
    names: dict[str, str]
    cold_s: float | None = None
    idle_rss_mb: float | None = None
    last_answer: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """Where it takes chat completions."""
        return self.description.get("path", "/v1/chat/completions")

    @property
    def model(self) -> str:
        """The model to ask it for."""
        return self.description.get("model", "mock")

    @property
    def headers(self) -> list[str]:
        """The header lines a client sends, its key among them."""
        return [fill(line, self.names) for line in self.description.get("headers", [])]

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; the direct line always does."""
        return self.process is None or self.process.poll() is None

    def takes(self, workload: str, dialect: str) -> bool:
        """Tell whether a workload is for it; one with a dialect to translate is only for who says so."""
        is_skipped = workload in self.description.get("skip", [])
        return not is_skipped and (not dialect or dialect in self.description.get("translates", []))

    def load_arguments(self, dialect: str = "") -> list[str]:
        """Tell the load generator how to talk to it, and for a dialect to translate to ask the model behind that."""
        headers = [part for line in self.headers for part in ("-H", line)]
        model = f"{self.model}-{dialect}" if dialect else self.model
        return ["-p", str(self.port), "-P", self.path, "-m", model, *headers]

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        return processes.cpu_s(self.process.pid) if self.process else 0.0

    def memory_mb(self, what: str) -> float:
        """Memory of all its processes: `VmRSS` or `VmHWM`."""
        return processes.memory_mb(self.process.pid, what) if self.process else 0.0

    def start(self, scratch: Path, cpu: str) -> None:
        """Start it and wait for its first answer. Raises `StartError`; whoever calls this calls `stop`."""
        folder = scratch / self.name
        folder.mkdir()
        self.names["dir"] = str(folder)
        for name, text in self.description.get("files", {}).items():
            (folder / name).write_text(fill(text, self.names))
        # Split first: a folder's name may hold a space.
        words = [fill(word, self.names) for word in shlex.split(self.description["cmd"])]
        began_s = time.monotonic()
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", cpu, *words],
                cwd=folder,
                env=self._environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._await_answer(began_s)
        if self.cold_s is None:
            tail = (folder / "log").read_text(errors="replace")[-LOG_TAIL_CHARS:]
            raise StartError(f"{self.name} did not start: {self.last_answer}\n{tail}".rstrip())
        self.idle_rss_mb = self.memory_mb("VmRSS")

    def stop(self) -> None:
        """End it and all it started."""
        if self.process:
            processes.end(self.process)

    def _environment(self, folder: Path) -> dict[str, str]:
        # Its home is its own folder, so that nothing it writes outlives the run.
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {name: fill(str(value), self.names) for name, value in self.description.get("env", {}).items()}
        return {**passed, "PATH": PATH, "HOME": str(folder), "TMPDIR": str(folder), **own}

    def _await_answer(self, began_s: float) -> None:
        until_s = began_s + self.description.get("start_timeout", START_TIMEOUT_S)
        while self.is_alive and time.monotonic() < until_s:
            if self._answers():
                self.cold_s = time.monotonic() - began_s
                return
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        body = json.dumps({"model": self.model, **FIRST_BODY}).encode()
        lines = [line.partition(":") for line in self.headers]
        headers = {name: value.strip() for name, _, value in lines} | {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                said = reply.read()
        except urllib.error.HTTPError as error:
            said = error.read()
            self.last_answer = f"{error.code} {said[:300]!r}"
            return False
        except (OSError, http.client.HTTPException) as error:
            self.last_answer = repr(error)
            return False
        self.last_answer = repr(said[:300])
        return b"choices" in said


def fill(text: str, names: dict[str, str]) -> str:
    """Put the values of `names` where the text has {name}; other braces stay."""
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


def shown(path: str) -> str:
    """Give a path as it stands in the checkout, where it stands there."""
    return path.removeprefix(f"{ROOT}{os.sep}")


def place(catalogue: Catalogue, names: list[str], mock: Mock, ports: list[int]) -> list[Gateway]:
    """Give each gateway its port and the values its description may use; nothing is started yet."""
    shared = {**catalogue.places, "upstream": mock.url, "uport": str(mock.port)}
    return [
        Gateway(name, catalogue.gateways[name], port, {**shared, "name": name, "port": str(port)})
        for name, port in zip(names, ports, strict=True)
    ]


def direct(mock: Mock) -> Gateway:
    """Give the mock upstream as if it were a gateway: what all latencies are told against."""
    return Gateway(DIRECT, {}, mock.port, {})


def try_start(gateway: Gateway, scratch: Path, cpus: Cpus) -> bool:
    """Start a gateway; one that does not serve is told about and left out."""
    try:
        gateway.start(scratch, cpus.gateway)
    except StartError as error:
        print(error, file=sys.stderr)
        gateway.stop()
        return False
    print(f"started {gateway.name}: {gateway.cold_s:.2f} s, idle RSS {gateway.idle_rss_mb:.0f} MB", file=sys.stderr)
    return True
