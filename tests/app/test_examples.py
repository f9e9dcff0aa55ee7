"""Every example runs as it stands: with no key set and no network, each of its models answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.app import trials
from proxy.catalogue import load_catalogue
from proxy.files import config_folder, load_table
from proxy.simulated import transport
from proxy.simulated.scripts import NEVER_S
from tests.app.house import settle_in

EXAMPLES = sorted(path.name for path in (config_folder() / "examples").glob("*.yaml"))
BREAK_OFF = {"breaks-off", "errs-midway"}
"""Models that show how an answer fails, and what the fallback of others is for."""


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine makes a provider ready."""
    for name in ("OPENROUTER", "OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE", "GROQ", "DEEPSEEK", "XAI", "HOSTED"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    monkeypatch.delenv("HOSTED_KEY", raising=False)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated models speak at the speed of people; here nobody reads along."""
    waits_out = transport._waits_out  # noqa: SLF001 -- the one place where a simulated reply waits

    async def hurry(event: asyncio.Event, seconds: float) -> bool:
        return await waits_out(event, seconds if seconds == NEVER_S else 0.0)

    monkeypatch.setattr(transport, "_waits_out", hurry)


def read_example(name: str) -> str:
    """Give an example's text, with an address nobody serves where a local server may run."""
    return (config_folder() / "examples" / name).read_text().replace("127.0.0.1:11434", "127.0.0.1:9")


@pytest.mark.parametrize("name", EXAMPLES)
async def test_every_model_of_an_example_answers_offline(tmp_path: Path, name: str) -> None:
    """Behind a glob whatever is asked for, too; those that show a failure fail."""
    settings = settle_in(tmp_path, read_example(name))
    table = load_table(settings.config, environ={}, catalogue=load_catalogue())
    asked = [*table.routes, *(glob.name.replace("*", "some-model") for glob in table.globs)]
    for model in asked:
        found = await trials.test_model(settings, model)
        assert found["ok"] is (model not in BREAK_OFF), (model, found)


async def test_the_last_resort_answers_for_a_broken_chain(tmp_path: Path) -> None:
    """It is a target like any other, and free."""
    settings = settle_in(tmp_path, read_example("last-resort.yaml"))
    found = await trials.test_model(settings, "chat")
    assert (found["target"], found["attempts"]) == ("static/static", 2)
    assert found["cost_source"] == "computed"
    alone = await trials.test_model(settings, "closed")
    assert (alone["target"], float(alone["cost_usd"]), alone["attempts"]) == ("static/static", 0, 1)


def test_added_backups_are_told_in_an_explanation(tmp_path: Path) -> None:
    """Each behind its target, recognisable; behind a glob as well, once the name is known."""
    settings = settle_in(tmp_path, read_example("direct-backup.yaml"))
    keys = {f"{name}_API_KEY": "k" for name in ("OPENROUTER", "OPENAI", "ANTHROPIC", "TOGETHER")}

    def chain(model: str) -> list[str]:
        return [one["target"] for one in trials.explain(settings, model, keys)["candidates"]]

    assert chain("chat") == [
        "openrouter/openai/gpt-4o",
        "openai/gpt-4o",
        "openrouter/anthropic/claude-sonnet-4.5",
        "anthropic/claude-sonnet-4-5",
        "sim/chat",
    ]
    assert chain("open") == ["openrouter/openai/gpt-oss-120b", "together/openai/gpt-oss-120b", "sim/open"]
    assert chain("no-backup") == ["openrouter/openai/gpt-4o-mini", "sim/no-backup"]
    assert chain("openai/o3") == ["openrouter/openai/o3", "openai/o3", "sim/openai/o3"]
    reasons = [one["reason"] for one in trials.explain(settings, "chat", keys)["candidates"]]
    assert reasons[1] == "direct backup, tried when openrouter/openai/gpt-4o fails"
