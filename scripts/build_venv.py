"""Build .venv/ from a lock file, or add a further lock to it. Called by setup.sh, which chose this interpreter.

Standard library only. The stamp is written last, so an interrupted build is never taken for a finished one; a file lock
makes a second `make` in the same checkout wait for the first instead of building into the same folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
MAIN_LOCK = "requirements-dev.lock"
PIP_LOCK = "requirements-pip.lock"
EXIT_SETUP = 2

# Settings of the user's pip that would put packages elsewhere, or refuse hashed locks.
FOREIGN = (
    "PIP_CONSTRAINT",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_ROOT",
    "PIP_TARGET",
    "PYTHONHOME",
    "PYTHONPATH",
)


def main(lock: str, stamp: Path, key: str) -> int:
    """Build or extend .venv/ and return the exit code; say in one line what failed."""
    try:
        Path(".cache").mkdir(exist_ok=True)
        with Path(".cache/setup.lock").open("w") as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            if not stamp.exists() or stamp.read_text() != key:
                build(lock, fresh=lock == MAIN_LOCK)
                stamp.write_text(key)
    except subprocess.CalledProcessError as error:
        step = "make .venv/" if "venv" in error.cmd else f"install {error.cmd[-1]}"
        print(f"turnpike: setup could not {step}; the reason stands above", file=sys.stderr)
        return EXIT_SETUP
    except OSError as error:
        print(f"turnpike: setup cannot write here: {error}", file=sys.stderr)
        return EXIT_SETUP
    return 0


def build(lock: str, *, fresh: bool) -> None:
    """Install `lock`; a fresh build starts from an empty .venv/ and ends with the project itself."""
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"turnpike: installing {lock} into .venv/ with Python {version}; this takes a moment, once", flush=True)
    # The lock is complete, so pip has nothing to resolve; the hashes are checked all the same.
    install = (str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--no-deps")
    hashed = (*install, "--require-hashes", "--requirement")
    if fresh:
        if VENV.is_symlink():
            VENV.unlink()
        elif VENV.exists():
            shutil.rmtree(VENV)
        run(sys.executable, "-m", "venv", str(VENV))
        run(*hashed, PIP_LOCK)
    run(*hashed, lock)
    if fresh:
        run(*install, "--no-build-isolation", "--editable", ".")


def run(*command: str) -> None:
    """Run a command to its end; raises CalledProcessError when it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment |= {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
