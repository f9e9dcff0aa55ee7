"""The image's own commands build it and serve from it: as a user without rights, on a tree that cannot be written."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.container.building import Build, choose_user, find_python
from tests.container.test_dockerfile import IGNORE, TEXT
from tests.faults.client import ask, chat, get
from tests.faults.ports import HOST, free_port
from tests.faults.serving import READY, READY_S, STOP_S

MINTED: Final = re.compile(r"sk-tp-[\w-]{43}")
DECLARED: Final = "sk-test-mounted"
ROUTES: Final = f"""
models: {{mounted: simulated/echo}}
keys:
  - {{name: app, key: {DECLARED}}}
"""

pytestmark = pytest.mark.timeout(300)


class Container:
    """The image's program at work; what it printed before it was ready, and the address it is asked at."""

    def __init__(self, build: Build, process: asyncio.subprocess.Process, port: int) -> None:
        self.url = f"http://{HOST}:{port}"
        self.printed: list[str] = []
        self._build = build
        self._process = process
        self._port = port

    async def wait_until_ready(self) -> None:
        """Read stdout up to the ready line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_S):
            while not (self.printed and READY.match(self.printed[-1])):
                line = await self._process.stdout.readline()
                assert line, "\n".join(self.printed)
                self.printed.append(line.decode().rstrip("\n"))

    @property
    def minted_key(self) -> str:
        """The key that the first start printed."""
        found = MINTED.search("\n".join(self.printed))
        assert found is not None
        return found[0]

    async def check_health(self) -> int:
        """Run the image's HEALTHCHECK beside it, and give its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self._build.command(self._build.final.last("HEALTHCHECK")),
            cwd=self._build.workdir,
            env=self._build.environment({"TURNPIKE_PORT": str(self._port)}),
            stderr=asyncio.subprocess.DEVNULL,
            **self._build.as_user,
        )
        return await process.wait()

    async def stop(self) -> int:
        """End it as an engine does, and give its exit code."""
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(STOP_S):
            return await self._process.wait()


@pytest.fixture(scope="module")
def image() -> Iterator[Build]:
    """The image, built once; pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        as_user = choose_user()
        python = find_python(as_user)
        if python is None:
            pytest.skip("no Python here may be run by a user without rights")
        build = Build(folder, python, as_user)
        build.carry_out(TEXT, IGNORE)
        build.make_read_only()
        yield build


@asynccontextmanager
async def run(image: Build) -> AsyncIterator[Container]:
    """Start what the image starts: its ENTRYPOINT with its CMD, on a new volume and a free port."""
    image.empty_volume()
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *image.command(image.final.last("ENTRYPOINT")),
        *image.final.last("CMD").words,
        cwd=image.workdir,
        env=image.environment({"TURNPIKE_PORT": str(port)}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        **image.as_user,
    )
    container = Container(image, process, port)
    try:
        await container.wait_until_ready()
        yield container
    finally:
        await container.stop()


def test_the_image_holds_what_runs_and_no_more(image: Build) -> None:
    """The program and its compiled packages are there; pip, the tests and the build's tools are not."""
    assert sorted(path.name for path in image.root.iterdir()) == ["data", "etc", "opt"]
    assert [path.name for path in (image.root / "opt").iterdir()] == ["turnpike"]
    packages = next(image.root.glob("opt/turnpike/lib/python3*/site-packages"))
    assert list(packages.glob("proxy/__pycache__/relay.*.pyc"))
    assert (packages / "proxy/config/prices.json").is_file()
    assert not {"pip", "hatchling", "pytest", "tests"} & {path.name for path in packages.iterdir()}


def test_nothing_outside_the_volume_can_be_written(image: Build) -> None:
    """The tree is closed to the image's user, or the tests below would show nothing."""
    for place, code in (("data", 0), ("etc/turnpike", 1), ("opt/turnpike/bin", 1), ("", 1)):
        command = ["python3", "-c", "import sys; open(sys.argv[1], 'w').close()", str(image.root / place / "probe")]
        env = image.environment({})
        ran = subprocess.run(command, cwd="/", env=env, stderr=subprocess.DEVNULL, check=False, **image.as_user)
        assert ran.returncode == code, place


async def test_a_container_serves_from_a_read_only_tree(image: Build) -> None:
    """It mints a key, answers a chat and is healthy, and changes nothing but the volume; stopped, it is unhealthy."""
    before = image.snapshot()
    async with run(image) as container:
        assert (await get(container.url, "/health")).status == 200
        assert await container.check_health() == 0
        answer = await ask(container.url, chat("simulated", "Hello!"), key=container.minted_key)
        assert answer.status == 200
        assert answer.json["choices"][0]["message"]["content"]
    assert await container.stop() == 0
    assert await container.check_health() == 1
    assert image.snapshot() == before
    assert (image.root / "data/ledger.db").stat().st_uid == image.uid
    assert (image.root / "data").stat().st_mode & 0o777 == 0o700


async def test_a_mounted_table_is_served(image: Build) -> None:
    """A routes.yaml in /etc/turnpike takes the place of the built-in table."""
    with image.mounted("routes.yaml", ROUTES):
        async with run(image) as container:
            answer = await ask(container.url, chat("mounted", "Hello!"), key=DECLARED)
            assert answer.json["choices"][0]["message"]["content"] == "Hello!"
