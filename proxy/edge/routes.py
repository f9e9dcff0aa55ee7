"""Which path leads where (floor 5), and what a client is told that took a wrong one.

Protection sits in each endpoint, never on a path: what a path means is decided once, by matching it here. Chat is not
in this table; `app` serves it before any router is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

from proxy.codecs.wire import Surface
from proxy.edge.account import Account
from proxy.edge.administration import Handlers, admin_handlers, metrics_handlers, provisioning_handlers
from proxy.edge.chat import wished_id
from proxy.edge.errors import error_reply, surface_of
from proxy.edge.health import Health
from proxy.edge.history import History
from proxy.edge.models import Models
from proxy.edge.services import Services
from proxy.errors import ClientError, NotFound, RequestError

Handler = Callable[[Request], Awaitable[Response]]

PATH_SHOWN_CHARS = 200
CHAT = "chat/completions"

_SHOWN = ("models", "providers", "key", "keys", "credits", "generation", "activity", "usage", "stats")
"""Where a path may begin, as a lost client is told."""


class MethodNotAllowed(ClientError):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


def build_routes(services: Services) -> list[BaseRoute]:
    """Give every path but chat's, ending with one that answers for all that do not exist."""
    routes = _health_routes(Health(services))
    for surface in Surface:
        routes += _surface_routes(surface.value, services)
        routes += _made(provisioning_handlers(services), surface.value)
    routes += _made(admin_handlers(services), "/admin")
    routes += _made(metrics_handlers(services), "")
    return [*routes, _Nowhere(tuple(routes))]


def _made(handlers: Handlers, prefix: str) -> list[Route]:
    return [Route(f"{prefix}/{path}", _guarded(handler), methods=[method]) for method, path, handler in handlers]


def handle_failure(request: Request, error: Exception) -> Response:
    """Answer an unexpected exception without a word of it: for Starlette's `exception_handlers`, under `Exception`."""
    return _answer_error(request, error, wished_id(request.scope["headers"]))


def _health_routes(health: Health) -> list[Route]:
    ready = ("/", "/health", "/health/ready", "/health/readiness", "/readyz")
    live = ("/health/live", "/health/liveness", "/health/liveliness", "/healthz")
    return [
        *(Route(path, _guarded(health.show), methods=["GET"]) for path in ready),
        *(Route(path, _guarded(health.show_live), methods=["GET"]) for path in live),
    ]


def _surface_routes(prefix: str, services: Services) -> list[Route]:
    models, account, history = Models(services), Account(services), History(services)
    handlers: dict[str, Handler] = {
        "models": models.show_list,
        "models/": models.show_list,
        "models/user": models.show_page,
        "models/count": models.show_count,
        "models/{id:path}/endpoints": models.show_endpoints,
        "models/{id:path}": models.show_one,
        "model/{id:path}": models.show_model,
        "providers": models.show_providers,
        "key": account.show_key,
        "auth/key": account.show_key,
        "credits": account.show_credits,
        "generation": history.show_generation,
        "activity": history.show_activity,
        "usage": account.show_usage,
        "stats": account.show_stats,
    }
    return [Route(f"{prefix}/{path}", _guarded(handler), methods=["GET"]) for path, handler in handlers.items()]


def _guarded(handler: Handler) -> Handler:
    """Turn our errors into answers, and give every answer its request id."""

    async def serve(request: Request) -> Response:
        request_id = wished_id(request.scope["headers"])
        try:
            response = await handler(request)
        except RequestError as error:
            return _answer_error(request, error, request_id)
        response.headers["x-request-id"] = request_id
        return response

    return serve


def _answer_error(request: Request, error: Exception, request_id: str) -> Response:
    reply = error_reply(error, surface_of(request.scope["path"]), request_id=request_id)
    return Response(reply.body, reply.status, {name.decode(): value.decode("latin-1") for name, value in reply.headers})


class _Nowhere(BaseRoute):
    """Answers for every path that does not exist, and every method a path does not have."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes = routes

    def matches(self, _scope: Scope) -> tuple[Match, Scope]:
        """Take what no other route took; a pattern would not do, as none matches a path with a newline in it."""
        return Match.FULL, {}

    def url_path_for(self, name: str, /, **_path_params: object) -> NoReturn:
        """Give no path: nothing leads here by name."""
        raise NoMatchFound(name, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell which paths there are, or which methods this one has."""
        await self._answer(Request(scope))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        request_id = wished_id(request.scope["headers"])
        path = request.scope["path"]
        methods = self._methods(request)
        if not methods:
            error = NotFound(_hint(path), code="unknown_url")
            return _answer_error(request, error, request_id)
        shown = ", ".join(sorted(methods))
        refused = MethodNotAllowed(f"{_shown(path)} answers only to {shown}.")
        response = _answer_error(request, refused, request_id)
        response.headers["allow"] = shown
        return response

    def _methods(self, request: Request) -> set[str]:
        if any(request.scope["path"] == f"{surface.value}/{CHAT}" for surface in Surface):
            return {"POST"}
        scope = dict(request.scope)
        return {
            method
            for route in self._routes
            if route.matches(scope)[0] is Match.PARTIAL
            for method in route.methods or ()
        }


def _hint(path: str) -> str:
    """Say what is wrong with a path, in terms of the base_url that leads to it."""
    there_are = f"there are {CHAT}, {', '.join(_SHOWN)} under /v1 and /api/v1, and /health"
    for surface in (Surface.OPENROUTER, Surface.OPENAI):
        doubled = surface.value + Surface.OPENAI.value
        if path.startswith(doubled + "/"):
            return f"{_shown(path)} has /v1 twice: the base_url must end with one {surface.value}; {there_are}."
    first = path.strip("/").partition("/")[0]
    if first in {"chat", "completions", *_SHOWN}:
        return f"{_shown(path)} lacks its prefix: the base_url must end with /v1 or /api/v1; {there_are}."
    return f"{_shown(path)} does not exist; {there_are}."


def _shown(path: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in path[:PATH_SHOWN_CHARS])
