"""OpenAI's SDK at work: run by an environment of its own, which has that SDK and nothing of ours.

It reads one check a line from stdin and writes one line about each to stdout: what the SDK gave, or what it raised. The
judging is done by the tests, in the other process. One client serves all checks, as in an application, and one more all
asynchronous ones: what a check leaves behind on a connection is met by the next.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import openai  # type: ignore[import-not-found]  # stands in .clients/, not in .venv/
from pydantic import BaseModel

Facts = dict[str, Any]

CROWD_S: Final = 15.0
"""How long all streams of a crowd together may wait for the slowest."""


class Verdict(BaseModel):
    """What `parse` is asked to make of an answer."""

    city: str
    score: int
    is_sure: bool
    reasons: list[str]


class Weather(BaseModel):
    """The arguments of a tool."""

    city: str
    days: int


class Requests:
    """Counts what the SDK puts on the wire, its own retries included."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, _request: object) -> None:
        """Count one; the hook of a client."""
        self.count += 1

    async def note_async(self, _request: object) -> None:
        """Count one; the hook of an asynchronous client."""
        self.count += 1


REQUESTS: Final = Requests()
CLIENT: Final = openai.OpenAI(http_client=openai.DefaultHttpxClient(event_hooks={"request": [REQUESTS.note]}))
ASYNC_CLIENT: Final = openai.AsyncOpenAI(
    http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [REQUESTS.note_async]})
)


def client_of(options: Mapping[str, Any]) -> Any:
    """Give the one client with a check's options (`api_key`, `max_retries`, `timeout`)."""
    return CLIENT.with_options(**options)


def async_client_of(options: Mapping[str, Any]) -> Any:
    """Give the asynchronous client with a check's options."""
    return ASYNC_CLIENT.with_options(**options)


def describe(reply: Any) -> Facts:
    """Tell of a completion; the cost as an application reads it, by attribute."""
    usage = reply.usage
    return {
        "type": type(reply).__name__,
        "reply": reply.model_dump(mode="json", warnings=False),
        "text": reply.choices[0].message.content,
        "cost": usage and usage.cost,
        "cost_source": usage and usage.cost_source,
        "request_id": getattr(reply, "_request_id", None),  # what the SDK pieced together from a stream has none
    }


def note_chunk(facts: Facts, chunk: Any) -> None:
    """Add a chunk to what was seen of a stream."""
    facts["chunks"].append(chunk.model_dump(mode="json", exclude_unset=True))
    if chunk.choices and chunk.choices[0].delta.content:
        facts["text"] += chunk.choices[0].delta.content
    if chunk.usage:
        facts |= {"cost": chunk.usage.cost, "cost_source": chunk.usage.cost_source}


def complete(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for a whole answer."""
    facts |= describe(client_of(options).chat.completions.create(**ask))


async def complete_async(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for a whole answer, asynchronously."""
    facts |= describe(await async_client_of(options).chat.completions.create(**ask))


def stream(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for a stream and read it to its end."""
    facts |= {"chunks": [], "text": ""}
    for chunk in client_of(options).chat.completions.create(stream=True, **ask):
        note_chunk(facts, chunk)


def stream_aloud(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for a stream and tell of every piece of text as it comes."""
    facts |= {"chunks": [], "text": ""}
    for chunk in client_of(options).chat.completions.create(stream=True, **ask):
        note_chunk(facts, chunk)
        say({"text_so_far": facts["text"]})


async def stream_async(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for a stream and read it to its end, asynchronously."""
    facts |= {"chunks": [], "text": ""}
    async for chunk in await async_client_of(options).chat.completions.create(stream=True, **ask):
        note_chunk(facts, chunk)


def stream_events(facts: Facts, options: Facts, ask: Facts) -> None:
    """Let the SDK's own accumulator read a stream: it is stricter than a loop over chunks."""
    if ask.pop("verdict", False):
        ask["response_format"] = Verdict
    facts["events"] = []
    with client_of(options).chat.completions.stream(**ask) as events:
        for event in events:
            facts["events"].append(event.type)
        final = events.get_final_completion()
    facts |= {**describe(final), **describe_parsed(final)}


def parse(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for an answer in the shape of a class."""
    reply = client_of(options).chat.completions.parse(response_format=Verdict, **ask)
    facts |= {**describe(reply), **describe_parsed(reply)}


def parse_tool(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for a tool whose arguments have the shape of a class."""
    tools = [openai.pydantic_function_tool(Weather)]
    reply = client_of(options).chat.completions.parse(tools=tools, **ask)
    arguments = reply.choices[0].message.tool_calls[0].function.parsed_arguments
    facts |= {"parsed": arguments.model_dump(), "class": type(arguments).__name__}


def describe_parsed(reply: Any) -> Facts:
    """Tell which object the SDK made of an answer."""
    parsed = getattr(reply.choices[0].message, "parsed", None)
    return {} if parsed is None else {"parsed": parsed.model_dump(), "class": type(parsed).__name__}


def use_tool(facts: Facts, options: Facts, ask: Facts) -> None:
    """Have a tool called, answer it, and ask for the last word: the SDK's own objects go back as messages."""
    client = client_of(options)
    first = client.chat.completions.create(**ask).choices[0]
    (call,) = first.message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear"}'}
    messages = [*ask["messages"], first.message, result]
    last = client.chat.completions.create(**{**ask, "messages": messages, "tool_choice": "auto"})
    facts |= {"finish_reason": first.finish_reason, "name": call.function.name, **describe(last)}


def raw(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask with an eye on the headers."""
    response = client_of(options).chat.completions.with_raw_response.create(**ask)
    facts |= {"status": response.status_code, "headers": dict(response.headers)}
    parsed = response.parse()
    if ask.get("stream"):
        facts["text"] = "".join(chunk.choices[0].delta.content or "" for chunk in parsed if chunk.choices)
    else:
        facts |= describe(parsed)


def lines(facts: Facts, options: Facts, ask: Facts) -> None:
    """Read a stream as the lines it is made of."""
    with client_of(options).chat.completions.with_streaming_response.create(**ask) as response:
        facts |= {"headers": dict(response.headers), "lines": list(response.iter_lines())}


def list_models(facts: Facts, options: Facts, _ask: Facts) -> None:
    """List all models, as a page that is gone through."""
    page = client_of(options).models.list()
    facts |= {"page": type(page).__name__, "models": [model.model_dump(mode="json") for model in page]}


def retrieve_model(facts: Facts, options: Facts, ask: Facts) -> None:
    """Look one model up."""
    model = client_of(options).models.retrieve(**ask)
    facts |= {"type": type(model).__name__, "model": model.model_dump(mode="json")}


def embed(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask for an embedding."""
    facts["reply"] = client_of(options).embeddings.create(**ask).model_dump(mode="json")


def respond(facts: Facts, options: Facts, ask: Facts) -> None:
    """Ask through the responses API."""
    facts["reply"] = client_of(options).responses.create(**ask).model_dump(mode="json")


async def crowd(facts: Facts, options: Facts, ask: Facts) -> None:
    """Hold many streams open at once: none reads on before every one of them has had its first words."""
    count = ask.pop("count")
    waiting, has_all = [], asyncio.Event()

    async def one(number: int) -> str:
        client, text = async_client_of(options), ""
        messages = [{"role": "user", "content": f"stream number {number} is nobody else's"}]
        async for chunk in await client.chat.completions.create(stream=True, messages=messages, **ask):
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece and not text:
                waiting.append(number)
                if len(waiting) == count:
                    has_all.set()
                await has_all.wait()
            text += piece or ""
        return text

    async with asyncio.timeout(CROWD_S):
        facts["texts"] = await asyncio.gather(*map(one, range(count)))


def leave_by_close(facts: Facts, options: Facts, ask: Facts) -> None:
    """Read one chunk and close the stream."""
    reply = client_of(options).chat.completions.create(stream=True, **ask)
    next(reply)
    reply.close()
    facts["has_left"] = True


def leave_by_block(facts: Facts, options: Facts, ask: Facts) -> None:
    """Read one chunk and step out of the block."""
    with client_of(options).chat.completions.create(stream=True, **ask) as reply:
        for _ in reply:
            break
    facts["has_left"] = True


async def leave_by_async_close(facts: Facts, options: Facts, ask: Facts) -> None:
    """Read one chunk and close the asynchronous stream."""
    reply = await async_client_of(options).chat.completions.create(stream=True, **ask)
    await anext(reply)
    await reply.close()
    facts["has_left"] = True


async def leave_by_cancel(facts: Facts, options: Facts, ask: Facts) -> None:
    """Cancel the task that reads, as a web framework does when its own client has gone."""
    client, has_begun = async_client_of(options), asyncio.Event()

    async def read() -> None:
        async for _ in await client.chat.completions.create(stream=True, **ask):
            has_begun.set()

    task = asyncio.create_task(read())
    await has_begun.wait()
    task.cancel()
    await asyncio.wait([task])
    facts["has_left"] = task.cancelled()


CHECKS: Final[Mapping[str, Callable[[Facts, Facts, Facts], Any]]] = {
    check.__name__: check
    for check in (
        complete,
        complete_async,
        crowd,
        embed,
        leave_by_async_close,
        leave_by_block,
        leave_by_cancel,
        leave_by_close,
        lines,
        list_models,
        parse,
        parse_tool,
        raw,
        respond,
        retrieve_model,
        stream,
        stream_aloud,
        stream_async,
        stream_events,
        use_tool,
    )
}


@contextmanager
def noting(facts: Facts) -> Iterator[None]:
    """Note what a check raises, as an application can read it, and how many requests it made."""
    before = REQUESTS.count
    try:
        yield
    except openai.OpenAIError as error:
        facts["raised"] = describe_error(error)
    except Exception as error:  # noqa: BLE001  # whatever is no error of the SDK's is the test's to judge
        facts["raised"] = {"type": f"foreign {type(error).__name__}", "trace": traceback.format_exc()}
    facts["requests"] = REQUESTS.count - before


def describe_error(error: Any) -> Facts:
    """Tell of an exception of the SDK's; only errors of a status have a response, and with it headers."""
    response = getattr(error, "response", None)
    names = ("message", "code", "param", "status_code", "request_id", "body")
    return {
        "type": type(error).__name__,
        "classes": [kind.__name__ for kind in type(error).__mro__],
        "error_type": getattr(error, "type", None),
        "headers": dict(response.headers) if response is not None else {},
        **{name: getattr(error, name, None) for name in names},
    }


def run(line: str, runner: asyncio.Runner) -> Facts:
    """Run the check one line asks for; the asynchronous ones in the one event loop."""
    wanted = json.loads(line)
    facts: Facts = {"check": wanted["check"]}
    with noting(facts):
        work = CHECKS[wanted["check"]](facts, wanted["options"], wanted["ask"])
        if work is not None:
            runner.run(work)
    return facts


def say(facts: Facts) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say({"sdk": openai.VERSION})
    with asyncio.Runner() as one_loop:
        for request in sys.stdin:
            say(run(request, one_loop))
