"""`setup.sh` makes each environment once, whole or not at all, and a test without one says what to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.process import HERE, ClientProcess

# Stands for .venv/bin/python: notes how it is called, makes an environment that is one file, installs if it may.
PYTHON = """#!/bin/sh
echo "$@" >>calls
case $* in
    -VV) cat version ;;
    "-m venv"*) mkdir -p "$4/bin" && printf '#!/bin/sh\\n' >"$4/bin/python" && chmod +x "$4/bin/python" ;;
    *) [ ! -e broken ] ;;
esac
"""
LOCK = "tests/clients/requirements-one.lock"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout with one lock and a Python that only pretends."""
    (tmp_path / "tests/clients").mkdir(parents=True)
    shutil.copy(HERE / "setup.sh", tmp_path / "tests/clients")
    (tmp_path / LOCK).write_text("sdk==1\n")
    (tmp_path / "version").write_text("3.11\n")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def set_up(place: Path) -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = ["sh", "tests/clients/setup.sh"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def installs(place: Path) -> int:
    """Count how often pip was called."""
    return (place / "calls").read_text().count("-m pip")


def test_an_environment_is_made_once(place: Path) -> None:
    """A second run finds it and calls no pip; another lock or another Python makes it anew."""
    assert set_up(place).returncode == 0
    assert (place / ".clients/one/bin/python").exists()
    assert set_up(place).stdout == ""
    assert installs(place) == 1
    (place / LOCK).write_text("sdk==2\n")
    set_up(place)
    assert installs(place) == 2
    (place / "version").write_text("3.12\n")
    assert "requirements-one.lock" in set_up(place).stdout
    assert installs(place) == 3


def test_half_an_environment_is_none(place: Path) -> None:
    """When the install fails the old one stays, nothing is left over, and the last line names the lock."""
    set_up(place)
    before = (place / ".clients/one/.ready").read_text()
    (place / LOCK).write_text("sdk==2\n")
    (place / "broken").touch()
    result = set_up(place)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        2,
        "turnpike: could not install requirements-one.lock; the reason stands above",
    )
    assert [path.name for path in (place / ".clients").iterdir()] == ["one"]
    assert (place / ".clients/one/.ready").read_text() == before


def test_setup_needs_the_other_setup_first(place: Path) -> None:
    """Without .venv/ it says so in one line."""
    shutil.rmtree(place / ".venv")
    result = set_up(place)
    assert (result.returncode, result.stderr) == (2, "turnpike: the test clients need .venv/ first: make setup\n")


async def test_a_missing_environment_names_its_remedy() -> None:
    """A test never skips for want of an SDK: it fails, and says what makes it."""
    with pytest.raises(AssertionError, match=r"^there is no \.clients/nobody/: `make test` makes it"):
        await ClientProcess("nobody", "openai_python.py", {}).__aenter__()
