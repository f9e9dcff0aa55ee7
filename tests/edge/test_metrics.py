"""`/metrics` on a port of its own: there nothing else is served, and elsewhere it is not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from proxy.edge.metrics import beside_metrics
from proxy.telemetry import Board
from tests.edge.connection import EchoApp
from tests.telemetry.figures import values

PORT = 9464


async def get(path: str, port: int, method: str = "GET") -> httpx.Response:
    """Ask as if over that port."""
    app: Any = beside_metrics(EchoApp(), Board(3), port=PORT)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
        return await client.request(method, path)


async def test_the_metrics_port_shows_metrics() -> None:
    """In Prometheus' format, without a key."""
    response = await get("/metrics", PORT)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert values(response.text, "workers") == ["3"]


@pytest.mark.parametrize(
    ("path", "method"), [("/v1/chat/completions", "POST"), ("/health", "GET"), ("/metrics", "POST")]
)
async def test_it_serves_nothing_else(path: str, method: str) -> None:
    """Whoever may read figures may not use the gateway."""
    assert (await get(path, PORT, method)).status_code in (404, 405)


async def test_clients_get_the_app() -> None:
    """The same path on their port is theirs."""
    assert "turnpike_" not in (await get("/metrics", PORT + 1)).text
