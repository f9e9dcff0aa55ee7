"""Python clients other than OpenAI's own SDK at work: run by an environment that has them and nothing of ours.

It reads one check a line from stdin and writes one line about each to stdout: what the client gave, in words that are
the same for all of them, or what it raised. The judging is done by the tests, in the other process. Each client is set
up as its users set it up, and imported when it is first asked for. `chat` asks for a whole answer, `stream` reads one
to its end, `tools` has a tool called, answers it, and asks for the last word.
"""

# mypy: disable-error-code="import-not-found"
# The clients stand in .clients/, not in .venv/.

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

Facts = dict[str, Any]
Ask = Mapping[str, Any]
"""`url` (with the prefix), `key`, `model`, `text`, and `retries`: None for what the client does by itself, else 0."""

# Nothing here may leave the machine: no price list is looked up, nothing is traced.
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "ANONYMIZED_TELEMETRY": "false"}


def get_forecast(city: str, days: int) -> str:
    """Tell the weather of the days to come."""
    CALLS.append({"city": city, "days": days})
    return '{"sky": "clear"}'


OUT: Final = sys.stdout
sys.stdout = sys.stderr  # whatever a client prints is not what is said here
STUCK_S: Final = 40.0
"""After this a check tells where its threads stand; a little later it is killed (`process.ANSWER_S`)."""
CALLS: Final[list[Facts]] = []
"""The arguments of every call of the tool, as they came through the client."""
TOOL: Final[Facts] = {
    "type": "function",
    "function": {
        "name": "get_forecast",
        "description": "Tell the weather of the days to come.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
FORCED: Final = {"type": "function", "function": {"name": "get_forecast"}}


def user(ask: Ask) -> list[Any]:
    """Give the messages of a first question."""
    return [{"role": "user", "content": ask["text"]}]


def kept(ask: Ask, name: str) -> Facts:
    """Give the client's option for retries, when the check names one."""
    return {} if ask["retries"] is None else {name: ask["retries"]}


class LangChain:
    """`ChatOpenAI`, set up to report usage of streams, as it does by itself where it knows the server."""

    def model(self, ask: Ask) -> Any:
        from langchain_openai import ChatOpenAI

        options = {"base_url": ask["url"], "api_key": ask["key"], "stream_usage": True, **kept(ask, "max_retries")}
        return ChatOpenAI(model=ask["model"], **options)

    def chat(self, facts: Facts, ask: Ask) -> None:
        self.note(facts, self.model(ask).invoke(ask["text"]))

    def stream(self, facts: Facts, ask: Ask) -> None:
        whole = None
        for chunk in self.model(ask).stream(ask["text"]):
            whole = chunk if whole is None else whole + chunk
            facts["text"] = whole.content
        self.note(facts, whole)

    def tools(self, facts: Facts, ask: Ask) -> None:
        from langchain_core.messages import HumanMessage, ToolMessage

        first: Any = None
        model, messages = self.model(ask), [HumanMessage(ask["text"])]
        for chunk in model.bind_tools([get_forecast], tool_choice="get_forecast").stream(messages):
            first = chunk if first is None else first + chunk
        (call,) = first.tool_calls
        result = get_forecast(**call["args"])
        messages += [first, ToolMessage(result, tool_call_id=call["id"])]
        self.note(facts, model.bind_tools([get_forecast]).invoke(messages))

    def note(self, facts: Facts, message: Any) -> None:
        usage = message.usage_metadata
        facts |= {"text": message.content, "finish": message.response_metadata["finish_reason"]}
        facts["tokens"] = [usage["input_tokens"], usage["output_tokens"]]


class LangChainOpenRouter(LangChain):
    """`ChatOpenRouter`."""

    def model(self, ask: Ask) -> Any:
        """Give the chat model; `max_retries=0` would leave OpenRouter's SDK below to itself."""
        from langchain_openrouter import ChatOpenRouter

        model = ChatOpenRouter(model=ask["model"], base_url=ask["url"], api_key=ask["key"])
        if ask["retries"] == 0:
            model.client.sdk_configuration.retry_config = None
        return model


class PydanticAi:
    """An agent on `OpenAIChatModel`."""

    def agent(self, ask: Ask) -> Any:
        """Give the agent; retries are an affair of the SDK below."""
        from openai import AsyncOpenAI
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        below = AsyncOpenAI(base_url=ask["url"], api_key=ask["key"], **kept(ask, "max_retries"))
        return Agent(OpenAIChatModel(ask["model"], provider=OpenAIProvider(openai_client=below)))

    def chat(self, facts: Facts, ask: Ask) -> None:
        self.note(facts, self.agent(ask).run_sync(ask["text"]))

    def stream(self, facts: Facts, ask: Ask) -> None:
        result = self.agent(ask).run_stream_sync(ask["text"])
        for text in result.stream_text(debounce_by=None):
            facts["text"] = text
        self.note(facts, result)

    def tools(self, facts: Facts, ask: Ask) -> None:
        agent = self.agent(ask)
        agent.tool_plain(get_forecast)
        self.note(facts, agent.run_sync(ask["text"]))

    def note(self, facts: Facts, result: Any) -> None:
        usage = result.usage
        last = result.all_messages()[-1]
        facts |= {"text": last.text, "finish": last.finish_reason, "tokens": [usage.input_tokens, usage.output_tokens]}


class Instructor:
    """Instructor over OpenAI's SDK: an answer is an object."""

    def client(self, ask: Ask) -> Any:
        import instructor
        import openai

        below = openai.OpenAI(base_url=ask["url"], api_key=ask["key"], **kept(ask, "max_retries"))
        return instructor.from_openai(below, model=ask["model"])

    def forecast(self) -> Any:
        from pydantic import create_model

        return create_model("Forecast", city=(str, ...), days=(int, ...))

    def chat(self, facts: Facts, ask: Ask) -> None:
        reply = self.client(ask).create(response_model=None, messages=user(ask))
        note_completion(facts, reply)

    def stream(self, facts: Facts, ask: Ask) -> None:
        """Ask for an object that grows; what came of it is its JSON."""
        for part in self.client(ask).create_partial(response_model=self.forecast(), messages=user(ask)):
            facts["text"] = part.model_dump_json()

    def tools(self, facts: Facts, ask: Ask) -> None:
        """Ask for an object, which is a forced tool below."""
        part, reply = self.client(ask).create_with_completion(response_model=self.forecast(), messages=user(ask))
        CALLS.append(part.model_dump())
        note_completion(facts, reply)


class Llm:
    """Simon Willison's `llm`, told of the gateway by its `extra-openai-models.yaml`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="llm-"))
        os.environ["LLM_USER_PATH"] = str(self.folder)

    def model(self, ask: Ask) -> Any:
        import llm

        entry = {"model_id": "mine", "model_name": ask["model"], "api_base": ask["url"], "api_key_name": "gateway"}
        known = json.dumps([entry | {"supports_tools": True}])  # JSON is YAML
        (self.folder / "extra-openai-models.yaml").write_text(known)
        (self.folder / "keys.json").write_text(json.dumps({"gateway": ask["key"]}))
        return llm.get_model("mine")

    def chat(self, facts: Facts, ask: Ask) -> None:
        self.note(facts, self.model(ask).prompt(ask["text"], stream=False))

    def stream(self, facts: Facts, ask: Ask) -> None:
        response = self.model(ask).prompt(ask["text"])
        for piece in response:
            facts["text"] = facts.get("text", "") + piece
        self.note(facts, response)

    def tools(self, facts: Facts, ask: Ask) -> None:
        chain = self.model(ask).chain(ask["text"], tools=[get_forecast])
        *_, last = chain.responses()
        self.note(facts, last)

    def note(self, facts: Facts, response: Any) -> None:
        usage = response.usage()
        facts |= {"text": response.text(), "tokens": [usage.input, usage.output]}


class LiteLlm:
    """LiteLLM's SDK, by its route for any OpenAI-compatible server."""

    route = "openai"

    def complete(self, ask: Ask, **fields: Any) -> Any:
        import litellm

        litellm.suppress_debug_info = True
        target = {"model": f"{self.route}/{ask['model']}", "api_base": ask["url"], "api_key": ask["key"]}
        return litellm.completion(**target, **kept(ask, "max_retries"), **{"messages": user(ask), **fields})

    def chat(self, facts: Facts, ask: Ask) -> None:
        note_completion(facts, self.complete(ask))

    def stream(self, facts: Facts, ask: Ask) -> None:
        for chunk in self.complete(ask, stream=True, stream_options={"include_usage": True}):
            note_chunk(facts, chunk)

    def tools(self, facts: Facts, ask: Ask) -> None:
        first = self.complete(ask, tools=[TOOL], tool_choice=FORCED).choices[0].message
        note_completion(facts, self.complete(ask, messages=[*user(ask), first, answer_call(first)], tools=[TOOL]))


class LiteLlmOpenRouter(LiteLlm):
    """LiteLLM's SDK, by its route for OpenRouter, which asks for usage in OpenRouter's way."""

    route = "openrouter"


class OpenRouterSdk:
    """OpenRouter's own SDK."""

    def client(self, ask: Ask) -> Any:
        """Give the client; left alone it repeats a 5xx for an hour."""
        from openrouter import OpenRouter
        from openrouter.utils import RetryConfig

        never = {"retry_config": RetryConfig("none", None, retry_connection_errors=False)}
        return OpenRouter(api_key=ask["key"], server_url=ask["url"], **({} if ask["retries"] is None else never))

    def chat(self, facts: Facts, ask: Ask) -> None:
        note_completion(facts, self.client(ask).chat.send(model=ask["model"], messages=user(ask)))

    def stream(self, facts: Facts, ask: Ask) -> None:
        """Ask for a stream; an error in it is a member of a chunk, which an application has to look at."""
        with self.client(ask).chat.send(model=ask["model"], messages=user(ask), stream=True) as events:
            for chunk in events:
                note_chunk(facts, chunk)
                if error := chunk.error:
                    facts["raised"] = {"type": "ChunkError", "status": error.code, "message": error.message}
                    return

    def tools(self, facts: Facts, ask: Ask) -> None:
        send = self.client(ask).chat.send
        first = send(model=ask["model"], messages=user(ask), tools=[TOOL], tool_choice=FORCED).choices[0].message
        messages = [*user(ask), first, answer_call(first)]
        note_completion(facts, send(model=ask["model"], messages=messages, tools=[TOOL]))

    def models(self, facts: Facts, ask: Ask) -> None:
        facts["reply"] = self.client(ask).models.list().result.model_dump(mode="json", warnings=False)

    def key(self, facts: Facts, ask: Ask) -> None:
        facts["reply"] = self.client(ask).api_keys.get_current_key_metadata().model_dump(mode="json", warnings=False)

    def credits(self, facts: Facts, ask: Ask) -> None:
        facts["reply"] = self.client(ask).credits.get_credits().model_dump(mode="json", warnings=False)

    def generation(self, facts: Facts, ask: Ask) -> None:
        reply = self.client(ask).chat.send(model=ask["model"], messages=user(ask))
        known = self.client(ask).generations.get_generation(id=reply.id)
        facts |= {"id": reply.id, "reply": known.model_dump(mode="json", warnings=False)}


def answer_call(message: Any) -> Facts:
    """Call the tool a message asks for and give the message that answers it."""
    (call,) = message.tool_calls
    result = get_forecast(**json.loads(call.function.arguments))
    return {"role": "tool", "tool_call_id": call.id, "content": result}


def note_completion(facts: Facts, reply: Any) -> None:
    """Tell of a completion in OpenAI's shape."""
    choice, usage = reply.choices[0], reply.usage
    facts |= {"text": choice.message.content, "finish": choice.finish_reason}
    facts["tokens"] = [int(usage.prompt_tokens), int(usage.completion_tokens)]


def note_chunk(facts: Facts, chunk: Any) -> None:
    """Add a chunk in OpenAI's shape to what was seen of a stream."""
    for choice in chunk.choices:
        facts["text"] = facts.get("text", "") + (choice.delta.content or "")
        facts["finish"] = choice.finish_reason or facts.get("finish")
    if usage := getattr(chunk, "usage", None):
        facts["tokens"] = [int(usage.prompt_tokens), int(usage.completion_tokens)]


CLIENTS: Final[Mapping[str, Callable[[], Any]]] = {
    "instructor": Instructor,
    "langchain": LangChain,
    "langchain_openrouter": LangChainOpenRouter,
    "litellm": LiteLlm,
    "litellm_openrouter": LiteLlmOpenRouter,
    "llm": Llm,
    "openrouter_python": OpenRouterSdk,
    "pydantic_ai": PydanticAi,
}


def describe_error(error: BaseException) -> Facts:
    """Tell of an exception: its class and the package it is from, its status where it has one, and its words."""
    kind = type(error)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    return {"type": name, "status": getattr(error, "status_code", None), "message": str(error)}


@cache
def make_client(name: str) -> Any:
    """Make a client when it is first asked for."""
    return CLIENTS[name]()


def run(line: str) -> Facts:
    """Run the check one line asks for; what is raised is noted as an application can read it."""
    wanted = json.loads(line)
    facts: Facts = {}
    CALLS.clear()
    try:
        client = make_client(wanted["ask"].pop("client"))
        getattr(client, wanted["check"])(facts, wanted["ask"])
    except Exception as error:  # noqa: BLE001  # every client has classes of its own: the test judges
        facts["raised"] = describe_error(error)
    return facts | {"calls": list(CALLS)}


def say(facts: Facts) -> None:
    """Write one line."""
    OUT.write(json.dumps(facts) + "\n")
    OUT.flush()


if __name__ == "__main__":
    logging.getLogger().addHandler(logging.NullHandler())  # what they log of a failure is raised as well
    say({"versions": {package.name.lower(): package.version for package in distributions()}})
    # LiteLLM leaves a broken stream to the collector, and httpcore stands still for ever when the collector closes one
    # while httpcore holds the lock of its own pool: so garbage is collected between the checks alone.
    gc.disable()
    for request in sys.stdin:
        faulthandler.dump_traceback_later(STUCK_S)
        say(run(request))
        faulthandler.cancel_dump_traceback_later()
        gc.collect(1)
