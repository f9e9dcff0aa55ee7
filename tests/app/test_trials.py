"""One request, thought through or made, for the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.app import open_gateway, trials
from proxy.app.parts import OPERATOR_KEY
from proxy.errors import NotFound
from tests.app.house import opened, settle_in

CEILING = """
providers:
  sim: {dialect: simulated, price: {input: $1/M, output: $2/M}}
models:
  capped: {targets: [sim/echo], max_cost: $0.001}
  both: [openai/gpt-4o, sim/echo]
"""


def test_an_explanation_calls_nobody(tmp_path: Path) -> None:
    """Targets in order with what they cost at most, those left out with the reason; no data folder is made."""
    found = trials.explain(settle_in(tmp_path, CEILING), "both", {})
    assert [(one["target"], one["included"]) for one in found["candidates"]] == [
        ("sim/echo", True),
        ("openai/gpt-4o", False),
    ]
    assert found["candidates"][1]["reason"] == "OPENAI_API_KEY is not set"
    assert found["worst_case_usd"] == found["candidates"][0]["worst_case_usd"]
    assert not (tmp_path / "data").exists()


def test_an_explanation_heeds_the_models_ceiling(tmp_path: Path) -> None:
    """What would be clamped is clamped here too."""
    found = trials.explain(settle_in(tmp_path, CEILING), "capped", {})
    assert float(found["worst_case_usd"]) <= 0.001


def test_an_explanation_takes_the_machines_variables_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the server would."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-machine")
    settings = settle_in(tmp_path, CEILING)
    assert trials.explain(settings, "both")["candidates"][0]["target"] == "openai/gpt-4o"
    assert trials.explain(settings, "both", {})["candidates"][0]["target"] == "sim/echo"


def test_a_model_nobody_has_is_not_explained(tmp_path: Path) -> None:
    """The near names are told."""
    with pytest.raises(NotFound) as caught:
        trials.explain(settle_in(tmp_path), "chatt", {})
    assert "chat" in caught.value.metadata["near"]


async def test_a_trial_goes_through_the_real_chain(tmp_path: Path) -> None:
    """A target that fails is followed by one that answers, and both are booked under the operator's key."""
    found = await trials.test_model(settle_in(tmp_path), "pair")
    assert found["ok"] is True
    assert (found["model"], found["target"], found["attempts"]) == ("pair", "sim/echo", 2)
    assert float(found["cost_usd"]) > 0
    assert found["cost_source"] == "computed"
    async with opened(tmp_path) as gateway:
        rows = await gateway.ledger.find_request(found["request_id"])
    assert [(row.key, row.app, row.provider) for row in rows] == [
        (OPERATOR_KEY, "turnpike test", "down"),
        (OPERATOR_KEY, "turnpike test", "sim"),
    ]


async def test_a_trial_of_a_chain_that_fails_tells_all_attempts(tmp_path: Path) -> None:
    """With the words a client would be told."""
    found = await trials.test_model(settle_in(tmp_path), "gone")
    assert (found["ok"], found["code"]) == (False, "upstream_error")
    assert found["error"].startswith("No target could answer")
    assert [attempt["provider"] for attempt in found["attempts"]] == ["down"]
    assert found["latency_ms"] >= 0
    assert found["request_id"].startswith("req_")


async def test_a_trial_of_a_model_nobody_has_is_refused(tmp_path: Path) -> None:
    """Nothing was tried."""
    found = await trials.test_model(settle_in(tmp_path), "chatt")
    assert (found["ok"], found["code"], found["attempts"]) == (False, "model_not_found", [])


async def test_trials_share_one_key_that_nobody_holds(tmp_path: Path) -> None:
    """Made by the first one, with a digest that is no key's."""
    settings = settle_in(tmp_path)
    for _ in range(2):
        assert (await trials.test_model(settings, "chat"))["ok"]
    async with open_gateway(settings, {}) as gateway:
        assert [key.name for key in await gateway.ledger.list_keys()] == [OPERATOR_KEY]
