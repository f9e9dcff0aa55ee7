"""Carries out a Dockerfile without an engine: its own commands, in a folder of its own, as a user without rights.

The folder stands for the image's root: absolute paths of the image are rewritten to lie below it. The build stage is
moved aside before the last stage begins, so that only what that one copies is there when the server starts.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tests.container.dockerfile import Instruction, Stage, is_ignored, parse
from tests.faults.serving import ROOT

IMAGE_UID: Final = 10001
PYTHONS: Final = ("python3", "python3.13", "python3.12", "python3.11")
SYSTEM_FOLDERS: Final = ("/usr/local/bin", "/usr/bin")
STEP_S: Final = 200.0
"""How long one RUN may take."""
_PLACES: Final = re.compile(r"(?<![\w.$}/-])/(?=(?:opt|src|data|etc/turnpike)\b)")
_FIT: Final = "import ensurepip, sys, venv; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)"
# Settings of the user's pip that would put packages elsewhere, or refuse hashed locks; as in scripts/build_venv.py.
_FOREIGN: Final = re.compile(r"PIP_(CONSTRAINT|PREFIX|REQUIRE_VIRTUALENV|ROOT|TARGET|USER|CACHE_DIR|REQUIREMENT)$")


class Build:
    """One image without an engine; `root` is its file system once `carry_out` is through."""

    def __init__(self, folder: Path, python: str, as_user: Mapping[str, Any]) -> None:
        self.root = folder / "root"
        self.final = Stage("", "")
        self.as_user = as_user
        """The arguments of a subprocess that runs as the image's user."""
        self.uid: int = as_user.get("user", os.geteuid())
        self.gid: int = as_user.get("group", os.getegid())
        self._aside = folder / "built"
        self._home = folder / "home"
        self._bin = folder / "bin"
        self._at = self.root
        for made in (self._home, self._bin):
            made.mkdir()
        # The base image's `python`; a link would be taken for the folder that its library stands in.
        (self._bin / "python").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        (self._bin / "python").chmod(0o755)
        self._own(self._home)

    @property
    def workdir(self) -> Path:
        """Where the container's program starts."""
        return self._below(self.final.last("WORKDIR").text)

    def carry_out(self, text: str, ignore: str) -> None:
        """Build every stage; AssertionError with what a failing command said."""
        for stage in parse(text):
            if self.root.exists():
                self.root.rename(self._aside)
            self.root.mkdir()
            self._own(self.root)
            self._at, self.final = self.root, stage
            for instruction in stage.instructions:
                self._step(stage, instruction, ignore)

    def make_read_only(self) -> None:
        """Take away the root file system's write bits, as `docker run --read-only` does; the volume keeps its own."""
        data = self.root / "data"
        for path in [self.root, *self.root.rglob("*")]:
            if not path.is_symlink() and not path.is_relative_to(data):
                path.chmod(path.stat().st_mode & 0o7555)

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Give what a container's program finds: the image's variables and `extra`, nothing of ours."""
        return self._variables(self.final) | {"HOME": "/"} | dict(extra)

    def command(self, instruction: Instruction) -> list[str]:
        """Give an exec form with its program looked for on the image's own PATH."""
        program, *arguments = instruction.words[1:] if instruction.words[0] == "CMD" else instruction.words
        found = shutil.which(program, path=self._variables(self.final)["PATH"])
        assert found, f"the image has no {program}"
        return [found, *arguments]

    def empty_volume(self) -> None:
        """Begin with a new volume."""
        for path in (self.root / "data").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def mounted(self, name: str, text: str) -> Iterator[None]:
        """Have a file in the working folder for a while, read-only as the rest."""
        place, mode = self.workdir / name, self.workdir.stat().st_mode
        self.workdir.chmod(mode | 0o200)
        place.write_text(text)
        place.chmod(0o444)
        self.workdir.chmod(mode)
        try:
            yield
        finally:
            self.workdir.chmod(mode | 0o200)
            place.unlink()
            self.workdir.chmod(mode)

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Give mode, size and time of change of everything outside the volume."""
        paths = [path for path in self.root.rglob("*") if not path.is_relative_to(self.root / "data")]
        states = [(path, path.lstat()) for path in paths]
        return {str(path): (state.st_mode, state.st_size, state.st_mtime_ns) for path, state in states}

    def _step(self, stage: Stage, instruction: Instruction, ignore: str) -> None:
        if instruction.keyword == "WORKDIR":
            self._at = self._below(instruction.text)
            self._at.mkdir(parents=True)
            self._own(self._at)
        elif instruction.keyword == "COPY":
            self._copy(instruction, ignore)
        elif instruction.keyword == "RUN":
            self._run(stage, instruction.text)

    def _copy(self, instruction: Instruction, ignore: str) -> None:
        *sources, target = instruction.words
        place = self._below(target) if target.startswith("/") else self._at / target
        for source in sources:
            if "from" in instruction.flags:
                shutil.copytree(self._aside / source.lstrip("/"), place, symlinks=True)
            else:
                _copy_in(source, place, ignore)
        self._own(self.root)

    def _run(self, stage: Stage, text: str) -> None:
        owned = text.replace(f"-o {IMAGE_UID}", f"-o {self.uid}").replace(f"-g {IMAGE_UID}", f"-g {self.gid}")
        env = {"HOME": str(self._home)} | _pip_settings() | self._variables(stage)
        ran = subprocess.run(
            ["/bin/sh", "-c", _PLACES.sub(f"{self.root}/", owned)],
            cwd=self._at,
            env=env,
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
            **self.as_user,
        )
        assert ran.returncode == 0, f"RUN {text}\n{ran.stdout}{ran.stderr}"

    def _variables(self, stage: Stage) -> dict[str, str]:
        path = f"{self._bin}:/usr/bin:/bin"
        given = {name: value.replace("$PATH", path) for name, value in stage.variables.items()}
        return {"PATH": path} | {name: _PLACES.sub(f"{self.root}/", value) for name, value in given.items()}

    def _below(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _own(self, folder: Path) -> None:
        """Give the user what stands in a folder."""
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose_user() -> dict[str, Any]:
    """Give the arguments of a subprocess that give up root's rights; without them there is nothing to give up."""
    return {"user": IMAGE_UID, "group": IMAGE_UID, "extra_groups": []} if os.geteuid() == 0 else {}


def find_python(as_user: Mapping[str, Any]) -> str | None:
    """Find a Python that this user may run and that can make an environment."""
    folders = [*os.environ["PATH"].split(os.pathsep), *SYSTEM_FOLDERS]
    for candidate in [f"{folder}/{name}" for folder in folders for name in PYTHONS]:
        try:
            command = [candidate, "-c", _FIT]
            ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **as_user)
        except OSError:
            continue
        if ran.returncode == 0:
            return str(ran.stdout.strip())
    return None


def _copy_in(source: str, place: Path, ignore: str) -> None:
    """Copy a file into a folder, or a folder's content, as far as .dockerignore lets it in."""
    start = ROOT / source
    for path in _files(start):
        name = PurePosixPath(path.relative_to(ROOT))
        if not is_ignored(name, ignore):
            target = place / (path.relative_to(start) if start.is_dir() else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _files(start: Path) -> Iterator[Path]:
    assert start.exists(), f"the checkout has no {start.name}"
    yield from ([start] if start.is_file() else (path for path in start.rglob("*") if path.is_file()))


def _pip_settings() -> dict[str, str]:
    """Give the index and so on that our own pip is set to, as variables: the user cannot read our files."""
    command: Sequence[str] = [str(ROOT / ".venv/bin/python"), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        settings[f"PIP_{name.rpartition('.')[2].replace('-', '_').upper()}"] = str(ast.literal_eval(value))
    return {name: value for name, value in settings.items() if not _FOREIGN.match(name)}
