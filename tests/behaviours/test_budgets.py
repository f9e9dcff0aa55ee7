"""Budgets of every place as a client meets them: who is refused, who is sent elsewhere, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import pytest_asyncio

from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.replies import ok
from tests.faults.upstream import FaultUpstream

# A request here costs 7 x $1/M + 60 x $10/M = $0.000607 and holds $0.00095 at most: three fit into $0.0024, and then
# two of the cheap model, at $0.000127 and a hold of $0.0004. Sixty tokens are fewer than is useful to clamp to.
ROUTES = """
budget: $10/day
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $10/M}}}}
  metered: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $10/M}}, budget: $0.0024/day}}
  down: {{dialect: simulated, fail: server_error, price: {{input: $1/M, output: $10/M}}}}
  spare: {{dialect: openai, base_url: "{spare}", price: {{input: $1/M, output: $2/M}}}}
models:
  m: [{{target: up/m, context: 8k}}]
  cheap: [{{target: spare/cheap, context: 8k}}]
  of-model: {{targets: [up/m], budget: $0.0024/day}}
  of-provider: metered/m
  broken: {{targets: [down/m], budget: $0.0024/day}}
  chain: [metered/m, spare/m]
tenants:
  acme: {{budget: {{limit: $0.0024/month, timezone: Europe/Berlin}}}}
keys:
  - {{name: open, key: "{{key}}"}}
  - {{name: tight, key: sk-test-tight, budget: $0.0024/day}}
  - {{name: several, key: sk-test-several, budget: [$1/hour, $0.0024/total, $5/month]}}
  - {{name: one, key: sk-test-one, tenant: acme}}
  - {{name: two, key: sk-test-two, tenant: acme}}
  - {{name: people, key: sk-test-people, users: $0.0024/day, tags: {{job: $0.0024/total}}}}
  - {{name: thrifty, key: sk-test-thrifty, budget: {{limit: $0.0024/day, when_spent: cheap}}}}
  - {{name: soft, key: sk-test-soft, budget: {{limit: $0.0024/day, soft: true, when_spent: cheap}}}}
  - {{name: watched, key: sk-test-watched, budget: {{limit: $0.0024/day, soft: true}}}}
  - {{name: listed, key: sk-test-listed, models: [m], budget: {{limit: $0.0024/day, when_spent: cheap}}}}
  - {{name: mixed, key: sk-test-mixed, budget: [{{limit: $0.0024/day, when_spent: cheap}}, $0.0027/month]}}
"""
OPEN = "sk-test-behaviour"
ADMIN = "sk-tp-admin-of-the-test"
ENVIRON = {"TURNPIKE_ADMIN_KEY": ADMIN}


def key_of(name: str) -> str:
    """Give the client key of a name; a key itself is that."""
    if name.startswith("sk-"):
        return name
    return OPEN if name == "open" else f"sk-test-{name}"


class Stage:
    """A gateway and the upstreams behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream, spare: FaultUpstream) -> None:
        """Keep all."""
        self.gateway = gateway
        self.up = up
        self.spare = spare

    async def ask(
        self, model: str = "m", *, key: str = "open", tags: str | None = None, **fields: Any
    ) -> client.Answer:
        """Ask for an answer of sixty tokens."""
        headers = {"x-turnpike-tags": tags} if tags else None
        payload = client.chat(model, **({"max_tokens": 60} | fields))
        return await client.ask(self.gateway.url, payload, key=key_of(key), headers=headers)

    async def make_key(self, fields: dict[str, Any]) -> str:
        """Make a key over the admin API and give its value."""
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with httpx.AsyncClient() as http:
            reply = await http.post(f"{self.gateway.url}/admin/keys", json=fields, headers=headers)
        return str(reply.json()["key"])

    async def spend(self, model: str = "m", **how: Any) -> list[int]:
        """Ask five times, one after another; three fit into the small budgets here."""
        return [(await self.ask(model, **how)).status for _ in range(5)]


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve budgets of every place."""
    async with (
        FaultUpstream([ok(60)]) as up,
        FaultUpstream([ok(60)]) as spare,
        running(ROUTES.format(up=up.base_url, spare=spare.base_url), tmp_path, environ=ENVIRON) as gateway,
    ):
        yield Stage(gateway, up, spare)


PLACES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("key:tight", {"key": "tight"}, {"key": "open"}),
    ("key:several", {"key": "several"}, {"key": "open"}),
    ("tenant:acme", {"key": "one"}, {"key": "open"}),
    ("model:of-model", {"model": "of-model"}, {"model": "m"}),
    ("provider:metered", {"model": "of-provider"}, {"model": "m"}),
    ("user:people/ann", {"key": "people", "user": "ann"}, {"key": "people", "user": "bob"}),
    ("tag:people/job=1", {"key": "people", "tags": "job=1"}, {"key": "people", "tags": "job=2"}),
]


@pytest.mark.parametrize(("scope", "how", "others"), PLACES)
async def test_a_spent_budget_refuses_and_names_its_place(
    stage: Stage, scope: str, how: dict[str, Any], others: dict[str, Any]
) -> None:
    """402 with figures and place, nothing goes upstream, no SDK tries again; who does not count there goes on."""
    assert await stage.spend(**how) == [200, 200, 200, 402, 402]
    answer = await stage.ask(**how)
    error = answer.error
    assert (answer.status, error["type"], error["code"]) == (402, "insufficient_quota", "budget_exceeded")
    metadata = answer.error["metadata"]
    assert metadata["scope"] == scope
    assert (metadata["limit"], metadata["held"]) == ("0.002400000", "0.000000000")
    assert float(metadata["needed"]) > float(metadata["left"])
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert len(stage.up.exchanges) == 3
    assert (await stage.ask(**others)).status == 200


@pytest.mark.parametrize("names", [["broken", "of-model"], ["of-model", "cheap"], ["broken", "of-model", "cheap"]])
async def test_a_models_wall_holds_wherever_a_request_names_it(stage: Stage, names: list[str]) -> None:
    """First or behind others; where it has no room the next name is tried."""
    has_other = "cheap" in names
    statuses = [(await stage.ask(names[0], models=names[1:])).status for _ in range(5)]
    assert statuses[:3] == [200, 200, 200]
    assert {status == 200 for status in statuses[3:]} == {has_other}
    rows = await stage.gateway.rows()
    costs = {name: sum(row.cost_nano_usd or 0 for row in rows if row.alias == name) for name in (*names, "cheap")}
    assert costs["of-model"] == 3 * 607_000
    assert costs["cheap"] == (2 * 127_000 if has_other else 0)
    assert costs.get("broken", 0) == 0


@pytest.mark.parametrize(
    ("how", "period", "zone"),
    [
        ({"key": "tight"}, "day", "UTC"),
        ({"key": "several"}, None, "UTC"),
        ({"key": "one"}, "month", "Europe/Berlin"),
    ],
)
async def test_a_refusal_says_when_the_budget_starts_anew(
    stage: Stage, how: dict[str, Any], period: str | None, zone: str
) -> None:
    """At midnight of its own zone, on the first of its own month, or never."""
    await stage.spend(**how)
    resets_at = (await stage.ask(**how)).error["metadata"]["resets_at"]
    if period is None:
        assert resets_at is None
        return
    moment = datetime.strptime(resets_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    assert (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    assert moment.day == 1 if period == "month" else moment - datetime.now(UTC) <= timedelta(days=1)


async def test_keys_of_one_tenant_share_its_budget(stage: Stage) -> None:
    """What one spends the other has no more."""
    statuses = [(await stage.ask(key=key)).status for key in ("one", "two", "one", "two", "one")]
    assert statuses == [200, 200, 200, 402, 402]


async def test_the_gateways_own_budget_holds_for_everybody(tmp_path: Path) -> None:
    """Whatever a key and a provider still have."""
    async with FaultUpstream([ok(60)]) as up, FaultUpstream([ok(60)]) as spare:
        routes = ROUTES.format(up=up.base_url, spare=spare.base_url).replace("budget: $10/day", "budget: $0.0024/day")
        async with running(routes, tmp_path) as gateway:
            stage = Stage(gateway, up, spare)
            assert await stage.spend() == [200, 200, 200, 402, 402]
            answer = await stage.ask(key="people")
            assert (answer.status, answer.error["metadata"]["scope"]) == (402, "global")


@pytest.mark.parametrize(("scope", "how", "others"), PLACES)
async def test_budgets_hold_also_when_thirty_come_at_once(
    stage: Stage, scope: str, how: dict[str, Any], others: dict[str, Any]
) -> None:
    """Two fit by their holds, a third when one has ended in time; the others sent nothing."""
    answers = await asyncio.gather(*(stage.ask(**how) for _ in range(30)))
    statuses = [answer.status for answer in answers]
    answered = statuses.count(200)
    assert 2 <= answered <= 3
    assert statuses.count(402) == 30 - answered
    assert len(stage.up.exchanges) == answered


async def test_a_refusal_that_holds_cause_says_so(stage: Stage) -> None:
    """The money is only held: a client may try again soon, and is told so."""
    answers = await asyncio.gather(*(stage.ask(key="tight") for _ in range(30)))
    held = [answer for answer in answers if answer.status == 402 and answer.headers.get("retry-after")]
    for answer in held:
        assert "held by requests under way" in answer.error["message"]
        assert "x-should-retry" not in answer.headers


# ---------------------------------------------------------------- somewhere else instead


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("key", "dear"), [("thrifty", 3), ("mixed", 3), ("soft", 4)])
async def test_a_spent_budget_sends_requests_to_the_cheap_model(
    stage: Stage, key: str, dear: int, *, is_stream: bool
) -> None:
    """The answer comes from there; header and books say so. A soft budget is spent once nothing is left of it."""
    answers = [await stage.ask(key=key, stream=is_stream) for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    cheap = 5 - dear
    assert [answer.headers.get("x-turnpike-spent") for answer in answers] == [*[None] * dear, *[f"key:{key}"] * cheap]
    assert [answer.headers["x-turnpike-route"] for answer in answers] == [*["m"] * dear, *["cheap"] * cheap]
    rows = await stage.gateway.settled_rows(5)
    assert [(row.route, row.provider) for row in rows] == [*[("m", "up")] * dear, *[("cheap", "spare")] * cheap]
    assert (len(stage.up.exchanges), len(stage.spare.exchanges)) == (dear, cheap)


async def test_a_soft_budget_without_a_way_out_refuses_nobody(stage: Stage) -> None:
    """It is there to be watched."""
    assert await stage.spend(key="watched") == [200] * 5
    assert len(stage.up.exchanges) == 5


async def test_the_operators_way_out_need_not_be_on_the_keys_list(stage: Stage) -> None:
    """The key may ask for `m` alone, and is sent to `cheap` all the same; asking for that itself stays forbidden."""
    assert await stage.spend(key="listed") == [200] * 5
    assert (await stage.ask("cheap", key="listed")).status == 403


async def test_a_wall_holds_on_the_cheap_model_too(stage: Stage) -> None:
    """What goes there counts too: the request is refused once neither model fits."""
    statuses = [(await stage.ask(key="mixed")).status for _ in range(8)]
    assert statuses == [*[200] * 5, *[402] * 3]
    assert sum(row.cost_nano_usd or 0 for row in await stage.gateway.rows()) == 3 * 607_000 + 2 * 127_000


async def test_a_providers_spent_budget_leads_to_the_next_target(stage: Stage) -> None:
    """Three answers from the one, then the other answers, and the client sees nothing of it."""
    answers = [await stage.ask("chain") for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    assert [answer.headers["x-turnpike-provider"] for answer in answers] == [*["metered"] * 3, *["spare"] * 3]
    assert (len(stage.up.exchanges), len(stage.spare.exchanges)) == (3, 3)


@pytest.mark.parametrize(("is_soft", "statuses"), [(False, [200, 200, 200, 402, 402]), (True, [200] * 5)])
async def test_a_model_that_is_gone_is_nowhere_to_go(stage: Stage, *, is_soft: bool, statuses: list[int]) -> None:
    """Nobody is told that a model they never asked for does not exist: a wall is a wall, and soft refuses nobody."""
    gone = {"limit": "$0.0024/day", "soft": is_soft, "when_spent": "gone"}
    made = await stage.make_key({"name": "made", "budget": gone})
    assert await stage.spend(key=made) == statuses
