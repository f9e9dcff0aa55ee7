"""`setup.sh` makes each environment once, whole or not at all, and a test without one says what to do or skips."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.process import HERE, ClientProcess, need_node

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
NPM = """#!/bin/sh
echo "npm $@" >>../../calls
mkdir node_modules && [ ! -e ../../broken ]
"""
# What the script runs besides Python, Node and npm.
TOOLS = ("cat", "cksum", "cp", "dirname", "mkdir", "mv", "rm", "chmod")


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


@pytest.fixture
def node_place(place: Path) -> Path:
    """The same with a lock of npm's, and a PATH whose only Node and npm pretend too."""
    for name in ("package.json", "package-lock.json"):
        (place / "tests/clients" / name).write_text("{}\n")
    (place / "bin").mkdir()
    for tool in TOOLS:
        (place / "bin" / tool).symlink_to(str(shutil.which(tool)))
    for name, text in (("node", "#!/bin/sh\necho v20\n"), ("npm", NPM)):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    return place


def set_up(place: Path) -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = [str(shutil.which("sh")), "tests/clients/setup.sh"]
    path = str(place / "bin") if (place / "bin").exists() else os.environ["PATH"]
    environment = os.environ | {"PATH": path}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def installs(place: Path, tool: str = "-m pip") -> int:
    """Count how often pip, or npm, was called."""
    return (place / "calls").read_text().count(tool)


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


def test_javascript_clients_are_installed_once(node_place: Path) -> None:
    """As the lock says, without running any package's script; another lock makes them anew, a failed one does not."""
    assert set_up(node_place).returncode == 0
    assert (node_place / ".clients/node/node_modules").exists()
    assert set_up(node_place).stdout == ""
    assert installs(node_place, "npm ci") == installs(node_place, "--ignore-scripts") == 1
    (node_place / "tests/clients/package-lock.json").write_text("{ }\n")
    (node_place / "broken").touch()
    result = set_up(node_place)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        2,
        "turnpike: could not install package-lock.json; the reason stands above",
    )
    assert sorted(path.name for path in (node_place / ".clients").iterdir()) == ["node", "one"]


def test_without_node_the_others_are_installed(node_place: Path) -> None:
    """It says so in one line and does not fail."""
    (node_place / "bin/npm").unlink()
    result = set_up(node_place)
    assert (result.returncode, result.stderr) == (
        0,
        "turnpike: node and npm are not installed: the tests of JavaScript clients are skipped\n",
    )
    assert [path.name for path in (node_place / ".clients").iterdir()] == ["one"]


@pytest.mark.parametrize("is_ci", [False, True])
def test_only_outside_ci_a_missing_node_skips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_ci: bool) -> None:
    """CI installs it, so that there nothing is skipped in silence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    if is_ci:
        monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError if is_ci else pytest.skip.Exception, match="node and npm"):
        need_node()


async def test_a_missing_environment_names_its_remedy() -> None:
    """A test never skips for want of an SDK: it fails, and says what makes it."""
    with pytest.raises(AssertionError, match=r"^there is no \.clients/nobody/: `make test` makes it"):
        await ClientProcess("nobody", "openai_python.py", {}).__aenter__()
