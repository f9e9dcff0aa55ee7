"""`/metrics` (floor 5): the figures of all workers in Prometheus' format, from whichever worker is asked.

On a port of its own, on loopback, no key is asked for: who can reach it is on this machine, and no figure names a
client.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import __version__
from proxy.edge.server import Asgi
from proxy.telemetry import Board, expose
from proxy.telemetry.exposition import CONTENT_TYPE

PATH = "/metrics"


class Metrics:
    """The endpoint; who may ask it is decided where it is mounted."""

    def __init__(self, board: Board) -> None:
        """Show this board."""
        self._board = board

    async def show(self, _request: Request) -> Response:
        """`GET /metrics`."""
        return Response(expose(self._board, version=__version__), headers={"content-type": CONTENT_TYPE})


def beside_metrics(app: Asgi, board: Board, *, port: int) -> Asgi:
    """Serve an app, but on that port of ours `/metrics` alone."""
    metrics = Starlette(routes=[Route(PATH, Metrics(board).show, methods=["GET"])])

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        # The connection's own end, as the kernel has it: no header can change it.
        server = scope.get("server")
        await (metrics if server and server[1] == port else app)(scope, receive, send)

    return either
