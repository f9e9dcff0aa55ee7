"""Several workers behind one port: they share the work, the books and the figures, and one that dies is replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from random import Random

import pytest

from tests.behaviours.test_crash import expect_kept
from tests.behaviours.workers import KEY, PATIENCE_S, ROUTES, Team, holders, is_alive, team
from tests.faults.client import get
from tests.faults.ports import HOST
from tests.faults.serving import StartError, TurnpikeServer, serve
from tests.faults.upstream import FaultUpstream
from tests.torture import budget, crash
from tests.torture.books import Books
from tests.torture.gates import Gate, held_midway
from tests.torture.load import Question, Seen, put
from tests.torture.waiting import wait_until

UPSTREAM = """
providers: {{up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}}}
models: {{"m/*": up/*}}
keys: [{{name: app, key: sk-test-workers}}]
"""
FLAGS = ("--workers", "3")


async def hold(server: TurnpikeServer, up: FaultUpstream, count: int) -> list[asyncio.Task[Seen]]:
    """Open so many streams and wait until the upstream has begun each."""
    questions = [Question(f"m/{number}", KEY, is_stream=True) for number in range(count)]
    tasks = [asyncio.create_task(put(server.url, question)) for question in questions]
    assert await wait_until(lambda: len(up.exchanges) >= count, limit_s=PATIENCE_S) is not None
    return tasks


async def until_gone(pids: set[int]) -> None:
    """Wait until none of these processes lives."""
    assert await wait_until(lambda: not any(map(is_alive, pids)), limit_s=PATIENCE_S) is not None


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


# ---------------------------------------------------------------- a start


async def test_all_workers_serve_behind_one_ready_line(tmp_path: Path) -> None:
    """At that line every worker answers; a first key is minted once, and one process does the jobs of the folder."""
    keyless = ROUTES.partition("keys:")[0]
    async with team(tmp_path, 4, keyless) as four:
        assert [line.startswith("listening on ") for line in four.server.stdout].count(True) == 1
        keys = [line.rpartition(": ")[2] for line in four.server.stdout if "shown only this once" in line]
        assert len(keys) == 1
        question = Question("chat", keys[0], is_stream=False)
        seen = await asyncio.gather(*(put(four.server.url, question) for _ in range(80)))
        assert {answer.status for answer in seen} == {200}
        books = Books(four.server.data)
        assert len({row.owner for row in books.rows()}) == 4
        assert len(four.workers()) == 4
        assert set(holders(four.server.data / "jobs.lock")) < four.workers()


async def test_what_is_wrong_is_found_before_any_worker_starts(tmp_path: Path) -> None:
    """With the exit codes of one process: 2 for a port in use and for a bad table, 3 for a ledger out of reach."""
    async with serve(ROUTES, tmp_path / "first", arguments=FLAGS) as first:
        second = TurnpikeServer(ROUTES, tmp_path / "second", arguments=FLAGS)
        second.port = first.port
        with pytest.raises(StartError, match=f"Cannot listen on .* port {first.port}"):
            await second.start()
        assert not second.data.exists()
    bad = TurnpikeServer("models: {chat: nowhere/x}\n", tmp_path / "bad", arguments=FLAGS)
    lost = TurnpikeServer(ROUTES, tmp_path / "lost", arguments=FLAGS)
    lost.data.write_text("a file where the folder should be")
    for server in (bad, lost):
        with pytest.raises(StartError):
            await server.start()
    assert [server.process and server.process.returncode for server in (second, bad, lost)] == [2, 2, 3]
    assert len(lost.stderr) == 1


# ---------------------------------------------------------------- an end


async def test_a_signal_to_the_group_drains_every_stream(tmp_path: Path) -> None:
    """No new connection is taken, each stream comes to its proper end, and then the exit code is 0."""
    gate = Gate()
    async with FaultUpstream([held_midway(gate)]) as up:
        async with serve(UPSTREAM.format(up=up.base_url), tmp_path, arguments=FLAGS) as server:
            held = await hold(server, up, 12)
            ending = asyncio.create_task(server.terminate())
            assert await wait_until(lambda: is_free(server.port), limit_s=PATIENCE_S) is not None
            assert not ending.done()
            gate.is_open = True
            assert all(seen.is_whole for seen in await asyncio.gather(*held))
            assert await ending == 0
        assert not Books(server.data).find_faults()


async def test_a_second_signal_ends_the_wait(tmp_path: Path) -> None:
    """Streams are cut and booked; the exit code is 0."""
    async with FaultUpstream([held_midway(Gate())]) as up:
        server = await TurnpikeServer(UPSTREAM.format(up=up.base_url), tmp_path, arguments=FLAGS).start()
        assert server.process is not None
        held = await hold(server, up, 6)
        os.kill(server.process.pid, signal.SIGINT)
        await wait_until(lambda: is_free(server.port), limit_s=PATIENCE_S)
        assert await server.terminate() == 0
        assert not any(seen.is_whole for seen in await asyncio.gather(*held))
        assert not Books(server.data).find_faults()


async def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    """When it is killed, streams and all: they book what they were at and end, and the port is free."""
    async with FaultUpstream([held_midway(Gate())]) as up:
        server = await TurnpikeServer(UPSTREAM.format(up=up.base_url), tmp_path, arguments=FLAGS).start()
        three = Team(server, "")
        workers = three.workers()
        assert len(workers) == 3
        held = await hold(server, up, 6)
        os.kill(three.parent, signal.SIGKILL)
        await until_gone(workers)
        assert is_free(server.port)
        assert not any(seen.is_whole for seen in await asyncio.gather(*held))
        assert not Books(server.data).find_faults()
        await server.kill()


# ---------------------------------------------------------------- a death


async def test_a_worker_killed_under_load_is_replaced_and_loses_no_row(tmp_path: Path) -> None:
    """The others go on, its holds are booked in full, and every id and cost a client saw is in the books."""
    expect_kept(await crash.run(tmp_path, Random(), rounds=2, rate_per_s=60, kill_after_s=(0.3, 0.6), workers=3))


async def test_jobs_pass_to_another_process_when_their_keeper_dies(tmp_path: Path) -> None:
    """There is one keeper for a folder, whichever server it belongs to."""
    async with team(tmp_path, 2) as two, serve(ROUTES, tmp_path) as other:
        assert other.process is not None
        lock = two.server.data / "jobs.lock"
        processes = two.workers() | {other.process.pid}
        (first,) = holders(lock)
        assert first in processes
        os.kill(first, signal.SIGKILL)
        assert await wait_until(lambda: holders(lock) not in ([], [first]), limit_s=5) is not None
        assert len(holders(lock)) == 1


async def test_a_worker_that_cannot_start_again_is_tried_ever_less_often(tmp_path: Path) -> None:
    """Its share of the connections goes to the others meanwhile; once the cause is mended it is back."""
    async with team(tmp_path, 2) as two:
        two.server.write_routes("models: {chat: nowhere/x}\n")
        os.kill(min(two.workers()), signal.SIGKILL)
        await two.until_serving(1)
        assert await wait_until(lambda: len(deaths(two)) >= 3, limit_s=PATIENCE_S) is not None
        causes, waits = zip(*deaths(two)[:3], strict=True)
        assert causes == ("signal 9", "exit code 2", "exit code 2")
        assert waits[0] == 0 < waits[1] < waits[2]
        answers = await asyncio.gather(*(two.ask() for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert max(answer.seconds for answer in answers) < waits[2]
        assert (await two.health()).json["status"] == "degraded"
        two.server.write_routes(ROUTES)
        await two.until_serving(2)


def deaths(some: Team) -> list[tuple[str, float]]:
    """Read from the log what workers died of, and how long their places were to stay empty."""
    lines = [json.loads(line) for line in some.server.stderr if '"worker_died"' in line]
    return [(line["cause"], line["started_again_in_s"]) for line in lines]


# ---------------------------------------------------------------- money


async def test_a_budget_is_a_wall_for_all_workers_together(tmp_path: Path) -> None:
    """200 at once on a key with room for 20, over four workers: 20 are let in, 180 get 402 and reach no upstream."""
    expect_kept(await budget.run(tmp_path, Random(), cases=[budget.Case(200, 20, 1, workers=4)]))


async def test_a_rate_is_one_for_all_workers(tmp_path: Path) -> None:
    """80 at once on a key that may ask 20 times a minute: 20 are answered, whoever got them."""
    async with team(tmp_path, 4, ROUTES.replace(f"key: {KEY}", f"key: {KEY}, rate: 20/min")) as four:
        answers = await asyncio.gather(*(four.ask() for _ in range(80)))
        assert sorted(answer.status for answer in answers) == [200] * 20 + [429] * 60


# ---------------------------------------------------------------- figures


async def counted(served: Team, requests: int) -> None:
    """Wait until so many are counted: that comes a moment after a reply's last byte."""
    async with asyncio.timeout(PATIENCE_S):
        while await served.metric("requests_total") != requests:  # noqa: ASYNC110  # another process counts
            await asyncio.sleep(0.01)


async def test_metrics_are_the_sum_over_workers_and_outlive_them(tmp_path: Path) -> None:
    """Exact when all is quiet, whichever worker is asked; a worker's death takes nothing back."""
    async with team(tmp_path, 3) as three:
        await asyncio.gather(*(three.ask() for _ in range(40)))
        await counted(three, 40)
        for _ in range(4):
            assert await three.metric("requests_total", route="chat", provider="sim", model="echo", status="200") == 40
        assert await three.metric("attempts_total", outcome="ok") == 40
        assert await three.metric("first_token_seconds_count") == 40
        assert await three.metric("overhead_seconds_bucket", le="+Inf") == 40
        os.kill(min(three.workers()), signal.SIGKILL)
        assert await wait_until(lambda: len(deaths(three)) == 1, limit_s=PATIENCE_S) is not None
        await three.until_serving(3)
        assert await three.metric("requests_total") == 40
        await asyncio.gather(*(three.ask() for _ in range(20)))
        await counted(three, 60)
        assert await three.metric("worker_deaths_total") == 1
        rows = Books(three.server.data).rows()
        cost_nano_usd = sum(row.cost_nano_usd or 0 for row in rows)
        assert round(await three.metric("cost_usd_total") * 1e9) == cost_nano_usd > 0


async def test_what_is_under_way_is_told_for_all_workers(tmp_path: Path) -> None:
    """Also when the worker that was at it is killed: then it is under way no more."""
    gate = Gate()
    async with FaultUpstream([held_midway(gate)]) as up, team(tmp_path, 2, UPSTREAM.format(up=up.base_url)) as two:
        held = await hold(two.server, up, 16)
        assert [await two.metric("requests_in_flight") for _ in range(3)] == [16, 16, 16]
        os.kill(min(two.workers()), signal.SIGKILL)
        await wait_until(lambda: len(deaths(two)) == 1, limit_s=PATIENCE_S)
        left = 16 - sum(task.done() for task in held)
        await two.until_serving(2)
        assert await two.metric("requests_in_flight") <= left < 16
        gate.is_open = True
        await asyncio.gather(*held)
        assert await two.metric("requests_in_flight") == 0


async def test_a_refused_edit_is_told_by_every_worker(tmp_path: Path) -> None:
    """And the table as it was goes on to answer, until the file is good again."""
    async with team(tmp_path, 3) as three:

        async def until(status: str) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while {(await three.health()).json["status"] for _ in range(6)} != {status}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        three.server.write_routes("models: {chat: nowhere/x}\n")
        await until("degraded")
        assert await three.metric("config_stale") == 1
        assert (await three.ask()).status == 200
        three.server.write_routes(ROUTES)
        await until("ok")
        assert await three.metric("config_stale") == 0


async def test_metrics_are_shown_to_anybody_on_their_own_port_alone(tmp_path: Path) -> None:
    """Nothing but metrics there; on the clients' port they want the admin key."""
    async with team(tmp_path, 2) as two:
        assert (await get(two.server.url, "/metrics")).status == 401
        assert (await get(two.metrics_url, "/health")).status == 404
        answer = await get(two.metrics_url, "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert KEY not in answer.body.decode()
        assert "app" not in answer.body.decode()
