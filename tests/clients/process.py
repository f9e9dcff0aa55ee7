"""A client program in an environment of its own below `.clients/`: told what to do and heard in lines of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.faults.serving import ROOT, environment

Facts = dict[str, Any]

ANSWER_S: Final = 45.0
"""How long one check may take, the import of a large client on a busy machine included; then the program is killed."""
END_S: Final = 2.0
"""How long a program that has nothing more to do may take to end, before it is killed."""
LINE_BYTES_MAX: Final = 16 << 20
CLIENTS: Final = ROOT / ".clients"
HERE: Final = Path(__file__).parent


class ClientProcess:
    """One program under one SDK; an async context manager that ends it."""

    def __init__(self, name: str, program: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.facts: Facts = {}
        """What it said of itself when it started."""
        self._program = HERE / program
        self._env = env
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        place = CLIENTS / self.name
        is_script = self._program.suffix == ".mjs"
        if is_script:
            need_node()
        assert place.exists(), f"there is no .clients/{self.name}/: `make test` makes it (sh tests/clients/setup.sh)"
        # Node looks for packages beside the text it runs, and a text given with --eval stands in the working folder.
        script = ["node", "--input-type=module", "--eval", self._program.read_text(encoding="utf-8")]
        self._process = await asyncio.create_subprocess_exec(
            *(script if is_script else [str(place / "bin" / "python"), str(self._program)]),
            stdin=PIPE,
            stdout=PIPE,
            stderr=None,
            env=environment(self._env),
            cwd=place if is_script else ROOT,
            limit=LINE_BYTES_MAX,
        )
        self.facts = await self.hear()
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def is_running(self) -> bool:
        """Tell whether it can still be asked: one that was stuck has been killed."""
        return self._process is not None and self._process.returncode is None

    async def run(self, check: str, *, options: Mapping[str, object], ask: Mapping[str, object]) -> Facts:
        """Have one check done and give what came of it."""
        await self.begin(check, options=options, ask=ask)
        return await self.hear()

    async def begin(self, check: str, *, options: Mapping[str, object], ask: Mapping[str, object]) -> None:
        """Have one check begun; `hear` what it says until it is through."""
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps({"check": check, "options": options, "ask": ask})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> Facts:
        """Wait for the next line: a word of a check under way, or what came of it."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise
        assert line, f"{self._program.name} ended under {self.name}; what it said stands above"
        facts: Facts = json.loads(line)
        return facts


def need_node() -> None:
    """Skip a test of JavaScript clients where there is no Node, which is nobody's duty but CI's."""
    if not (shutil.which("node") and shutil.which("npm")):
        assert "CI" not in os.environ, "CI installs node and npm: see .ci/run"
        pytest.skip("node and npm are not installed")


def locked_version(name: str, package: str) -> str:
    """Give the version of a package in the lock of an environment."""
    if name == "node":
        packages = json.loads((HERE / "package-lock.json").read_text())["packages"]
        return str(packages[f"node_modules/{package}"]["version"])
    found = re.search(rf"^{package}==(\S+)", (HERE / f"requirements-{name}.lock").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
