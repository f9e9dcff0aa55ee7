"""`turnpike serve` as a process: its ready line, its exit codes, its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from proxy.edge.server import listen
from tests.cli.conftest import Shell

LISTENING = re.compile(r"^listening on (http://127\.0\.0\.1:\d+)$", re.MULTILINE)


def start(shell: Shell, *arguments: str) -> subprocess.Popen[str]:
    """Start a server with the files of this folder."""
    flags = ["--port", "0", "--config", str(shell.routes), *arguments]
    command = [sys.executable, "-X", "importtime", "-m", "proxy", "serve", *flags]
    root = Path(__file__).resolve().parents[2]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        command, cwd=shell.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    """Read stdout up to the ready line; gives the address."""
    assert server.stdout is not None
    seen = ""
    for line in server.stdout:
        seen += line
        if match := LISTENING.search(seen):
            return match[1]
    raise AssertionError(seen + (server.stderr.read() if server.stderr else ""))


def test_a_server_says_when_it_is_ready_and_ends_well(shell: Shell) -> None:
    """At the ready line requests are answered; SIGTERM ends it with 0; what only tables need is not loaded."""
    server = start(shell)
    try:
        address = wait_until_ready(server)
        assert httpx.get(f"{address}/health", timeout=5).status_code == 200
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=15)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, err
    assert "Traceback" not in err
    assert "sk-tp-" not in out + err
    loaded = set(re.findall(r"^import time:.*\| +([\w.]+)$", err, re.MULTILINE))
    assert "uvicorn" in loaded
    assert not loaded & {"rich.console", "genai_prices", "httpx", "jinja2", "h11"}
    assert (shell.data / "ledger.db").exists()


def test_a_port_in_use_is_2_in_one_line(shell: Shell) -> None:
    """Named, with the remedy, before any file is made."""
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        result = shell.here("serve", "--port", str(taken.getsockname()[1]))
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert "--port" in result.err
    assert not shell.data.exists()


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_a_server_ends_on_any_polite_signal(shell: Shell, signals: list[signal.Signals]) -> None:
    """Ctrl-C, or somebody in a hurry."""
    server = start(shell)
    try:
        address = wait_until_ready(server)
        for number in signals:
            server.send_signal(number)
        _, err = server.communicate(timeout=15)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, err
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
