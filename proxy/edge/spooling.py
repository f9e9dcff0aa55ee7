"""Long answers without their length in memory (floor 5): written to a nameless file first, sent from there.

A report over a million groups would fill memory as a list; sent while the ledger is read, a client that reads slowly
would keep the ledger's log from being emptied. The file is in memory as long as it is small, and gone with the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO

MEMORY_BYTES_MAX = 1024 * 1024
"""What is longer goes to a file."""
CHUNK_BYTES = 64 * 1024


async def spool(pages: AsyncIterator[str]) -> IO[bytes]:
    """Write all pages of a text; the caller reads them and closes it."""
    file = SpooledTemporaryFile(MEMORY_BYTES_MAX)  # noqa: SIM115  # it goes to the caller
    try:
        async for page in pages:
            file.write(page.encode())
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Give what was written, piece by piece, and close it at the end."""
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
