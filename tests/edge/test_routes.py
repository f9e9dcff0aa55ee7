"""Where paths lead, what health says, and how a wrong path or method is answered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.routing import NoMatchFound

from proxy.edge import health
from proxy.edge.routes import build_routes
from proxy.errors import LedgerUnavailable
from proxy.telemetry import Board, Vital
from tests.edge.desk import Desk

HEALTH = ["/", "/health", "/health/ready", "/health/readiness", "/readyz"]
LIVE = ["/health/live", "/health/liveness", "/health/liveliness", "/healthz"]


@pytest.fixture
async def desk() -> Desk:
    """Give a desk with one key, all its providers ready."""
    desk = Desk()
    await desk.add_key()
    routes = {"free": desk.holder.current.routes["free"]}
    desk.holder.current = replace(desk.holder.current, routes=routes)
    return desk


@pytest.mark.parametrize("path", [*HEALTH, *LIVE])
async def test_a_healthy_gateway_says_so_without_a_key(desk: Desk, path: str) -> None:
    """With the version and the id of the table in force; HEAD says it without a body."""
    response = await desk.get(path, None)
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "version": "0.1.0",
        "config": {"id": "0123456789ab", "loaded_at": "2026-11-18T11:05:40Z", "stale": False},
    }
    assert (await desk.http.head(path)).status_code == 200


async def test_a_refused_edit_degrades(desk: Desk) -> None:
    """200 still: the old table serves."""
    desk.holder.is_stale = True
    response = await desk.get("/health", None)
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["config"]["stale"] is True


@pytest.mark.parametrize("what", ["another worker's table is not the file's", "another worker does not serve"])
async def test_any_worker_tells_of_all(desk: Desk, what: str) -> None:
    """What is wrong with one degrades what each says."""
    board = Board(2)
    for page in board.pages:
        page.cells[Vital.IS_SERVING] = 1
    desk.share(board)
    assert (await desk.get("/health", None)).json()["status"] == "ok"
    board.pages[1].cells[Vital.IS_SERVING if "serve" in what else Vital.IS_STALE] ^= 1
    response = await desk.get("/health", None)
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["config"]["stale"] is ("table" in what)


async def test_a_provider_that_is_not_ready_degrades() -> None:
    """Some model has a target that is skipped."""
    response = await Desk().get("/health", None)
    assert (response.status_code, response.json()["status"]) == (200, "degraded")


@pytest.mark.parametrize("path", HEALTH)
async def test_without_a_ledger_the_gateway_is_down(desk: Desk, path: str) -> None:
    """503 for those that ask whether to send requests; not a word of why."""
    await desk.ledger.close()
    response = await desk.get(path, None)
    assert (response.status_code, response.json()["status"]) == (503, "down")


async def test_without_a_ledger_the_process_still_lives(desk: Desk) -> None:
    """Restarting it would not help."""
    await desk.ledger.close()
    assert (await desk.get("/health/live", None)).status_code == 200


async def test_a_ledger_that_does_not_answer_is_down(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for one look-up, and not waited for."""
    import asyncio

    async def find_key(_digest: str) -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr(health, "LEDGER_WAIT_S", 0.01)
    monkeypatch.setattr(desk.ledger, "find_key", find_key)
    assert (await desk.get("/health", None)).status_code == 503


async def test_a_ledger_that_cannot_be_written_is_down(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can still be read, but nothing that costs money may start."""
    monkeypatch.setattr(desk.ledger, "is_writable", False)
    assert (await desk.get("/health", None)).status_code == 503
    assert (await desk.get("/health/live", None)).status_code == 200


# ---------------------------------------------------------------- wrong turns


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/chat/completions", "must end with /v1"),
        ("/models", "must end with /v1"),
        ("/v1/v1/chat/completions", "/v1 twice"),
        ("/api/v1/v1/models", "/v1 twice"),
        ("/v1/nothing", "does not exist"),
        ("/favicon.ico", "does not exist"),
        ("http://gateway//admin", "does not exist"),
        ("/x/../admin", "does not exist"),
        ("/%61dmin", "does not exist"),
        ("/admin/.", "does not exist"),
        ("/metric", "does not exist"),
        ("/docs", "does not exist"),
        ("/v1/key/", "does not exist"),
        ("/" + "x" * 5000, "does not exist"),
        ("/a%0d%0ab%1b", "does not exist"),
    ],
)
async def test_a_wrong_path_is_told_which_ones_there_are(desk: Desk, path: str, words: str) -> None:
    """404 in our error shape, without a redirect; what a client wrote is shown short and printable."""
    response = await desk.get(path)
    assert response.status_code == 404
    error = response.json()["error"]
    assert words in error["message"]
    assert (
        "chat/completions, models, providers, key, keys, credits, generation, activity, usage, stats"
        in error["message"]
    )
    assert len(error["message"]) < 500
    assert error["message"].isprintable()
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/chat", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("TRACE", "/api/v1/key", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/api/v1/chat/completions", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(desk: Desk, method: str, path: str, allowed: str) -> None:
    """405 with Allow."""
    response = await desk.http.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    error = response.json()["error"]
    assert error["code"] == (405 if path.startswith("/api") else "method_not_allowed")


def test_no_name_leads_to_nowhere() -> None:
    """The last route is not one to link to."""
    with pytest.raises(NoMatchFound):
        build_routes(Desk().services)[-1].url_path_for("nowhere")


@pytest.mark.parametrize("header", ["x-http-method-override", "x-method-override"])
async def test_a_method_cannot_be_overridden(desk: Desk, header: str) -> None:
    """S19."""
    response = await desk.http.post("/v1/models", headers={header: "GET"})
    assert response.status_code == 405


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/v1/key", "/health"])
async def test_every_answer_has_a_request_id(desk: Desk, path: str) -> None:
    """The client's when we can vouch for it, else ours (S17)."""
    assert (await desk.get(path, **{"x-request-id": "abc_DEF-1"})).headers["x-request-id"] == "abc_DEF-1"
    ours = (await desk.get(path, **{"x-request-id": "a b"})).headers["x-request-id"]
    assert ours != "a b"
    assert ours


@pytest.mark.parametrize("path", ["/v1/key", "/api/v1/key"])
async def test_an_unexpected_exception_is_a_bare_500(desk: Desk, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """In our shape, without a word of what it said."""

    async def find_key(_digest: str) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(desk.ledger, "find_key", find_key)
    response = await desk.get(path)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "api_error"
    assert "secret" not in response.text
    assert response.headers["x-request-id"]


async def test_our_own_errors_keep_their_status(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever raised them."""

    async def find_key(_digest: str) -> None:
        raise LedgerUnavailable("away", retry_after_s=3)

    monkeypatch.setattr(desk.ledger, "find_key", find_key)
    response = await desk.get("/v1/models")
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")
