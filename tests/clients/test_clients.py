"""What clients other than OpenAI's Python SDK get from `turnpike serve`: a table of clients, one of what may happen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import pytest
import pytest_asyncio

from tests.clients.conftest import POOR, House
from tests.clients.process import ClientProcess, Facts, locked_version
from tests.clients.tap import Tap
from tests.faults import chunks
from tests.faults.statuses import SECRETS

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Final = "Hello there, gate keeper"
WEATHER: Final = "Ask get_forecast, please"
FORECAST: Final = {"city": "text", "days": 0}
PROGRAMS: Final = {"openai2": "python_clients.py", "openai3": "python_clients.py", "node": "node_clients.mjs"}

OPENAI: Final = {
    401: "openai.AuthenticationError",
    402: "openai.APIStatusError",
    404: "openai.NotFoundError",
    429: "openai.RateLimitError",
    502: "openai.InternalServerError",
    503: "openai.InternalServerError",
}
OPENROUTER: Final = {
    401: "UnauthorizedResponseError",
    402: "PaymentRequiredResponseError",
    404: "NotFoundResponseError",
    429: "TooManyRequestsResponseError",
    502: "BadGatewayResponseError",
}
LITELLM: Final = {
    401: "litellm.AuthenticationError",
    402: "litellm.APIError",
    404: "litellm.NotFoundError",
    429: "litellm.RateLimitError",
    502: "litellm.BadGatewayError",
    503: "litellm.ServiceUnavailableError",
}


class Client(NamedTuple):
    """One client: where it lives, and under which names it raises what."""

    environment: str
    package: str
    raised: Mapping[int, str]
    """Classes by the status of the refusal."""
    broken: str
    """The class of a stream that broke with an error event."""
    dead: str
    """The class of a connection that ended in the middle of a stream."""
    prefix: str = "/v1"
    repeats_5xx: int = 1
    """Requests it makes of a 5xx that says `x-should-retry: false`, when left to itself."""
    is_stubborn: bool = False
    """Nothing turns its retries off."""
    wraps_streams: str | None = None
    """The class it wraps every failure of a stream in; the status is then only in the words."""


VERCEL: Final = dict.fromkeys(OPENAI, "APICallError")
CLIENTS: Final = {
    "langchain": Client(
        "openai3",
        "langchain-openai",
        {
            401: "langchain_openai.OpenAIAuthenticationError",
            402: "openai.APIStatusError",
            404: "langchain_openai.OpenAIModelNotFoundError",
            429: "langchain_openai.OpenAIRateLimitError",
            502: "langchain_openai.OpenAIAPIError",
            503: "langchain_openai.OpenAIAPIError",
        },
        broken="openai.APIError",
        dead="langchain_openai.OpenAIConnectionError",
    ),
    "pydantic_ai": Client(
        "openai3",
        "pydantic-ai-slim",
        {
            401: "pydantic_ai.ModelAuthenticationError",
            402: "pydantic_ai.ModelQuotaExceededError",
            404: "pydantic_ai.ModelNotFoundError",
            429: "pydantic_ai.ModelRateLimitError",
            502: "pydantic_ai.ModelServerError",
            503: "pydantic_ai.ModelUnavailableError",
        },
        broken="pydantic_ai.ModelAPIError",
        dead="pydantic_ai.ModelConnectionError",
    ),
    "llm": Client(
        "openai3", "llm", OPENAI, broken="openai.APIError", dead="openai.APIConnectionError", is_stubborn=True
    ),
    "instructor": Client(
        "openai2",
        "instructor",
        OPENAI,
        broken="instructor.InstructorRetryException",
        dead="instructor.InstructorRetryException",
        wraps_streams="instructor.InstructorRetryException",
    ),
    "litellm": Client(
        "openai2",
        "litellm",
        LITELLM,
        broken="litellm.MidStreamFallbackError",
        dead="litellm.MidStreamFallbackError",
    ),
    "litellm_openrouter": Client(
        "openai2",
        "litellm",
        LITELLM | {502: "litellm.APIError"},
        broken="litellm.MidStreamFallbackError",
        dead="litellm.MidStreamFallbackError",
        prefix="/api/v1",
    ),
    "langchain_openrouter": Client(
        "openai2",
        "langchain-openrouter",
        {status: f"openrouter.{name}" for status, name in OPENROUTER.items()},
        # It reads an error only where the chunk has no choices; what it then meets is the connection's abrupt end.
        broken="httpx.RemoteProtocolError",
        dead="httpx.RemoteProtocolError",
        prefix="/api/v1",
    ),
    "openrouter_python": Client(
        "openai3",
        "openrouter",
        {status: f"openrouter.{name}" for status, name in OPENROUTER.items()},
        broken="ChunkError",
        dead="httpx.RemoteProtocolError",
        prefix="/api/v1",
    ),
    "openai_node": Client(
        "node",
        "openai",
        {status: name.removeprefix("openai.") for status, name in OPENAI.items()} | {402: "APIError"},
        broken="APIError",
        dead="TypeError",
    ),
    "ai_openai": Client("node", "@ai-sdk/openai", VERCEL, broken="Object", dead="APICallError", repeats_5xx=3),
    "ai_compatible": Client(
        "node", "@ai-sdk/openai-compatible", VERCEL, broken="Object", dead="APICallError", repeats_5xx=3
    ),
    "ai_openrouter": Client(
        "node", "@openrouter/ai-sdk-provider", VERCEL, broken="Object", dead="TypeError", prefix="/api/v1"
    ),
    "openrouter_typescript": Client(
        "node", "@openrouter/sdk", OPENROUTER, broken="ChunkError", dead="TypeError", prefix="/api/v1"
    ),
}
SDKS_OF_OPENROUTER: Final = ("openrouter_python", "openrouter_typescript")


class Refusal(NamedTuple):
    """A request that is not answered, and what each client is told of it."""

    status: int
    words: str
    ask: Mapping[str, Any]
    is_final: bool = True
    """Waiting does not cure it: clients are left to themselves, and must not try again."""


REFUSALS: Final = {
    "wrong_key": Refusal(401, "The client key is not valid", {"model": "echo", "key": "sk-nobody"}),
    "no_money": Refusal(402, "the budget has", {"model": "echo", "key": POOR}),
    "no_model": Refusal(404, "Did you mean", {"model": "ecko"}),
    "limited": Refusal(429, "Every target is rate limited", {"model": "up/rate_limited"}, is_final=False),
    "failed": Refusal(502, "No target could answer", {"model": "up/status_500"}, is_final=False),
}
CUTS: Final = (
    "up/error_event_openai",
    "up/error_event_openrouter",
    "up/error_event_then_done",
    "up/reset_mid_stream",
    "up/close_mid_event",
    "up/clean_end_without_finish",
    "up/done_without_finish",
    "hasty/hang_mid_stream",
)


class Desk:
    """All clients in front of one server."""

    def __init__(self, house: House, tap: Tap, stack: AsyncExitStack) -> None:
        self.house = house
        self.tap = tap
        self._stack = stack
        self._processes: dict[str, ClientProcess] = {}

    async def process(self, environment: str) -> ClientProcess:
        """Give the program that runs the clients of an environment; a new one after a stuck one was killed."""
        if environment not in self._processes or not self._processes[environment].is_running:
            process = ClientProcess(environment, PROGRAMS[environment], {})
            self._processes[environment] = await self._stack.enter_async_context(process)
        return self._processes[environment]

    async def run(self, name: str, check: str, /, **ask: Any) -> tuple[Facts, list[str]]:
        """Have a client do something; give what came of it and the requests it made."""
        process, before = await self.process(CLIENTS[name].environment), len(self.tap.requests)
        known = {"client": name, "url": self.tap.url + CLIENTS[name].prefix, "key": self.house.server.key}
        facts = await process.run(check, options={}, ask={**known, "text": HELLO, "retries": None, **ask})
        assert not [secret for secret in SECRETS if secret in str(facts)]
        return facts, self.tap.requests[before:]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(house: House) -> AsyncIterator[Desk]:
    """The clients of this module; each starts when it is first needed."""
    async with AsyncExitStack() as stack:
        yield Desk(house, await stack.enter_async_context(Tap(house.server.port)), stack)


def completions(client: Client, count: int = 1) -> list[str]:
    """Give the requests that `count` calls make, and nothing else."""
    return [f"POST {client.prefix}/chat/completions"] * count


@pytest.mark.parametrize("name", CLIENTS)
async def test_the_locked_client_is_the_one_that_runs(desk: Desk, name: str) -> None:
    """An environment left over from an older lock proves nothing: `make test` makes it anew."""
    client = CLIENTS[name]
    facts = (await desk.process(client.environment)).facts
    assert facts["versions"][client.package] == locked_version(client.environment, client.package)


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_plain_answer(desk: Desk, name: str) -> None:
    """Text, finish reason and token counts, for one request."""
    seen, requests = await desk.run(name, "chat", model="echo")
    assert (seen["text"], seen.get("finish", "stop"), seen["tokens"]) == (HELLO, "stop", [6, 4])
    assert requests == completions(CLIENTS[name])


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_stream(desk: Desk, name: str) -> None:
    """The same in pieces, usage at its end."""
    seen, requests = await desk.run(name, "stream", model="echo")
    if name == "instructor":
        assert seen["text"] == '{"city":"text","days":0}'
    else:
        assert (seen["text"], seen.get("finish", "stop"), seen["tokens"]) == (HELLO, "stop", [6, 4])
    assert requests == completions(CLIENTS[name])


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "instructor"])
async def test_a_stream_of_openrouters(desk: Desk, name: str) -> None:
    """What OpenRouter's own stream looks like, comments and all, reads like any other."""
    seen, _ = await desk.run(name, "stream", model="up/ok_openrouter")
    assert (seen["text"], seen["tokens"]) == (chunks.text(5), [7, 5])


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_tool_is_called(desk: Desk, name: str) -> None:
    """Its arguments arrive whole, its answer goes back, and the last word follows (Instructor asks for no word)."""
    seen, requests = await desk.run(name, "tools", model="echo", text=WEATHER)
    assert "raised" not in seen, seen["raised"]
    assert seen["calls"] == [FORECAST]
    assert seen["text"] == (None if name == "instructor" else WEATHER)
    assert requests == completions(CLIENTS[name], 1 if name == "instructor" else 2)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("check", ["chat", "stream"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_refusal_is_raised(desk: Desk, name: str, check: str, refusal: str) -> None:
    """As the client's own class, with our words; one that waiting does not cure costs one request."""
    client, (status, words, ask, is_final) = CLIENTS[name], REFUSALS[refusal]
    seen, requests = await desk.run(name, check, retries=None if is_final else 0, **ask)
    wrapped = client.wraps_streams if check == "stream" else None
    assert (seen["raised"]["type"], "text" in seen) == (wrapped or client.raised[status], False)
    assert seen["raised"]["status"] == (None if wrapped else status)
    assert words in seen["raised"]["message"]
    assert requests == completions(client, 3 if client.is_stubborn and not is_final else 1)


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if client.repeats_5xx == 1])
async def test_our_own_credential_is_not_asked_for_again(desk: Desk, name: str) -> None:
    """The gateway's key was refused: not the client's fault, and nothing the client could repeat."""
    client = CLIENTS[name]
    seen, requests = await desk.run(name, "chat", model="up/unauthorized")
    status = 402 if client.prefix == "/api/v1" else 503
    assert (seen["raised"]["type"], seen["raised"]["status"]) == (client.raised[status], status)
    assert "not about your key" in seen["raised"]["message"]
    assert requests == completions(client)


@pytest.mark.parametrize("model", CUTS)
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_stream_that_breaks_raises(desk: Desk, name: str, model: str) -> None:
    """After the words that came: an error, never a silent half answer, and no second request."""
    client = CLIENTS[name]
    seen, requests = await desk.run(name, "stream", model=model)
    assert seen["raised"]["type"] == client.broken
    assert seen["raised"]["message"]
    assert seen.get("finish") in (None, "error", "other")
    if name != "instructor":  # it makes nothing of text that is no object
        assert seen["text"] == chunks.text(3)
    assert requests == completions(client)


@pytest.mark.parametrize("name", CLIENTS)
async def test_half_a_json_answer_is_none(desk: Desk, name: str) -> None:
    """A reply that breaks without a stream is a 502."""
    client = CLIENTS[name]
    seen, _ = await desk.run(name, "chat", model="up/close_mid_event", retries=0)
    assert (seen["raised"]["type"], seen["raised"]["status"]) == (client.raised[502], 502)
    assert "text" not in seen


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_connection_that_ends_is_no_answer(desk: Desk, name: str) -> None:
    """When the gateway dies no error event can come; the missing end of the body raises all the same."""
    client, desk.tap.cut_after = CLIENTS[name], chunks.words(3)[-1].encode()
    try:
        seen, requests = await desk.run(name, "stream", model="up/hang_mid_stream")
    finally:
        desk.tap.cut_after = None
    assert seen["raised"]["type"] == client.dead
    assert seen.get("finish") in (None, "error", "other")
    assert requests == completions(client)


@pytest.mark.parametrize("name", SDKS_OF_OPENROUTER)
async def test_openrouters_sdks_read_the_models(desk: Desk, name: str) -> None:
    """The list fits their strict types."""
    seen, requests = await desk.run(name, "models", model="echo")
    assert "raised" not in seen, seen["raised"]
    assert {"echo", "prose"} <= {model["id"] for model in seen["reply"]["data"]}
    assert requests[0].startswith("GET /api/v1/models")


@pytest.mark.parametrize("check", ["key", "credits"])
@pytest.mark.parametrize("name", SDKS_OF_OPENROUTER)
async def test_openrouters_sdks_read_the_account(desk: Desk, name: str, check: str) -> None:
    """What the key is, and what is left."""
    seen, requests = await desk.run(name, check, model="echo")
    assert "raised" not in seen, seen["raised"]
    figure = {"key": "usage", "credits": "total_credits"}[check]
    data = seen["reply"]["data"]
    assert data[figure if figure in data else "totalCredits"] >= 0
    assert requests == [f"GET /api/v1/{check}"]


@pytest.mark.parametrize("name", SDKS_OF_OPENROUTER)
async def test_openrouters_sdks_read_a_generation(desk: Desk, name: str) -> None:
    """An answer can be looked up by the id in its body, and fits their strict types."""
    seen, requests = await desk.run(name, "generation", model="echo")
    assert "raised" not in seen, seen["raised"]
    data = seen["reply"]["data"]
    assert (data.get("upstream_id", data.get("upstreamId")), data["model"]) == (seen["id"], "echo")
    assert data.get("total_cost", data.get("totalCost")) > 0
    assert requests[1].startswith("GET /api/v1/generation?id=")
