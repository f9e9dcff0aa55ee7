"""A folder with a routing table and books, and the command line over it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.app import open_ledger
from proxy.cli.main import run
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admission, Admitted, AttemptEnd, AttemptStart, AttemptState, KeyRecord, Settlement
from proxy.usage import CostSource, Usage

ROUTES = """\
providers:
  sim: {dialect: simulated, price: {input: $1/M, output: $2/M}}
models:
  chat: sim/echo
  backed: [openai/gpt-4o, sim/echo]
"""
AT_S = 1_795_000_000.0
"""2026-11-18T11:06:40Z."""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Read what was printed as JSON."""
        return json.loads(self.out)


class Shell:
    """Runs commands in a folder of their own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.routes = folder / "routes.yaml"
        self.data = folder / "data"
        self._capsys = capsys
        self.routes.write_text(ROUTES)

    def run(self, *arguments: str) -> Result:
        """Run one command as it stands."""
        code = run(arguments)
        seen = self._capsys.readouterr()
        assert "Traceback" not in seen.err
        return Result(code, seen.out, seen.err)

    def here(self, *arguments: str) -> Result:
        """Run one command on this folder's files."""
        return self.run(*arguments, "--config", str(self.routes), "--data", str(self.data))

    def book(self, *, key: str = "mobile", cost: int | None = 1_500_000, app: str | None = None) -> None:
        """Write one finished request to the books."""
        asyncio.run(self._book(key, cost, app))

    async def _book(self, key: str, cost: int | None, app: str | None) -> None:
        ledger = await open_ledger(self.data)
        try:
            await ledger.create_key(KeyRecord(key, digest=key))
            await _book_one(ledger, key, cost, app)
        finally:
            await ledger.close()


async def _book_one(ledger: Ledger, key: str, cost: int | None, app: str | None) -> None:
    start = AttemptStart(1, "sim", "echo", 10_000_000)
    admitted = await ledger.admit(
        Admission("req", key, 1, tenant=None, route="chat", app=app, is_stream=True, at_s=AT_S, attempts=(start,))
    )
    assert isinstance(admitted, Admitted)
    end = AttemptEnd(
        number=1,
        state=AttemptState.POSTED,
        cost_nano_usd=cost,
        cost_source=CostSource.UNKNOWN if cost is None else CostSource.COMPUTED,
        usage=Usage(input_tokens=100, output_tokens=20, cached_tokens=40, reasoning_tokens=5),
        status=200,
        error=None,
        latency_ms=900,
        first_token_ms=150,
    )
    assert await ledger.settle(Settlement(admitted.request_id, (end,), AT_S))


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Give a shell in an empty folder, with no variable of ours set."""
    for name in ("CONFIG", "DATA", "HOST", "PORT", "WORKERS", "LOG_FORMAT", "DEBUG"):
        monkeypatch.delenv(f"TURNPIKE_{name}", raising=False)
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)
