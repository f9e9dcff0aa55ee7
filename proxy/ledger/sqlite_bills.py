"""Bills of upstream accounts on SQLite (floor 2): `bills.sql`, run by the threads of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from importlib import resources
from sqlite3 import Cursor

from proxy.ledger.bills import BILLS_KEPT_S, Bill
from proxy.ledger.reports import Reports
from proxy.ledger.sql import parse_blocks
from proxy.ledger.writer import Writer

_STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("bills.sql").read_text("utf-8"))


class SqliteBills:
    """The `Bills` of bills.py."""

    def __init__(self, writer: Writer, reports: Reports) -> None:
        self._writer = writer
        self._reports = reports

    async def add(self, bill: Bill) -> None:
        """Keep a bill, and forget old ones."""
        await self._writer.call(_add, bill)

    async def list(self) -> Sequence[Bill]:
        """List all that are kept, by account and time."""
        return [Bill(*row) for row in await self._reports.read(_STATEMENTS["list_bills"], ())]

    async def sum_booked(self, provider: str) -> Mapping[str, int]:
        """Give what was ever booked at a provider, by credential."""
        found = await self._reports.read(_STATEMENTS["sum_booked"], (provider, provider))
        return {name: cost or 0 for name, cost in found}


def _add(cursor: Cursor, bill: Bill) -> None:
    cursor.execute(_STATEMENTS["add_bill"], astuple(bill))
    cursor.execute(_STATEMENTS["forget_bills"], (bill.at_s - BILLS_KEPT_S,))
