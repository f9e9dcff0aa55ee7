"""Long answers: written away from memory, sent in pieces, and gone whatever happens."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from typing import IO

import pytest

from proxy.edge import spooling
from proxy.edge.spooling import MEMORY_BYTES_MAX, read_chunks, spool


async def pages(count: int, *, text: str = "ü" * 10_000, failing: bool = False) -> AsyncIterator[str]:
    """Give pages, and perhaps fail behind them."""
    for _ in range(count):
        yield text
    if failing:
        raise ValueError("the ledger is gone")


@pytest.mark.parametrize("count", [0, 1, 200])
async def test_what_was_written_is_read(count: int) -> None:
    """Short or long, in pieces, and the file is closed behind the last."""
    file = await spool(pages(count))
    assert file._rolled is (count * 20_000 > MEMORY_BYTES_MAX)  # type: ignore[attr-defined]  # noqa: SLF001  # nothing else tells
    chunks = list(read_chunks(file))
    assert b"".join(chunks).decode() == "ü" * 10_000 * count
    assert max(map(len, chunks), default=0) <= spooling.CHUNK_BYTES
    assert file.closed


async def test_nothing_is_left_of_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of what nobody reads to its end."""
    made: list[IO[bytes]] = []
    make = tempfile.SpooledTemporaryFile

    def note(size: int) -> IO[bytes]:
        made.append(make(size))
        return made[-1]

    monkeypatch.setattr(spooling, "SpooledTemporaryFile", note)
    with pytest.raises(ValueError, match="gone"):
        await spool(pages(3, failing=True))
    reading = read_chunks(await spool(pages(200)))
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert [file.closed for file in made] == [True, True]
