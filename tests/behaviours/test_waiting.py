"""`wait`: requests that queue for a limit instead of being refused, as clients meet it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.client import Leaving
from tests.faults.replies import ok, ok_paced
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models: {{m: up/m}}
keys:
  - {{name: patient, key: "{{key}}", parallel: 1, wait: 3s}}
  - {{name: brief, key: sk-test-brief, parallel: 1, wait: 200ms}}
  - {{name: paced, key: sk-test-paced, rate: 2/s, wait: 3s}}
  - {{name: slow, key: sk-test-slow, rate: 2/min, wait: 3s}}
  - {{name: peopled, key: sk-test-peopled, users: {{parallel: 1, wait: 3s}}}}
"""
BRIEF, PACED, SLOW, PEOPLED = (f"sk-test-{name}" for name in ("brief", "paced", "slow", "peopled"))


class Stage:
    """A gateway and the upstream behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream) -> None:
        """Keep both."""
        self.gateway = gateway
        self.up = up

    async def ask(self, name: str = "", *, key: str | None = None, **fields: Any) -> client.Answer:
        """Ask under a name, which the upstream reads in the prompt."""
        payload = client.chat("m", name, max_tokens=10, **fields)
        return await client.ask(self.gateway.url, payload, key=key or self.gateway.key)

    @property
    def served(self) -> list[str]:
        """Give the names in the order they went upstream."""
        return [one.body["messages"][0]["content"] for one in self.up.exchanges]

    async def line_up(self, names: str, **fields: Any) -> list[asyncio.Task[client.Answer]]:
        """Send requests in, one behind the other."""
        tasks = []
        for name in names:
            tasks.append(asyncio.get_running_loop().create_task(self.ask(name, **fields)))
            await asyncio.sleep(0.03)
        return tasks


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve keys that may wait."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        yield Stage(gateway, up)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_requests_wait_for_a_place_in_the_order_they_came(stage: Stage, *, is_stream: bool) -> None:
    """One at a time; six that come together are all answered, first come first served."""
    stage.up.replace_script([ok_paced(2, every_s=0.04)])
    answers = await asyncio.gather(*await stage.line_up("abcdef", stream=is_stream))
    assert [answer.status for answer in answers] == [200] * 6
    assert "".join(stage.served) == "abcdef"
    rows = await stage.gateway.settled_rows(6)
    assert all(row.error is None for row in rows)


async def test_requests_wait_for_a_rate(stage: Stage) -> None:
    """Two a second: six take two seconds and more, and none is refused."""
    began_s = time.monotonic()
    answers = await asyncio.gather(*await stage.line_up("abcdef", key=PACED))
    assert [answer.status for answer in answers] == [200] * 6
    assert "".join(stage.served) == "abcdef"
    assert time.monotonic() - began_s > 1.9


async def test_waiting_has_an_end(stage: Stage) -> None:
    """After 200 ms: 429, with the wait that helps."""
    stage.up.replace_script([ok_paced(10, every_s=0.1)])
    first = (await stage.line_up("a", key=BRIEF, stream=True))[0]
    began_s = time.monotonic()
    answer = await stage.ask("b", key=BRIEF)
    assert time.monotonic() - began_s > 0.15
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert (await first).status == 200
    assert stage.served == ["a"]


async def test_what_comes_too_late_is_not_waited_for(stage: Stage) -> None:
    """A minute's rate is used up: nobody waits three seconds to hear of it."""
    began_s = time.monotonic()
    answers = await asyncio.gather(*await stage.line_up("abcd", key=SLOW))
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("how", [Leaving.FIN, Leaving.RST])
async def test_who_leaves_the_line_frees_it_at_once(stage: Stage, how: Leaving) -> None:
    """The one behind moves up, and of who left nothing is in the books."""
    stage.up.replace_script([ok_paced(3, every_s=0.1), ok()])
    first = (await stage.line_up("a", stream=True))[0]
    payload = client.chat("m", "left", max_tokens=10)
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key) as leaving:
        await asyncio.sleep(0.05)
        behind = (await stage.line_up("b"))[0]
        await leaving.leave(how)
    assert (await first).status == 200
    assert (await behind).status == 200
    assert stage.served == ["a", "b"]
    assert len(await stage.gateway.settled_rows(2)) == 2
    assert (await stage.ask("c")).status == 200


async def test_one_users_line_holds_up_no_other(stage: Stage) -> None:
    """Ann waits for her own request; Bob is answered meanwhile with the same key."""
    stage.up.replace_script([ok_paced(4, every_s=0.1), ok()])
    ann = await stage.line_up("ab", key=PEOPLED, user="ann")
    assert (await stage.ask("bob", key=PEOPLED, user="bob")).status == 200
    assert stage.served == ["a", "bob"]
    assert [answer.status for answer in await asyncio.gather(*ann)] == [200, 200]
