"""Takes an exchange to its end, as the edge does, and keeps what its client was given."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import (
    RequestError,
)
from proxy.gateway import Answer, Asked, Exchange
from tests.faults.events import EventReader
from tests.gateway.stage import (
    Stage,
    in_time,
)


class Told:
    """What an exchange gave its client."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.answer = Answer({}, None)
        self.pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        """All bytes."""
        return b"".join(self.pieces)

    @property
    def chunks(self) -> list[Any]:
        """The events' JSON, the terminal one as text."""
        reader = EventReader()
        found = [event for event in reader.feed(self.body, at=0.0) if event.data is not None]
        assert not list(reader.rest(at=0.0))
        return ["[DONE]" if event.is_done else event.json for event in found]


async def tell(stage: Stage, asked: Asked) -> Told:
    """Take an exchange to its end, as the edge does."""
    async with in_time(), Exchange(asked, stage.service) as exchange:
        told = Told(exchange)
        told.answer = await exchange.answer()
        if told.answer.body is not None:
            told.pieces.append(told.answer.body)
        else:
            while piece := await exchange.next_piece():
                told.pieces.append(piece)
    return told


async def refuse(stage: Stage, asked: Asked) -> tuple[RequestError, Exchange]:
    """Take an exchange to its refusal."""
    exchange = Exchange(asked, stage.service)
    with pytest.raises(RequestError) as caught:
        async with in_time(), exchange:
            await exchange.answer()
    return caught.value, exchange


async def states(stage: Stage) -> list[tuple[str, str | None]]:
    """Give each row's state and error."""
    return [(row.state.value, row.error) for row in await stage.rows()]
