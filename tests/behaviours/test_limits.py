"""Rates and requests at once, of every place, as clients meet them: exact counts, and what a refusal says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.replies import ok_openrouter, ok_paced
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
  ten: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}, rate: 10/min}}
  ten-a-pattern:
    dialect: openai
    base_url: "{up}"
    price: {{input: $1/M, output: $2/M}}
    model_rates: {{"small-*": 10/min}}
  router: {{dialect: openrouter, base_url: "{router}", api_key: sk-or-test}}
  spare: {{dialect: openai, base_url: "{spare}", price: {{input: $1/M, output: $2/M}}}}
models:
  m: up/m
  slow: {{targets: [up/slow], parallel: 3}}
  of-model: {{targets: [up/m], rate: 10/min}}
  of-provider: ten/m
  of-target: [{{target: up/t, rate: 10/min}}]
  of-pattern: [ten-a-pattern/small-1]
  of-pattern-too: [ten-a-pattern/small-2]
  chain: [{{target: up/t, rate: 10/min}}, spare/m]
  gratis: "router/x/y:free"
  gratis-too: "router/z:free"
tenants:
  acme: {{rate: 10/min}}
keys:
  - {{name: open, key: "{{key}}"}}
  - {{name: ten, key: sk-test-ten, rate: 10/min}}
  - {{name: worded, key: sk-test-worded, rate: [10/min, 100k tokens/min]}}
  - {{name: frugal, key: sk-test-frugal, rate: 500 tokens/min}}
  - {{name: one, key: sk-test-one, tenant: acme}}
  - {{name: two, key: sk-test-two, tenant: acme}}
  - {{name: peopled, key: sk-test-peopled, users: {{rate: 10/min}}, tags: {{job: {{rate: 10/min}}}}}}
  - {{name: narrow, key: sk-test-narrow, parallel: 3}}
  - {{name: both, key: sk-test-both, rate: 20/min, parallel: 3}}
"""
OPEN, TEN, WORDED, FRUGAL = "sk-test-behaviour", "sk-test-ten", "sk-test-worded", "sk-test-frugal"
ONE, TWO, PEOPLED, NARROW, BOTH = (f"sk-test-{name}" for name in ("one", "two", "peopled", "narrow", "both"))
AT_ONCE = 30


class Stage:
    """A gateway and the upstreams behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream, router: FaultUpstream, spare: FaultUpstream) -> None:
        """Keep all."""
        self.gateway = gateway
        self.up = up
        self.router = router
        self.spare = spare

    async def ask(
        self, model: str = "m", *, key: str = OPEN, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> client.Answer:
        """Ask for a short answer."""
        payload = client.chat(model, max_tokens=10, **fields)
        return await client.ask(self.gateway.url, payload, key=key, headers=headers)

    async def ask_all(self, model: str = "m", *keys: str, **fields: Any) -> list[client.Answer]:
        """Ask thirty times at once, with these keys in turn."""
        asks = [
            self.ask(model, key=(keys or (OPEN,))[number % len(keys or "1")], **fields) for number in range(AT_ONCE)
        ]
        return await asyncio.gather(*asks)


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve limits of every place."""
    async with FaultUpstream() as up, FaultUpstream([ok_openrouter()]) as router, FaultUpstream() as spare:
        routes = ROUTES.format(up=up.base_url, router=router.base_url, spare=spare.base_url)
        async with running(routes, tmp_path) as gateway:
            yield Stage(gateway, up, router, spare)


def count(answers: list[client.Answer]) -> dict[int, int]:
    """Count statuses."""
    statuses = [answer.status for answer in answers]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


@pytest.mark.parametrize(
    ("model", "keys", "scope"),
    [
        ("m", [TEN], "key:ten"),
        ("m", [ONE, TWO], "tenant:acme"),
        ("of-model", [OPEN, NARROW], "model:of-model"),
        ("of-provider", [OPEN, PEOPLED], "provider:ten"),
        ("of-target", [OPEN, PEOPLED], "target:up/t"),
        ("of-pattern", [OPEN, PEOPLED], "target:ten-a-pattern/small-*"),
    ],
)
async def test_ten_of_thirty_at_once_are_let_in(stage: Stage, model: str, keys: list[str], scope: str) -> None:
    """Exactly ten are answered, twenty refused with the place and the wait, and ten calls went out."""
    keys = [key for key in keys if key != NARROW]
    answers = await stage.ask_all(model, *keys)
    assert count(answers) == {200: 10, 429: 20}
    assert len(stage.up.exchanges) == 10
    for refused in (answer for answer in answers if answer.status == 429):
        assert (refused.error["type"], refused.error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert refused.error["metadata"]["scope"] == scope
        assert 45 < float(refused.headers["retry-after"]) <= 62
        assert refused.headers["x-ratelimit-limit-requests"] == "10"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert len(await stage.gateway.settled_rows(10)) == 10


async def test_the_models_of_a_pattern_share_its_rate(stage: Stage) -> None:
    """Ten of one, none of the other."""
    assert count(await stage.ask_all("of-pattern")) == {200: 10, 429: 20}
    assert (await stage.ask("of-pattern-too")).status == 429


async def test_free_models_at_openrouter_have_twenty_a_minute(stage: Stage) -> None:
    """Known without a word in routes.yaml, and shared by all of them."""
    answers = [*await stage.ask_all("gratis"), *await stage.ask_all("gratis-too")]
    assert count(answers) == {200: 20, 429: 40}
    assert len(stage.router.exchanges) == 20
    assert answers[-1].error["metadata"]["scope"] == "target:router/*:free"


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        ({"user": "ann"}, {"user": "bob"}),
        ({"headers": {"x-turnpike-tags": "job=1"}}, {"headers": {"x-turnpike-tags": "job=2"}}),
    ],
)
async def test_each_user_and_each_value_of_a_tag_has_its_own(
    stage: Stage, mine: dict[str, Any], others: dict[str, Any]
) -> None:
    """Ten for one, ten for the other, and no limit without a name."""
    assert count(await stage.ask_all("m", PEOPLED, **mine)) == {200: 10, 429: 20}
    assert count(await stage.ask_all("m", PEOPLED, **others)) == {200: 10, 429: 20}
    assert count(await stage.ask_all("m", PEOPLED)) == {200: 30}


async def test_a_chain_goes_on_where_a_target_is_full(stage: Stage) -> None:
    """All thirty are answered: ten there, twenty by the one behind it."""
    assert count(await stage.ask_all("chain")) == {200: 30}
    assert (len(stage.up.exchanges), len(stage.spare.exchanges)) == (10, 20)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_every_answer_tells_how_its_rates_stand(stage: Stage, *, is_stream: bool) -> None:
    """Limit, what is left and until when, of requests and of tokens, in OpenAI's names."""
    for left in (9, 8):
        headers = (await stage.ask(key=WORDED, stream=is_stream)).headers
        assert headers["x-ratelimit-limit-requests"] == "10"
        assert headers["x-ratelimit-remaining-requests"] == str(left)
        assert 45 < float(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 62
        assert headers["x-ratelimit-limit-tokens"] == "100000"
        assert 99_000 < int(headers["x-ratelimit-remaining-tokens"]) < 100_000


async def test_a_failed_answer_tells_how_its_rates_stand(stage: Stage) -> None:
    """The upstream failed, the request was counted."""
    stage.up.replace_script([])
    answer = await client.ask(stage.gateway.url, client.chat("nobody"), key=TEN)
    assert answer.status == 404
    await stage.up.stop()
    answer = await stage.ask(key=TEN)
    assert answer.status == 502
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    await stage.up.listen()


async def test_without_a_rate_nothing_is_told(stage: Stage) -> None:
    """No header says nothing."""
    assert not [name for name in (await stage.ask()).headers if name.startswith("x-ratelimit")]


async def test_tokens_are_counted_as_they_were(stage: Stage) -> None:
    """What an answer really had takes the place of the estimate, and a spent minute refuses."""
    first = await stage.ask(key=FRUGAL)
    await stage.gateway.settled_rows()
    second = await stage.ask(key=FRUGAL)
    used = int(first.headers["x-ratelimit-remaining-tokens"]) - int(second.headers["x-ratelimit-remaining-tokens"])
    (row, *_) = await stage.gateway.settled_rows()
    estimate = 500 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert used == row.usage.input_tokens + row.usage.output_tokens
    assert used != estimate
    answers = await stage.ask_all("m", FRUGAL)
    assert set(count(answers)) == {200, 429}
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.error["metadata"]["measure"] == "tokens"
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize(("model", "key"), [("m", NARROW), ("slow", OPEN)])
async def test_three_streams_at_once_and_no_fourth(stage: Stage, model: str, key: str) -> None:
    """Three run, the rest is told to try soon, and a place is free the moment one has ended."""
    stage.up.replace_script([ok_paced(6, every_s=0.15)])
    payload = client.chat(model, stream=True, max_tokens=10)
    async with (
        client.call(stage.gateway.url, payload, key=key) as first,
        client.call(stage.gateway.url, payload, key=key) as second,
        client.call(stage.gateway.url, payload, key=key) as third,
    ):
        for reply in (first, second, third):
            assert (await reply.head()).status == 200
        refused = await stage.ask_all(model, key)
        assert count(refused) == {429: 30}
        assert refused[0].error["metadata"]["measure"] == "parallel"
        assert refused[0].headers["retry-after"] == "1"
        await first.read()
        assert (await stage.ask(model, key=key)).status == 200
        await asyncio.gather(second.read(), third.read())


async def test_a_client_that_leaves_frees_its_place(stage: Stage) -> None:
    """Its hold ends at once, and with it the request under way."""
    stage.up.replace_script([ok_paced(100, every_s=0.1)])
    payload = client.chat("m", stream=True, max_tokens=10)
    for _ in range(3):
        async with client.call(stage.gateway.url, payload, key=NARROW) as reply:
            assert (await reply.head()).status == 200
            await reply.leave()
    await stage.gateway.settled_rows(3)
    stage.up.replace_script([ok_paced(1, every_s=0)])
    assert (await stage.ask(key=NARROW)).status == 200


async def test_a_refused_request_is_counted_nowhere(stage: Stage) -> None:
    """Those that `parallel` refused leave the rate as it was: seventeen more are let in, one after another."""
    stage.up.replace_script([ok_paced(6, every_s=0.1)])
    assert count(await stage.ask_all("m", BOTH, stream=True)) == {200: 3, 429: 27}
    stage.up.replace_script([ok_paced(1, every_s=0)])
    statuses = [(await stage.ask(key=BOTH)).status for _ in range(18)]
    assert statuses == [*[200] * 17, 429]


async def test_a_window_slides(tmp_path: Path) -> None:
    """Three in any second: the fourth comes in as soon as the first is a second old, and not all three again."""
    routes = """
providers: {{up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}}}
models: {{m: up/m}}
keys: [{{name: app, key: "{{key}}", rate: 3/s}}]
"""
    async with FaultUpstream() as up, running(routes.format(up=up.base_url), tmp_path) as gateway:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 2.5:
            await client.ask(gateway.url, client.chat("m"), key=gateway.key)
            await asyncio.sleep(0.02)
        let_in = [row.at_s for row in await gateway.rows()]
        spans = [last - first for first, last in zip(let_in, let_in[3:], strict=False)]
        assert len(let_in) >= 6
        assert min(spans) > 1
