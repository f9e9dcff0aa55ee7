"""`scripts/setup.sh` chooses a Python that works, says in one line what is missing, trusts only a finished .venv/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = (
    "requirements-dev.lock",
    "requirements-pip.lock",
    "pyproject.toml",
    "scripts/setup.sh",
    "scripts/build_venv.py",
)

# Interpreters that are this one, but for what the text before the asked code does to them.
PYTHONS = {
    "old": "import sys; sys.version_info = (3, 9, 2)\n",
    "bare": "import sys; sys.version_info = (3, 12, 1); sys.modules['ensurepip'] = None\n",
    "good": "",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout's parts that setup reads, and a folder of interpreters: old, bare, good, and a shim to nowhere."""
    for part in PARTS:
        (tmp_path / part).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    (tmp_path / "bin").mkdir()
    for name, before in PYTHONS.items():
        write_command(tmp_path / "bin" / name, f'[ "$1" = -c ] || {{ echo "$@"; exit 0; }}\n{run_python(before)}')
    write_command(tmp_path / "bin" / "shim", "echo 'shim: command not found' >&2; exit 127")
    return tmp_path


def write_command(path: Path, body: str) -> None:
    """Make an executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run_python(before: str) -> str:
    """The shell line that runs the asked code after `before`."""
    return f'exec "{sys.executable}" -c "{before}$2"'


def set_up(place: Path, pythons: str) -> subprocess.CompletedProcess[str]:
    """Run setup with the named interpreters as its candidates."""
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", "scripts/setup.sh"]
    environment = {**os.environ, "PYTHON": pythons, "PATH": path}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("pythons", "named"),
    [
        ("old", "Python 3.11 or newer is needed, but old is 3.9.2"),
        ("bare", "apt install python3.12-venv"),
        ("old bare", "apt install python3.12-venv"),
        ("shim nowhere", "none of shim nowhere runs here"),
    ],
)
def test_what_is_missing_is_named_in_one_line(place: Path, pythons: str, named: str) -> None:
    """Without a usable Python setup says in one line what to install."""
    ran = set_up(place, pythons)
    assert ran.returncode == 2
    assert named in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_the_first_python_that_works_is_chosen(place: Path) -> None:
    """An old one, one without venv and a broken shim are passed over."""
    ran = set_up(place, "old shim bare good")
    assert ran.returncode == 0
    assert ran.stdout.startswith("scripts/build_venv.py requirements-dev.lock .venv/.ready-requirements-dev.lock")


def test_a_half_made_environment_is_built_again(place: Path) -> None:
    """An environment without its stamp is no environment."""
    (place / ".venv" / "bin").mkdir(parents=True)
    write_command(place / ".venv" / "bin" / "python", "exit 0")
    assert "build_venv.py" in set_up(place, "good").stdout


def test_a_finished_environment_is_kept_until_its_lock_changes(place: Path) -> None:
    """The stamp holds what the environment was made of; another lock needs another environment."""
    (place / ".venv" / "bin").mkdir(parents=True)
    write_command(place / ".venv" / "bin" / "python", "exit 0")
    key = set_up(place, "good").stdout.rstrip("\n").split(".lock ", 2)[-1]
    (place / ".venv" / ".ready-requirements-dev.lock").write_text(key)
    assert set_up(place, "good").stdout == ""
    with (place / "requirements-dev.lock").open("a") as lock:
        lock.write("# changed\n")
    assert "build_venv.py" in set_up(place, "good").stdout
