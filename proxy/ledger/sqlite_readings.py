"""Readings of upstream accounts on SQLite (floor 2): `readings.sql`, run by the threads of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from importlib import resources
from sqlite3 import Cursor

from proxy.ledger.readings import READINGS_KEPT_S, Reading
from proxy.ledger.reports import Reports
from proxy.ledger.sql import parse_blocks
from proxy.ledger.writer import Writer

_STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("readings.sql").read_text("utf-8"))


class SqliteReadings:
    """The `Readings` of readings.py."""

    def __init__(self, writer: Writer, reports: Reports) -> None:
        self._writer = writer
        self._reports = reports

    async def add(self, reading: Reading) -> None:
        """Keep a reading, and forget old ones."""
        await self._writer.call(_add, reading)

    async def list(self) -> Sequence[Reading]:
        """List all that are kept, by account and time."""
        return [Reading(*row) for row in await self._reports.read(_STATEMENTS["list_readings"], ())]

    async def sum_booked(self, provider: str) -> Mapping[str, int]:
        """Give what was ever booked at a provider, by credential."""
        found = await self._reports.read(_STATEMENTS["sum_booked"], (provider, provider))
        return {name: cost or 0 for name, cost in found}


def _add(cursor: Cursor, reading: Reading) -> None:
    cursor.execute(_STATEMENTS["add_reading"], astuple(reading))
    cursor.execute(_STATEMENTS["forget_readings"], (reading.at_s - READINGS_KEPT_S,))
