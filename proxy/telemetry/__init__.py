"""What the operator reads (floor 2): the log, and the figures of all workers together.

`log` writes lines; `board` is the memory that the workers of one server share, `meters` counts into it, `exposition`
reads it out in Prometheus' format.
"""

from __future__ import annotations

from proxy.telemetry.board import Board, Page, Vital
from proxy.telemetry.exposition import expose
from proxy.telemetry.log import FinishedRequest, Telemetry, write_line
from proxy.telemetry.meters import Meters, Names

__all__ = [
    "Board",
    "FinishedRequest",
    "Meters",
    "Names",
    "Page",
    "Telemetry",
    "Vital",
    "expose",
    "write_line",
]
