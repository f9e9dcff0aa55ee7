"""Starting a server process: the ready line is waited for, its group is ended, a failure says what was printed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.faults.client import ask, chat, get
from tests.faults.serving import StartError, TurnpikeServer, environment, first_key, serve

ROUTES = 'models: {}\nkeys: [{name: app, key: "sk-test-one"}, {name: other, key: "sk-test-two"}]\n'


class Stub(TurnpikeServer):
    """Runs a few lines of Python in the place of the command."""

    program = ""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.program]


class Listening(Stub):
    """Says that it listens, then does nothing."""

    program = "print('starting'); print('listening on http://127.0.0.1:9', flush=True); import time; time.sleep(60)"


class Stubborn(Stub):
    """Ends at once with a complaint."""

    program = "import sys; sys.exit('routes.yaml:1:1: no models')"


REAL = """
providers:
  sim: {dialect: simulated, first_token: 0ms, speed: 1000/s, length: 4, price: {input: $1/M, output: $2/M}}
models: {simulated: [sim/made-up]}
keys: [{name: app, key: "sk-test-00000001"}]
"""


async def test_the_real_command_serves_and_outlives_a_kill(tmp_path: Path) -> None:
    """`turnpike serve` answers on its port, and again on the same data folder after SIGKILL; SIGTERM ends it with 0."""
    async with serve(REAL, tmp_path) as server:
        assert (await ask(server.url, chat("simulated"), key=server.key)).status == 200
        await server.kill()
        await server.restart()
        assert (await get(server.url, "/health")).json["status"] == "ok"
        assert (await ask(server.url, chat("simulated"), key=server.key)).status == 200
        assert await server.terminate() == 0


async def test_a_server_is_ready_once_it_says_so(tmp_path: Path) -> None:
    """The address is that of the ready line; SIGTERM ends it, and the same folder starts again."""
    server = await Listening(ROUTES, tmp_path).start()
    assert server.url == "http://127.0.0.1:9"
    assert server.stdout[0] == "starting"
    assert await server.terminate() == -signal.SIGTERM
    await server.restart()
    assert await server.kill() == -signal.SIGKILL
    assert server.process is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(server.process.pid, 0)


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The error holds what the process printed."""
    with pytest.raises(StartError, match="no models"):
        await Stubborn(ROUTES, tmp_path).start()


def test_the_routes_file_is_replaced_whole(tmp_path: Path) -> None:
    """A rename, so that a watcher never reads half a file."""
    server = TurnpikeServer(ROUTES, tmp_path)
    server.write_routes("models: {a: sim/b}\n")
    assert server.routes_file.read_text() == "models: {a: sim/b}\n"
    assert server.command[1:3] == ["serve", "--config"]
    assert server.base_url == f"http://127.0.0.1:{server.port}/v1"


def test_the_first_key_is_read_from_the_routes() -> None:
    """Tests speak with the key their routes declare, or with none."""
    assert first_key(ROUTES) == "sk-test-one"
    assert first_key("models: {}") == ""


def test_no_provider_key_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's environment must not turn a test into a paid request."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-real")
    assert "OPENROUTER_API_KEY" not in environment({})
    assert environment({"X": "1"})["X"] == "1"
