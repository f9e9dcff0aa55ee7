"""A conversation of 200 messages that outgrew its model: cut where that was asked for, refused where it was not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.ledger.records import AttemptRow
from proxy.tokens import estimate_input
from tests.behaviours.gateway import Running, running
from tests.faults import client, makers
from tests.faults.replies import ok
from tests.faults.statuses import server_fault
from tests.faults.steps import Json
from tests.faults.upstream import FaultUpstream

CONTEXT_TOKENS = 4_000
ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
  router: {{dialect: openrouter, base_url: "{up}", api_key: sk-or-test, price: {{input: $1/M, output: $2/M}}}}
  maker: {{dialect: anthropic, base_url: "{maker}", api_key: sk-ant-test, price: {{input: $1/M, output: $2/M}}}}
models:
  plain: {{target: up/small, context: 4k}}
  cut: {{targets: [{{target: up/small, context: 4k}}], transforms: [middle-out]}}
  forbidden: {{targets: [cut], transforms: []}}
  routed: {{target: router/small, context: 4k}}
  unknown: up/unknown
  routed-unknown: router/unknown
  alias-routed-unknown: {{targets: [router/unknown], transforms: [middle-out]}}
  claude: {{targets: [{{target: maker/small, context: 4k}}], transforms: [middle-out]}}
  told: [maker/unknown, {{target: up/large, context: 128k}}]
  larger-behind: [{{target: up/small, context: 4k}}, {{target: up/large, context: 128k}}]
  cut-then-larger:
    targets: [{{target: up/small, context: 4k}}, {{target: up/large, context: 128k}}]
    transforms: [middle-out]
  larger-first:
    targets: [{{target: up/small, context: 4k}}, {{target: up/large, context: 128k}}]
    transforms: [middle-out]
    prefer: larger_context
defaults: {{retry: {{attempts: 1}}}}
keys: [{{name: app, key: "{{key}}", budget: $100/day}}]
"""
SYSTEM = {"role": "system", "content": "You keep the log of a lighthouse."}
QUESTION = {"role": "user", "content": "What did the keeper write last?"}
PLUGIN = {"id": "context-compression", "engine": "middle-out"}
FORMS: dict[str, dict[str, Any]] = {
    "transforms": {"transforms": ["middle-out"]},
    "plugin": {"plugins": [PLUGIN]},
    "plugin without engine": {"plugins": [{"id": "context-compression"}]},
}
REFUSALS: dict[str, dict[str, Any]] = {
    "transforms": {"transforms": []},
    "plugin": {"plugins": [{"id": "context-compression", "enabled": False}]},
    "both": {"transforms": ["middle-out"], "plugins": [{**PLUGIN, "enabled": False}]},
}
WORDS = (
    "This endpoint's maximum context length is 4000 tokens. However, you requested about ",
    'or use the "middle-out" transform to compress your prompt automatically.',
)


def conversation() -> list[dict[str, Any]]:
    """Write 200 messages: a system message, turns with calls and pictures among them, a question at the end."""
    messages: list[dict[str, Any]] = [SYSTEM]
    number = 0
    while len(messages) < 195:
        number += 1
        messages.append(
            {"role": "user", "content": said(number, "Ships passed to the north today, and the lamp held.")}
        )
        if number % 4 == 0:
            ids = [f"call_{number}_{place}" for place in range(2)]
            messages.append({"role": "assistant", "content": None, "tool_calls": [call(id_) for id_ in ids]})
            messages += [{"role": "tool", "tool_call_id": id_, "content": f"wind {number} knots"} for id_ in ids]
        messages.append(
            {"role": "assistant", "content": said(number, "Noted: the fog came late, and the horn was not needed.")}
        )
    while len(messages) < 199:
        messages.append(
            {"role": "assistant" if len(messages) % 2 else "user", "content": said(len(messages), "Go on.")}
        )
    return [*messages, QUESTION]


def said(number: int, text: str) -> str:
    """Write one line of the log, no two alike."""
    return f"Entry {number}: {text} " + f"Reading {number * 7} at the glass, {number * 3} at the vane. " * 2


def call(identifier: str) -> dict[str, Any]:
    """Write one tool call."""
    return {"id": identifier, "type": "function", "function": {"name": "wind", "arguments": '{"at": "pier"}'}}


pytestmark = pytest.mark.asyncio(loop_scope="module")


class Stage:
    """A gateway, an upstream that speaks OpenAI's or OpenRouter's dialect, and one that speaks Anthropic's."""

    def __init__(self, gateway: Running, up: FaultUpstream, maker: FaultUpstream) -> None:
        """Keep them."""
        self.gateway = gateway
        self.up = up
        self.maker = maker

    async def ask(self, model: str, *, messages: Sequence[Any] | None = None, **fields: Any) -> client.Answer:
        """Ask with the long conversation unless another is given."""
        payload = {"model": model, "messages": list(messages or conversation()), "max_tokens": 200, **fields}
        return await client.ask(self.gateway.url, payload, key=self.gateway.key)

    async def rows(self, answer: client.Answer) -> Sequence[AttemptRow]:
        """Look up the attempts of one request."""
        return await self.gateway.gateway.ledger.find_request(answer.headers["x-request-id"])

    @property
    def sent(self) -> Json:
        """What the upstream got last."""
        return self.up.exchanges[-1].body


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Serve targets of known and of unknown contexts."""
    folder: Path = tmp_path_factory.mktemp("middle-out")
    async with (
        FaultUpstream() as up,
        FaultUpstream() as maker,
        running(ROUTES.format(up=up.base_url, maker=maker.base_url), folder) as gateway,
    ):
        yield Stage(gateway, up, maker)


@pytest.fixture
def stage(served: Stage) -> Stage:
    """Begin with good upstreams that have been asked nothing."""
    for up, mode in ((served.up, ok()), (served.maker, makers.ok_anthropic())):
        up.replace_script([mode])
        up.exchanges.clear()
    return served


def expect_cut(answer: client.Answer, body: Json) -> list[dict[str, Any]]:
    """Hold a cut to the promises; gives the messages that were kept."""
    assert answer.status == 200
    whole, kept = conversation(), body["messages"]
    assert len(whole) == 200
    assert 20 < len(kept) < 200
    places = [whole.index(message) for message in kept]
    assert places == sorted(places)
    assert (kept[0], kept[-1]) == (SYSTEM, QUESTION)
    gaps = [(before, after) for before, after in pairwise(places) if after - before > 1]
    assert len(gaps) == 1
    expect_pairs(kept)
    used = estimate_input(body, "small") + body["max_tokens"]
    assert 0.6 * CONTEXT_TOKENS < used <= CONTEXT_TOKENS
    return list(kept)


def expect_pairs(messages: Sequence[dict[str, Any]]) -> None:
    """Each call has its reply behind it, and each reply its call before it."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls
        open_calls = [call["id"] for call in message.get("tool_calls", ())]
    assert not open_calls


async def test_an_alias_that_says_so_cuts(stage: Stage) -> None:
    """`transforms: [middle-out]` of the model: one gap in the middle, ends and pairs whole."""
    answer = await stage.ask("cut")
    expect_cut(answer, stage.sent)
    (row,) = await stage.rows(answer)
    assert (row.state, row.error) == ("posted", None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", ["plain", "forbidden"])
async def test_a_request_that_says_so_is_cut(stage: Stage, model: str, form: str) -> None:
    """In either of OpenRouter's forms, whatever the alias says; a direct target sees neither form."""
    answer = await stage.ask(model, **FORMS[form])
    expect_cut(answer, stage.sent)
    assert not {"transforms", "plugins"} & set(stage.sent)


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("model", ["cut", "alias-routed-unknown"])
async def test_the_header_tells_of_a_cut(stage: Stage, model: str, *, is_stream: bool) -> None:
    """How many messages were dropped and kept; where OpenRouter may cut and we cannot know, that it may."""
    answer = await stage.ask(model, stream=is_stream)
    kept = len(stage.sent["messages"])
    ours = f"middle-out; dropped={200 - kept}; kept={kept}"
    assert answer.headers["x-turnpike-transforms"] == (ours if model == "cut" else "middle-out; by=openrouter")


@pytest.mark.parametrize("form", REFUSALS)
async def test_a_request_that_forbids_it_wins(stage: Stage, form: str) -> None:
    """`[]` and `enabled: false` over the alias: the request is refused as too long, nothing is cut in silence."""
    answer = await stage.ask("cut", **REFUSALS[form])
    expect_refused(answer)
    assert not stage.up.exchanges


def expect_refused(answer: client.Answer) -> None:
    """Hold a refusal to OpenRouter's words."""
    error = answer.error
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", "context_length_exceeded")
    assert error["metadata"]["error_type"] == "context_length_exceeded"
    assert error["message"].startswith(WORDS[0])
    assert error["message"].endswith(WORDS[1])
    assert " of text input, 200 in the output)" in error["message"]


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("model", ["plain", "routed", "forbidden"])
async def test_too_long_is_refused_before_the_upstream(stage: Stage, model: str, *, is_stream: bool) -> None:
    """Off unless asked for: 400 in OpenRouter's words, no call, no row, no header."""
    before = len(await stage.gateway.rows())
    answer = await stage.ask(model, stream=is_stream)
    expect_refused(answer)
    assert "x-turnpike-transforms" not in answer.headers
    assert not stage.up.exchanges
    assert len(await stage.gateway.rows()) == before


async def test_openrouter_s_face_tells_the_overflow_in_its_own_shape(stage: Stage) -> None:
    """An integer code and the words agents look for."""
    payload = {"model": "plain", "messages": conversation()}
    path = "/api/v1/chat/completions"
    answer = await client.ask(stage.gateway.url, payload, key=stage.gateway.key, path=path)
    error = answer.error
    assert (answer.status, error["code"]) == (400, 400)
    assert error["message"].startswith(WORDS[0])
    assert error["metadata"]["error_code"] == error["metadata"]["error_type"] == "context_length_exceeded"


@pytest.mark.parametrize("form", FORMS)
async def test_openrouter_is_told_to_leave_our_cut_alone(stage: Stage, form: str) -> None:
    """Its context is known here, so the cut is ours: the plugin is switched off in what it gets."""
    answer = await stage.ask("routed", **FORMS[form])
    expect_cut(answer, stage.sent)
    assert "transforms" not in stage.sent
    assert stage.sent["plugins"] == [{"id": "context-compression", "enabled": False}]


@pytest.mark.parametrize("form", FORMS)
async def test_openrouter_cuts_where_its_context_is_unknown(stage: Stage, form: str) -> None:
    """All messages and the request's own form go on."""
    answer = await stage.ask("routed-unknown", **FORMS[form])
    assert answer.status == 200
    assert stage.sent["messages"] == conversation()
    assert {name: stage.sent.get(name) for name in FORMS[form]} == FORMS[form]
    assert len({"transforms", "plugins"} & set(stage.sent)) == 1


async def test_an_alias_asks_openrouter_for_it(stage: Stage) -> None:
    """Where the alias asks and the context is unknown the plugin is added, in the form its reference has."""
    answer = await stage.ask("alias-routed-unknown")
    assert answer.status == 200
    assert stage.sent["messages"] == conversation()
    assert stage.sent["plugins"] == [PLUGIN]


@pytest.mark.parametrize("form", REFUSALS)
async def test_a_refusal_to_be_cut_goes_on_to_openrouter(stage: Stage, form: str) -> None:
    """OpenRouter hears the no as well, and the header claims nothing."""
    answer = await stage.ask("alias-routed-unknown", **REFUSALS[form])
    assert answer.status == 200
    assert "x-turnpike-transforms" not in answer.headers
    assert stage.sent["messages"] == conversation()
    sent = {name: stage.sent[name] for name in REFUSALS[form] if name in stage.sent}
    assert sent == (
        REFUSALS[form] if form != "both" else {"plugins": [{"id": "context-compression", "enabled": False}]}
    )


@pytest.mark.parametrize("form", FORMS)
async def test_a_direct_target_of_unknown_context_gets_everything(stage: Stage, form: str) -> None:
    """No cut, no fields, no header: it may well fit, and the target knows."""
    answer = await stage.ask("unknown", **FORMS[form])
    assert answer.status == 200
    assert "x-turnpike-transforms" not in answer.headers
    assert stage.sent["messages"] == conversation()
    assert not {"transforms", "plugins"} & set(stage.sent)


async def test_what_fits_is_not_touched(stage: Stage) -> None:
    """The same alias with a short conversation: nothing is dropped and the header stays away."""
    messages = [*conversation()[:20], QUESTION]
    answer = await stage.ask("cut", messages=messages)
    assert answer.status == 200
    assert "x-turnpike-transforms" not in answer.headers
    assert stage.sent["messages"] == messages


async def test_a_growing_conversation_keeps_its_beginning(stage: Stage) -> None:
    """Turn by turn the beginning stays the same over many turns, so that a prompt cache helps."""
    whole = conversation()
    heads = []
    for size in range(120, 200, 8):
        messages = [message for message in whole[:size] if message["role"] in ("system", "user", "assistant")]
        messages = [message for message in messages if not message.get("tool_calls")]
        answer = await stage.ask("cut", messages=[*messages, QUESTION])
        assert answer.status == 200
        kept = stage.sent["messages"]
        places = [messages.index(message) for message in kept[:-1]]
        gap = next(place for place, index in enumerate(places) if index != place)
        heads.append((gap, places[gap]))
    assert len(set(heads)) < len(heads)


async def test_a_cut_conversation_is_fit_for_anthropic(stage: Stage) -> None:
    """Translated after the cut: turns alternate, a user's first, each call with its result right behind it."""
    answer = await stage.ask("claude")
    assert answer.status == 200
    body = stage.maker.exchanges[-1].body
    roles = [turn["role"] for turn in body["messages"]]
    assert roles[0] == "user"
    assert all(before != after for before, after in pairwise(roles))
    assert body["system"][0]["text"] == SYSTEM["content"]
    for turn, after in zip(body["messages"], [*body["messages"][1:], {"content": []}], strict=True):
        uses = [block["id"] for block in blocks(turn) if block["type"] == "tool_use"]
        results = [block["tool_use_id"] for block in blocks(after) if block["type"] == "tool_result"]
        assert results == uses


def blocks(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """Give a turn's blocks; text alone has none."""
    content = turn["content"]
    return content if isinstance(content, list) else []


async def test_a_larger_context_is_preferred_where_the_alias_says_so(stage: Stage) -> None:
    """`prefer: larger_context`: nothing is cut while the large target answers; the small one's cut is behind it."""
    answer = await stage.ask("larger-first")
    assert (answer.headers["x-turnpike-model"], answer.headers["x-turnpike-attempts"]) == ("large", "1")
    assert "x-turnpike-transforms" not in answer.headers
    assert stage.sent["messages"] == conversation()
    stage.up.replace_script([server_fault(502), *stage.up.script])
    answer = await stage.ask("larger-first")
    assert (answer.headers["x-turnpike-model"], answer.headers["x-turnpike-attempts"]) == ("small", "2")
    expect_cut(answer, stage.sent)


async def test_without_that_word_the_order_stays(stage: Stage) -> None:
    """The first target gets its cut; should it fail, the large one behind it gets the whole conversation."""
    answer = await stage.ask("cut-then-larger")
    assert answer.headers["x-turnpike-model"] == "small"
    expect_cut(answer, stage.sent)
    stage.up.replace_script([server_fault(502), *stage.up.script])
    answer = await stage.ask("cut-then-larger")
    assert (answer.headers["x-turnpike-model"], answer.headers["x-turnpike-attempts"]) == ("large", "2")
    assert "x-turnpike-transforms" not in answer.headers
    assert stage.sent["messages"] == conversation()


async def test_a_larger_target_behind_it_answers_what_is_too_long(stage: Stage) -> None:
    """Without middle-out the small target is passed over before any call: one attempt, one row."""
    answer = await stage.ask("larger-behind")
    assert (answer.status, answer.headers["x-turnpike-model"]) == (200, "large")
    assert answer.headers["x-turnpike-attempts"] == "1"
    assert stage.sent["messages"] == conversation()
    (row,) = await stage.rows(answer)
    assert row.model == "large"


async def test_an_overflow_told_by_the_maker_goes_on(stage: Stage) -> None:
    """Its context was not known here: it says so in its own words, and the larger target gets all messages."""
    refusal = "prompt is too long: 210000 tokens > 200000 maximum"
    stage.maker.replace_script([makers.refusing_anthropic(400, "invalid_request_error", refusal)])
    answer = await stage.ask("told")
    assert (answer.status, answer.headers["x-turnpike-model"], answer.headers["x-turnpike-attempts"]) == (
        200,
        "large",
        "2",
    )
    assert stage.sent["messages"] == conversation()
    rows = await stage.rows(answer)
    assert [(row.error, row.state) for row in rows] == [("context_length", "voided"), (None, "posted")]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"transforms": ["upside-down"]}, "transforms"),
        ({"transforms": "middle-out"}, "transforms"),
        ({"plugins": [{"id": "context-compression", "engine": "zip"}]}, "plugins"),
    ],
)
async def test_a_transform_nobody_knows_is_refused_by_name(stage: Stage, fields: dict[str, Any], param: str) -> None:
    """It is never passed over in silence."""
    answer = await stage.ask("cut", **fields)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert not stage.up.exchanges
