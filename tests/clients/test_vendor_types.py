"""What our codecs write fits the vendors' own request types: two hundred made requests, and the recorded ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from proxy.catalogue import load_catalogue
from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.google import GoogleCodec
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Abilities, Codec, JsonObject, Thinking
from proxy.errors import ClientError
from proxy.files import load_table
from tests.clients.process import ClientProcess, locked_version
from tests.codecs.corpus import SIZE, make_corpus, traits
from tests.faults.replay import Recording, recordings

CODECS: Final[Mapping[str, Codec]] = {
    "openai": OpenAICodec(is_openrouter=False),
    "openrouter": OpenAICodec(is_openrouter=True),
    "anthropic": AnthropicCodec(),
    "google": GoogleCodec(),
}
PACKAGES: Final = {"openai": "openai", "openrouter": "openrouter", "anthropic": "anthropic", "google": "google-genai"}
# Taken in turn, so that each meets every kind of request.
MODELS: Final = (
    Abilities(),
    Abilities(output_tokens_max=8192, thinking=Thinking.BUDGET),
    Abilities(output_tokens_max=64_000, thinking=Thinking.ADAPTIVE, sampling=False, prefill=False, forced_tools=False),
    Abilities(output_tokens_max=4096, thinking=Thinking.NONE, json_schema=False),
    Abilities(output_tokens_max=64_000, thinking=Thinking.LEVEL),
)
CAPS: Final = (None, None, 500)
# Members that the vendor's API takes and its SDK's types do not name.
UNTYPED: Final = {
    # openrouter.md 1.1, 1.2, 1.4; a breakpoint on an image is in a recorded request that was answered.
    "openrouter": r"body\.(n|usage|transforms|preset|reasoning\.(max_tokens|exclude|enabled)|\S+\.cache_control):",
    # Gone from the SDK with 1.0, because new models refuse them; the API takes them for all others.
    "anthropic": r"(temperature|top_p|top_k): Extra inputs",
}
FOREIGN: Final = frozenset({"cache_control", "reasoning", "reasoning_details", "top_k", "min_p", "repetition_penalty"})
"""Members of OpenRouter's requests that OpenAI has no word for."""
UNSUPPORTED: Final = load_table(None, environ={}, catalogue=load_catalogue()).providers["openai"].flags.unsupported
RECORDED: Final = [
    recording
    for recording in recordings({"openai", "openrouter"})
    if not recording.is_made_up and "messages" in recording.request
]
OTHER_THINKING: Final = "zai-stream-reasoning-6be63ca6"
"""Its `thinking` is that of another vendor."""

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


class Types:
    """The vendors' types, to be asked about one body after the other."""

    def __init__(self, process: ClientProcess) -> None:
        self.process = process

    async def check(self, vendor: str, body: JsonObject) -> list[str]:
        """Give what a vendor's types find wrong with a body."""
        facts = await self.process.run(vendor, options={}, ask=body)
        untyped = re.compile(UNTYPED.get(vendor, r"(?!)"))
        return [finding for finding in facts["found"] if not untyped.match(finding)]

    async def check_all(self, vendor: str, bodies: Sequence[JsonObject]) -> list[str]:
        """Give each finding with what it was found in."""
        found = [(body, await self.check(vendor, body)) for body in bodies]
        return [
            f"{finding}\n  in {orjson.dumps(body).decode()[:2000]}" for body, findings in found for finding in findings
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def types() -> AsyncIterator[Types]:
    """One process for all tests of this module."""
    async with ClientProcess("vendors", "vendors.py", {}) as process:
        yield Types(process)


@pytest.fixture(scope="module")
def corpus() -> list[JsonObject]:
    """The made requests."""
    return make_corpus()


def encode(vendor: str, bodies: Sequence[JsonObject]) -> Iterator[tuple[JsonObject, JsonObject | None]]:
    """Write each body for a vendor, None where its codec refuses; models and caps in turn."""
    for number, body in enumerate(bodies):
        model, cap = MODELS[number % len(MODELS)], CAPS[number % len(CAPS)]
        try:
            call = CODECS[vendor].encode(body, model="m-1", output_tokens_max=cap, abilities=model)
        except ClientError:
            yield body, None
        else:
            yield body, orjson.loads(call.body)


def drop_foreign(value: Any) -> Any:
    """Give a request as a client of OpenAI's would send it."""
    if isinstance(value, list):
        return [drop_foreign(each) for each in value]
    if isinstance(value, dict):
        return {name: drop_foreign(each) for name, each in value.items() if name not in FOREIGN}
    return value


def drop_unsupported(body: JsonObject) -> JsonObject:
    """Give a request as the planner hands it on for the known provider `openai`."""
    return {name: value for name, value in body.items() if name not in UNSUPPORTED}


async def test_the_corpus_is_varied_and_always_the_same(corpus: list[JsonObject]) -> None:
    """Every kind of request is there more than once."""
    counts = Counter(trait for body in corpus for trait in traits(body))
    wanted = (
        *("system", "developer", "user.name", "prefill", "results at the end", "2 calls", "3 calls", "tool_choice"),
        *("image_url", "file", "input_audio", "cache_control", "assistant.reasoning_details", "assistant.refusal"),
        *("anthropic-claude-v1", "google-gemini-v1", "openai-responses-v1", "response_format", "parallel_tool_calls"),
        *("reasoning", "reasoning_effort", "stop", "n", "seed", "logprobs", "stream", "stream_options", "prediction"),
    )
    assert len(corpus) == len({orjson.dumps(body) for body in corpus}) == SIZE
    assert {trait: counts[trait] for trait in wanted if counts[trait] < 3} == {}
    assert make_corpus(10) == make_corpus(10)


async def test_the_types_are_those_of_the_lock(types: Types) -> None:
    """What is asked is the SDK that the lock names."""
    assert types.process.facts == {vendor: locked_version("vendors", name) for vendor, name in PACKAGES.items()}


@pytest.mark.parametrize("vendor", ["openrouter", "anthropic", "google"])
async def test_every_made_request_fits(types: Types, corpus: list[JsonObject], vendor: str) -> None:
    """Whatever a client may ask, the call has the vendor's shape; only what a vendor cannot hear is refused."""
    before = deepcopy(corpus)
    written = list(encode(vendor, corpus))
    deaf = [body for body, call in written if call is None]
    assert all(vendor == "anthropic" and "input_audio" in traits(body) for body in deaf)
    assert await types.check_all(vendor, [call for _, call in written if call is not None]) == []
    assert corpus == before


async def test_every_request_of_an_openai_client_fits_openai(types: Types, corpus: list[JsonObject]) -> None:
    """Without OpenRouter's members in it nothing has to go, and nothing is lost."""
    written = [call for _, call in encode("openai", [drop_foreign(body) for body in corpus])]
    assert await types.check_all("openai", [call for call in written if call is not None]) == []
    assert None not in written


async def test_every_made_request_fits_openai(types: Types, corpus: list[JsonObject]) -> None:
    """OpenAI refuses what it does not know, so a backup there must not be sent it."""
    written = [call for _, call in encode("openai", [drop_unsupported(body) for body in corpus])]
    assert await types.check_all("openai", [call for call in written if call is not None]) == []


@pytest.mark.skipif(not RECORDED, reason="the folder of recordings is not beside this checkout")
@pytest.mark.parametrize("vendor", list(CODECS))
async def test_recorded_requests_fit(types: Types, vendor: str) -> None:
    """A request that one vendor was sent fits it again, and fits the makers that speak another dialect."""
    own = {"openai", "openrouter"}
    sent = [each.request for each in RECORDED if vendor not in own or each.vendor == vendor]
    bodies = [body for body in sent if body != recorded(OTHER_THINKING).request]
    written = [call for _, call in encode(vendor, bodies) if call is not None]
    assert len(written) >= 0.9 * len(bodies) >= 9
    assert await types.check_all(vendor, written) == []


@pytest.mark.skipif(not RECORDED, reason="the folder of recordings is not beside this checkout")
async def test_another_vendors_thinking_is_not_sent_on(types: Types) -> None:
    """Z.ai's `thinking` has Anthropic's name and other members."""
    [(_, call)] = encode("anthropic", [recorded(OTHER_THINKING).request])
    assert call is not None
    assert await types.check("anthropic", call) == []


def recorded(name: str) -> Recording:
    """Give one recording."""
    return next(recording for recording in RECORDED if recording.id == name)


QUESTION: Final[JsonObject] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES: Final = QUESTION | {"max_tokens": 9}
CONTENTS: Final[JsonObject] = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
PLANTED: Final[list[tuple[str, JsonObject, JsonObject, str]]] = [
    ("openai", QUESTION, {"bogus": 1}, "bogus"),
    ("openai", QUESTION, {"temperature": "1"}, "temperature"),
    ("openai", QUESTION, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "b": 1}]}]}, ".b:"),
    ("openai", QUESTION, {"messages": [{"role": "narrator", "content": "x"}]}, "role"),
    ("openai", QUESTION | {"stream": True}, {"stream_options": {"bogus": True}}, "bogus"),
    ("openrouter", QUESTION, {"bogus": 1}, "bogus"),
    ("openrouter", QUESTION, {"max_tokens": "9"}, "max_tokens"),
    (
        "openrouter",
        QUESTION,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "b": 1}]}]},
        ".b:",
    ),
    ("openrouter", QUESTION, {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "content.0"),
    ("openrouter", QUESTION, {"provider": {"sort": "luck"}}, "sort"),
    ("anthropic", MESSAGES, {"bogus": 1}, "bogus"),
    ("anthropic", MESSAGES, {"max_tokens": None}, "max_tokens"),
    (
        "anthropic",
        MESSAGES,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "b": 1}]}]},
        ".b:",
    ),
    ("anthropic", MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "input"),
    ("anthropic", MESSAGES, {"tool_choice": {"type": "any", "name": "f"}}, "name"),
    ("anthropic", MESSAGES | {"stream": True}, {"thinking": {"type": "enabled"}}, "budget_tokens"),
    ("google", CONTENTS, {"bogus": 1}, "bogus"),
    ("google", CONTENTS, {"contents": [{"parts": [{"inline_data": {"mimeType": "a/b", "data": "AAAA"}}]}]}, "inline"),
    ("google", CONTENTS, {"contents": [{"parts": [{"text": "x", "thoughtSignature": "!"}]}]}, "base64"),
    ("google", CONTENTS, {"contents": [{"parts": [{"functionCall": {"name": "f", "args": "{}"}}]}]}, "args"),
    ("google", CONTENTS, {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "SOME"),
    ("google", CONTENTS, {"generationConfig": {"maxOutputTokens": "9"}}, "maxOutputTokens"),
]


@pytest.mark.parametrize(("vendor", "sound", "planted", "named"), PLANTED)
async def test_a_planted_mistake_is_found(
    types: Types, vendor: str, sound: JsonObject, planted: JsonObject, named: str
) -> None:
    """The types pass a sound body, and name what is wrong with its neighbour."""
    assert await types.check(vendor, sound) == []
    found = await types.check(vendor, sound | planted)
    assert any(named in finding for finding in found), found
