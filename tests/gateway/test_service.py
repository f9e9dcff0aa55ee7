"""Shielded work goes on behind a caller that is cancelled, and is waited for at the end."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.stage import Stage, a_stage, in_time, streamed


class Work:
    """Something that must not be left half done."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.is_done = False

    async def run(self) -> None:
        """Wait, then be done."""
        self.begun.set()
        await self.may_end.wait()
        self.is_done = True


async def cancelled(stage: Stage, work: Work) -> None:
    """Begin the work shielded and cancel the caller, twice."""
    task = asyncio.create_task(stage.service.shield(work.run()))
    await work.begun.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_shielded_work_is_awaited() -> None:
    """Whoever is not cancelled has it done."""
    stage, work = await a_stage(streamed()), Work()
    work.may_end.set()
    async with in_time():
        await stage.service.shield(work.run())
    assert work.is_done


async def test_draining_waits_for_what_goes_on() -> None:
    """Also for work that begins meanwhile."""
    stage, first, second = await a_stage(streamed()), Work(), Work()
    await cancelled(stage, first)
    draining = asyncio.create_task(stage.service.drain())
    await cancelled(stage, second)
    first.may_end.set()
    await asyncio.sleep(0.01)
    assert (first.is_done, draining.done()) == (True, False)
    second.may_end.set()
    async with in_time():
        await draining
    assert second.is_done


async def test_draining_nothing_is_over_at_once() -> None:
    """A gateway that never served is closed without a wait."""
    stage = await a_stage(streamed())
    async with in_time():
        await stage.service.drain()


async def test_a_failure_behind_the_shield_reaches_its_caller() -> None:
    """And draining afterwards finds nothing."""

    async def fail() -> None:
        raise ValueError("a bug")

    stage = await a_stage(streamed())
    with pytest.raises(ValueError, match="a bug"):
        await stage.service.shield(fail())
    async with in_time():
        await stage.service.drain()
