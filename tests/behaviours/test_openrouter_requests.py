"""OpenRouter's own request fields, on whatever answers: honoured here, forwarded untouched, or refused by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.ledger.records import AttemptRow
from tests.behaviours.gateway import Running, running
from tests.faults import chunks, client, makers
from tests.faults.client import Ended
from tests.faults.replies import ok, ok_openrouter
from tests.faults.statuses import refusing
from tests.faults.steps import Json, Mode
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  router: {{dialect: openrouter, base_url: "{router}", api_key: sk-or-test, price: {price}}}
  one: {{dialect: openai, base_url: "{one}", price: {price}}}
  two: {{dialect: openai, base_url: "{two}", price: {price}}}
  vault: {{dialect: openai, base_url: "{two}", zdr: true, price: {price}}}
  discreet: {{dialect: openai, base_url: "{two}", data_collection: deny, price: {price}}}
  groq: {{base_url: "{one}", api_key: gsk-test, price: {price}}}
  claude: {{dialect: anthropic, base_url: "{claude}", api_key: sk-ant-test, price: {price}}}
  gemini: {{dialect: google, base_url: "{gemini}", api_key: AIza-test, price: {price}}}
models:
  a: one/a
  b: two/b
  broken: "one/fault:status_502"
  cut-off: "one/fault:reset_before_headers"
  pair: [one/a, two/b]
  routed: router/vendor/model
  routed-then-direct: [router/vendor/model, two/b]
  open-then-vault: [one/a, vault/b]
  open-then-discreet: [one/a, discreet/b]
  picky: [groq/a]
  picky-then-b: [groq/a, two/b]
  sonnet: claude/sonnet
  flash: gemini/flash
  last: ["one/fault:status_502", "two/fault:rate_limited", {{static: {{content: "Please try again later."}}}}]
  static-behind-claude: [claude/sonnet, {{static: {{content: "Please try again later."}}}}]
  gratis: [router/vendor/model:free, two/b]
  "direct/*": one/*
  "*": [router/*, two/b]
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $100/day}}
  - {{name: free, key: sk-test-free-key}}
  - {{name: listed, key: sk-test-listed-key, models: [a, broken, routed]}}
"""
PRICE = "{input: $1/M, output: $2/M}"
FREE, LISTED = "sk-test-free-key", "sk-test-listed-key"
TEXT = chunks.text(chunks.COMPLETION_TOKENS)
OPENROUTER_OWN = {"models", "route", "provider", "plugins", "transforms", "preset"}
SURFACES = ["/v1", "/api/v1"]
GOOD: Mapping[str, Mode] = {
    "router": ok_openrouter(),
    "one": ok(),
    "two": ok(),
    "claude": makers.ok_anthropic(),
    "gemini": makers.ok_gemini(),
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """A gateway before OpenRouter and four others."""

    gateway: Running
    ups: Mapping[str, FaultUpstream]

    async def ask(
        self,
        model: str | None,
        *,
        key: str | None = None,
        surface: str = "/v1",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> client.Answer:
        """Ask with the budgeted key unless told otherwise."""
        payload = client.chat(model or "", **fields)
        if model is None:
            del payload["model"]
        path = f"{surface}/chat/completions"
        return await client.ask(self.gateway.url, payload, key=key or self.gateway.key, path=path, headers=headers)

    async def rows(self, answer: client.Answer) -> Sequence[AttemptRow]:
        """Look up the attempts of one request."""
        return await self.gateway.gateway.ledger.find_request(answer.headers["x-request-id"])

    def sent(self, name: str) -> Json:
        """Give the one body that an upstream got."""
        (exchange,) = self.ups[name].exchanges
        return exchange.body

    @property
    def calls(self) -> int:
        """Count what went out to anyone."""
        return sum(len(up.exchanges) for up in self.ups.values())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One gateway for all."""
    folder: Path = tmp_path_factory.mktemp("openrouter-requests")
    async with (
        FaultUpstream() as router,
        FaultUpstream() as one,
        FaultUpstream() as two,
        FaultUpstream() as claude,
        FaultUpstream() as gemini,
    ):
        ups = {"router": router, "one": one, "two": two, "claude": claude, "gemini": gemini}
        routes = ROUTES.format(**{name: up.base_url for name, up in ups.items()}, price=PRICE)
        async with running(routes, folder) as gateway:
            yield Stage(gateway, ups)


@pytest.fixture
def stage(served: Stage) -> Stage:
    """Begin with good upstreams that have been asked nothing."""
    for name, up in served.ups.items():
        up.replace_script([GOOD[name]])
        up.exchanges.clear()
    return served


def text_of(answer: client.Answer) -> str:
    """Give the text of a JSON answer."""
    text: str = answer.json["choices"][0]["message"]["content"]
    return text


def events_of(answer: client.Answer) -> list[Json]:
    """Give the data of a stream, `[DONE]` left out."""
    data = (line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: "))
    return [json.loads(item) for item in data if item != "[DONE]"]


# ---------------------------------------------------------------- models, route


@pytest.mark.parametrize("surface", SURFACES)
async def test_models_are_a_chain_of_our_own(stage: Stage, surface: str) -> None:
    """Each model tried has its hold and its row; nobody is sent `models`, and the first name is the route."""
    models = ["cut-off", "b", "a"]
    answer = await stage.ask("broken", models=models, route="fallback", surface=surface)
    assert (answer.status, text_of(answer)) == (200, TEXT)
    assert answer.headers["x-turnpike-route"] == "broken"
    assert (answer.headers["x-turnpike-provider"], answer.headers["x-turnpike-attempts"]) == ("two", "3")
    rows = await stage.rows(answer)
    assert [(row.provider, row.attempt) for row in rows] == [("one", 1), ("one", 2), ("two", 3)]
    assert all(row.hold_nano_usd > 0 for row in rows)
    assert [row.error for row in rows] == ["server_error", "broken_stream", None]
    bodies = [exchange.body for up in stage.ups.values() for exchange in up.exchanges]
    assert not any(OPENROUTER_OWN & set(body) for body in bodies)


async def test_models_without_model_begin_with_the_first(stage: Stage) -> None:
    """The default model is not asked then."""
    answer = await stage.ask(None, models=["b", "a"])
    assert (answer.status, answer.headers["x-turnpike-route"]) == (200, "b")
    assert stage.calls == 1


async def test_models_are_never_sent_to_openrouter(stage: Stage) -> None:
    """Its own chain would be three long and without rows here."""
    answer = await stage.ask("routed", models=["vendor/other", "b"], key=FREE)
    assert answer.status == 200
    sent = stage.sent("router")
    assert sent["model"] == "vendor/model"
    assert not {"models", "route"} & set(sent)


async def test_eight_models_are_the_most(stage: Stage) -> None:
    """Eight with `model` are tried; nine are refused before anything is held or sent."""
    names = [f"direct/fault:{name}" for name in ("status_500", "status_502", "status_503", "status_504")]
    names += ["direct/fault:rate_limited", "direct/fault:not_found", "direct/fault:no_endpoints"]
    answer = await stage.ask(names[0], models=[*names[1:], "b"])
    assert (answer.status, answer.headers["x-turnpike-attempts"]) == (200, "8")
    assert len(await stage.rows(answer)) == 8
    before = len(await stage.gateway.rows())
    answer = await stage.ask("a", models=[*names, "b"])
    assert (answer.status, answer.error["param"]) == (400, "models")
    assert len(await stage.gateway.rows()) == before


async def test_a_key_s_list_holds_for_models_too(stage: Stage) -> None:
    """One forbidden name among them and nothing is tried."""
    answer = await stage.ask("a", models=["broken", "b"], key=LISTED)
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert stage.calls == 0
    answer = await stage.ask("broken", models=["a"], key=LISTED)
    assert (answer.status, answer.headers["x-turnpike-attempts"]) == (200, "2")


async def test_route_alone_adds_nobody(stage: Stage) -> None:
    """`route: fallback` without `models`: only the table names models."""
    answer = await stage.ask("broken", route="fallback")
    assert answer.status == 502
    assert len(await stage.rows(answer)) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"route": "anywhere"}, "route"),
        ({"route": "sort", "models": ["b"]}, "route"),
        ({"provider": {"sort": {"by": "price", "partition": "none"}}, "models": ["b"]}, "provider"),
        ({"models": "b"}, "models"),
        ({"provider": {"data_collection": "maybe"}}, "provider"),
        ({"provider": {"zdr": "yes"}}, "provider"),
        ({"preset": ""}, "preset"),
        ({"plugins": [{"engine": "x"}]}, "plugins"),
    ],
)
async def test_what_cannot_be_understood_is_refused_by_name(stage: Stage, fields: dict[str, Any], param: str) -> None:
    """400 with the field in `param`; nothing is sent."""
    answer = await stage.ask("a", **fields)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert stage.calls == 0


# ---------------------------------------------------------------- provider: privacy


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("wanted", [{"zdr": True}, {"data_collection": "deny"}], ids=["zdr", "data_collection"])
async def test_privacy_nobody_vouches_for_is_refused(stage: Stage, wanted: dict[str, Any], surface: str) -> None:
    """A direct target that routes.yaml does not flag is none: 404 in OpenRouter's words, no call, no row."""
    before = len(await stage.gateway.rows())
    answer = await stage.ask("a", provider=wanted, surface=surface)
    assert (answer.status, answer.error["code"]) == (404, "no_endpoints" if surface == "/v1" else 404)
    assert answer.error["message"].startswith("No endpoints found matching your data policy")
    assert stage.calls == 0
    assert len(await stage.gateway.rows()) == before


@pytest.mark.parametrize(
    ("model", "wanted", "provider"),
    [
        ("open-then-vault", {"zdr": True}, "vault"),
        ("open-then-vault", {"data_collection": "deny"}, "vault"),
        ("open-then-discreet", {"data_collection": "deny"}, "discreet"),
        ("open-then-vault", {"zdr": False, "data_collection": "allow"}, "one"),
    ],
)
async def test_privacy_is_kept_by_a_target_that_is_flagged(
    stage: Stage, model: str, wanted: dict[str, Any], provider: str
) -> None:
    """The open one is passed over without a call, and the flagged one is sent no `provider`."""
    answer = await stage.ask(model, provider=wanted)
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, provider)
    assert answer.headers["x-turnpike-attempts"] == "1"
    assert stage.calls == 1
    assert "provider" not in stage.sent("one" if provider == "one" else "two")


async def test_a_chain_never_falls_back_past_privacy(stage: Stage) -> None:
    """OpenRouter fails, and the backup behind it is not flagged: the request fails rather than leak."""
    stage.ups["router"].replace_script([makers.refusing_anthropic(502, "api_error", "Away")])
    answer = await stage.ask("routed-then-direct", models=["b"], provider={"zdr": True})
    assert answer.status == 502
    assert (len(stage.ups["router"].exchanges), stage.calls) == (1, 1)


# ---------------------------------------------------------------- provider, plugins and the rest, to OpenRouter


async def test_openrouter_gets_its_fields_as_they_were_sent(stage: Stage) -> None:
    """Known and unknown members alike, from a key without a budget."""
    fields: dict[str, Any] = {
        "provider": {"order": ["Anthropic", "x/y"], "sort": {"by": "price"}, "zdr": True, "max_price": {"prompt": "3"}},
        "plugins": [{"id": "web", "max_results": 3}, {"id": "response-healing"}],
        "reasoning": {"effort": "high", "exclude": True},
        "session_id": "s-1",
        "trace": {"trace_id": "t"},
        "usage": {"include": True},
        "newest_field": {"deep": [1, {"er": None}]},
    }
    answer = await stage.ask("routed", key=FREE, **fields)
    assert answer.status == 200
    sent = stage.sent("router")
    assert {name: sent.get(name) for name in fields} == fields


HEADERS = {
    "x-session-id": "s-1",
    "x-openrouter-metadata": "enabled",
    "x-anthropic-beta": "interleaved-thinking-2025-05-14",
    "cookie": "secret=1",
    "x-forwarded-for": "10.0.0.1",
    "http-referer": "https://client.example",
}


@pytest.mark.parametrize(
    ("model", "name", "told"),
    [
        ("routed", "router", {"x-session-id", "x-openrouter-metadata", "x-anthropic-beta"}),
        ("sonnet", "claude", set()),
        ("flash", "gemini", set()),
        ("a", "one", set()),
    ],
)
async def test_few_of_a_client_s_headers_go_on(stage: Stage, model: str, name: str, told: set[str]) -> None:
    """OpenRouter's to OpenRouter, a beta to Anthropic under its own name; no credential, cookie or address."""
    answer = await stage.ask(model, headers=HEADERS)
    assert answer.status == 200
    got = stage.ups[name].exchanges[0].headers
    assert HEADERS.keys() & got.keys() == told
    assert (HEADERS["x-anthropic-beta"] in got.get("anthropic-beta", "")) is (name == "claude")
    assert not any(stage.gateway.key in value for value in got.values())


async def test_a_budget_sends_its_price_along(stage: Stage) -> None:
    """`max_price` keeps OpenRouter to what is held; a lower one of the client's stands."""
    answer = await stage.ask("routed", provider={"order": ["x"], "max_price": {"prompt": 0.5, "image": 1}})
    assert answer.status == 200
    wanted = stage.sent("router")["provider"]
    assert wanted == {"order": ["x"], "max_price": {"prompt": 0.5, "completion": 2.0, "image": 1}}


async def test_a_budget_sends_its_price_along_unasked(stage: Stage) -> None:
    """Without any `provider` of the client's, too; a key without a budget sends none."""
    await stage.ask("routed")
    assert stage.sent("router")["provider"] == {"max_price": {"prompt": 1.0, "completion": 2.0}}
    stage.ups["router"].exchanges.clear()
    await stage.ask("routed", key=FREE)
    assert "provider" not in stage.sent("router")


async def test_plugins_only_openrouter_has_pass_direct_targets_over(stage: Stage) -> None:
    """A web search is never left out in silence: the chain has OpenRouter or the request is refused."""
    plugins = [{"id": "web"}]
    answer = await stage.ask("a", plugins=plugins, key=FREE)
    assert (answer.status, stage.calls) == (404, 0)
    stage.ups["router"].replace_script([makers.refusing_anthropic(502, "api_error", "Away")])
    answer = await stage.ask("routed-then-direct", plugins=plugins, key=FREE)
    assert (answer.status, stage.calls) == (502, 1)


@pytest.mark.parametrize(
    "fields",
    [{"plugins": [{"id": "web"}]}, {"service_tier": "priority"}, {"tools": [{"type": "openrouter:web_search"}]}],
)
async def test_what_nobody_can_price_is_kept_from_a_budget(stage: Stage, fields: dict[str, Any]) -> None:
    """400 `price_unknown`, nothing held, nothing sent."""
    answer = await stage.ask("routed", **fields)
    assert (answer.status, answer.error["code"]) == (400, "price_unknown")
    assert stage.calls == 0


@pytest.mark.parametrize(
    ("wanted", "provider"),
    [
        ({"order": ["two"]}, "two"),
        ({"only": ["two"]}, "two"),
        ({"ignore": ["one"]}, "two"),
        ({"max_price": {"prompt": 1, "completion": 2}}, "one"),
        ({"allow_fallbacks": False}, "one"),
    ],
)
async def test_choices_hold_for_direct_targets(stage: Stage, wanted: dict[str, Any], provider: str) -> None:
    """`order`, `only`, `ignore` and `max_price` are matched against our own providers."""
    answer = await stage.ask("pair", provider=wanted)
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, provider)


async def test_a_price_nobody_meets_is_refused(stage: Stage) -> None:
    """404 as OpenRouter says it."""
    answer = await stage.ask("a", provider={"max_price": {"completion": 1.99}})
    assert (answer.status, stage.calls) == (404, 0)
    assert answer.error["message"].startswith("No allowed providers are available for the selected model")


# ---------------------------------------------------------------- presets, suffixes, "*"


@pytest.mark.parametrize(
    "fields",
    [{"model": "@preset/b"}, {"preset": "b"}, {"model": "broken", "preset": "b"}],
    ids=["model", "field", "both"],
)
async def test_a_preset_that_is_an_alias_is_that_alias(stage: Stage, fields: dict[str, Any]) -> None:
    """In either spelling; a model of the request's own is tried in front of it."""
    answer = await stage.ask(fields.get("model"), **{name: value for name, value in fields.items() if name != "model"})
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, "two")
    assert "preset" not in stage.sent("two")


async def test_any_other_preset_is_openrouter_s(stage: Stage) -> None:
    """It goes on untouched, direct targets behind it are left out, and a chain without OpenRouter is refused."""
    answer = await stage.ask("routed-then-direct", preset="theirs", key=FREE)
    assert answer.status == 200
    assert stage.sent("router")["preset"] == "theirs"
    answer = await stage.ask("a", preset="theirs", key=FREE)
    assert (answer.status, stage.calls) == (404, 1)


async def test_a_budget_keeps_openrouter_s_presets_away(stage: Stage) -> None:
    """They may choose any model and tool, which no price here covers."""
    answer = await stage.ask("routed", preset="theirs")
    assert (answer.status, answer.error["param"], stage.calls) == (400, "preset", 0)


PRESET_LOST = pytest.mark.xfail(strict=True, reason="`@preset/` is cut off a name that is no alias of ours")
PRESET_FREE = pytest.mark.xfail(strict=True, reason="a preset named in `model` is not seen as one")


@pytest.mark.parametrize("model", [pytest.param("@preset/theirs", marks=[PRESET_LOST]), "vendor/model@preset/theirs"])
async def test_openrouter_s_preset_in_the_name_of_a_model(stage: Stage, model: str) -> None:
    """Behind `*` it goes on as it was written."""
    answer = await stage.ask(model, key=FREE)
    assert answer.status == 200
    assert stage.sent("router")["model"] == model


@PRESET_FREE
@pytest.mark.parametrize("model", ["@preset/theirs", "vendor/model@preset/theirs"])
async def test_a_budget_keeps_presets_in_names_away_too(stage: Stage, model: str) -> None:
    """The same preset in another spelling."""
    answer = await stage.ask(model)
    assert answer.status == 400
    assert stage.calls == 0


@PRESET_FREE
async def test_a_direct_target_is_sent_no_preset(stage: Stage) -> None:
    """What stands in a preset of OpenRouter's nobody else knows: 404, and no call."""
    answer = await stage.ask("direct/model@preset/theirs", key=FREE)
    assert (answer.status, stage.calls) == (404, 0)


async def test_anything_else_goes_to_openrouter_with_one_model_behind_all(stage: Stage) -> None:
    """`"*"` with a global fallback: any name reaches OpenRouter, and when that fails the same small model answers."""
    answer = await stage.ask("vendor/whatever:nitro")
    assert (answer.status, stage.sent("router")["model"]) == (200, "vendor/whatever:nitro")
    stage.ups["router"].replace_script([makers.refusing_anthropic(404, "not_found", "No endpoints found.")])
    answer = await stage.ask("vendor/else")
    assert (answer.status, answer.headers["x-turnpike-model"]) == (200, "b")
    assert answer.headers["x-turnpike-route"] == "vendor/else"
    assert [row.error for row in await stage.rows(answer)] == ["not_found", None]


async def test_a_free_model_has_its_backup(stage: Stage) -> None:
    """`:free` goes to OpenRouter as it stands; when its daily limit is used up the next target answers."""
    answer = await stage.ask("gratis")
    assert (answer.status, stage.sent("router")["model"]) == (200, "vendor/model:free")
    limit = {"error": {"message": "Rate limit exceeded: free-models-per-day.", "code": 429}}
    stage.ups["router"].replace_script([refusing("free_limit", 429, limit)])
    answer = await stage.ask("gratis")
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, "two")


# ---------------------------------------------------------------- parameters


async def test_a_parameter_a_target_refuses_is_not_sent(stage: Stage) -> None:
    """The answer comes all the same: a backup is a backup."""
    answer = await stage.ask("picky", logprobs=True, top_logprobs=2, temperature=0.1)
    assert answer.status == 200
    sent = stage.sent("one")
    assert not {"logprobs", "top_logprobs"} & set(sent)
    assert sent["temperature"] == 0.1


async def test_the_header_names_what_was_dropped_for_a_provider(stage: Stage) -> None:
    """What its entry in the catalogue says it does not take."""
    answer = await stage.ask("picky", logprobs=True, top_logprobs=2, temperature=0.1)
    assert answer.headers["x-turnpike-dropped"] == "logprobs, top_logprobs"


async def test_the_header_names_what_a_dialect_cannot_say(stage: Stage) -> None:
    """Anthropic has no seed and no penalties; what it has goes out."""
    answer = await stage.ask("sonnet", seed=1, presence_penalty=0.5, top_k=5, max_tokens=50)
    assert answer.status == 200
    assert set(answer.headers["x-turnpike-dropped"].split(", ")) == {"presence_penalty", "seed"}
    assert stage.sent("claude")["top_k"] == 5


@pytest.mark.parametrize(("model", "fields"), [("picky", {"logprobs": True}), ("sonnet", {"seed": 1})])
async def test_required_parameters_are_not_dropped(stage: Stage, model: str, fields: dict[str, Any]) -> None:
    """`require_parameters`: a target that would leave one out is none, and the next one answers."""
    wanted = {"require_parameters": True}
    answer = await stage.ask(model, provider=wanted, **fields)
    assert (answer.status, stage.calls) == (404, 0)
    answer = await stage.ask(model, models=["b"], provider=wanted, **fields)
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, "two")
    assert set(fields) <= set(stage.sent("two"))
    assert "x-turnpike-dropped" not in answer.headers


# ---------------------------------------------------------------- metadata, broken streams


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_metadata_tells_how_it_was_routed(stage: Stage, surface: str, *, is_stream: bool) -> None:
    """With `X-OpenRouter-Metadata: enabled` only: who was asked, who was tried, who served."""
    fields: dict[str, Any] = {"stream": is_stream, "models": ["sonnet"], "surface": surface}
    if is_stream:
        fields["stream_options"] = {"include_usage": True}
    answer = await stage.ask("broken", headers={"X-OpenRouter-Metadata": "enabled"}, **fields)
    told = [chunk for chunk in (events_of(answer) if is_stream else [answer.json]) if "openrouter_metadata" in chunk]
    assert len(told) == 1
    metadata = told[0]["openrouter_metadata"]
    assert (metadata["requested"], metadata["strategy"], metadata["attempt"]) == ("broken", "fallback", 2)
    assert [(one["provider"], one["status"]) for one in metadata["attempts"]] == [("one", 502), ("claude", 200)]
    assert [one["selected"] for one in metadata["endpoints"]["available"]] == [False, True]
    answer = await stage.ask("broken", **fields)
    assert b"openrouter_metadata" not in answer.body


async def test_metadata_stands_beside_an_error(stage: Stage) -> None:
    """Where nobody served there is nobody selected."""
    answer = await stage.ask("broken", surface="/api/v1", headers={"X-OpenRouter-Metadata": "enabled"})
    assert answer.status == 502
    metadata = answer.json["openrouter_metadata"]
    assert [one["selected"] for one in metadata["endpoints"]["available"]] == [False]


@pytest.mark.parametrize(
    ("model", "name", "mode"),
    [
        ("sonnet", "claude", makers.error_event_anthropic()),
        ("flash", "gemini", makers.error_event_gemini()),
    ],
)
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_translated_stream_that_breaks_says_so(
    stage: Stage, model: str, name: str, mode: Mode, surface: str
) -> None:
    """OpenRouter's frame on `/api/v1`, the error alone on `/v1`; no `[DONE]`, no clean end, and it is booked."""
    stage.ups[name].replace_script([mode])
    answer = await stage.ask(model, stream=True, surface=surface)
    assert (answer.status, answer.end) == (200, Ended.CUT)
    assert b"[DONE]" not in answer.body
    *said, last = events_of(answer)
    deltas = [choice["delta"] for chunk in said for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == makers.TEXT
    if surface == "/v1":
        assert set(last) == {"error"}
        assert isinstance(last["error"]["code"], str)
    else:
        assert isinstance(last["error"]["code"], int)
        assert last["choices"][0]["finish_reason"] == "error"
        assert (last["id"], last["model"], last["provider"]) == (said[0]["id"], said[0]["model"], name)
    (row,) = await stage.rows(answer)
    assert (row.state, row.usage.input_tokens) == ("posted", makers.TOKENS.prompt)
    assert row.cost_nano_usd
    assert row.error


# ---------------------------------------------------------------- the last resort


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_fixed_answer_when_all_else_fails(stage: Stage, surface: str, *, is_stream: bool) -> None:
    """200 with the operator's text behind two failures, free, with a row of its own."""
    answer = await stage.ask("last", stream=is_stream, surface=surface)
    assert (answer.status, answer.end) == (200, Ended.COMPLETE)
    assert (answer.headers["x-turnpike-provider"], answer.headers["x-turnpike-attempts"]) == ("static", "3")
    if is_stream:
        deltas = [choice["delta"] for chunk in events_of(answer) for choice in chunk["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Please try again later."
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert text_of(answer) == "Please try again later."
        assert answer.headers["x-turnpike-cost"] == "0.000000000"
        assert answer.json["usage"]["cost"] == 0
    rows = await stage.rows(answer)
    assert [(row.provider, row.error) for row in rows] == [
        ("one", "server_error"),
        ("two", "rate_limited"),
        ("static", None),
    ]
    assert [row.cost_nano_usd for row in rows] == [0, 0, 0]


async def test_a_fixed_answer_stands_under_privacy_and_tools(stage: Stage) -> None:
    """It sends nothing anywhere, so no condition keeps it away: the open target in front of it is not asked."""
    answer = await stage.ask("static-behind-claude", provider={"zdr": True}, tools=[a_tool()])
    assert (answer.status, text_of(answer)) == (200, "Please try again later.")
    assert stage.calls == 0


def a_tool() -> dict[str, Any]:
    """Write a tool."""
    return {"type": "function", "function": {"name": "wind", "parameters": {"type": "object", "properties": {}}}}
