"""The first start: one key, shown once, with two ways to use it that work when pasted."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from proxy.app.newcomers import PASSED_THROUGH, introduce, mint_first_key, suggest_model
from proxy.app.parts import OPERATOR_KEY, Gateway
from proxy.files import load_table
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.routing.table import Catalogue, Table
from tests.app.house import opened

KEYLESS = "providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n"
ADDRESS = "http://127.0.0.1:4000"
CURL = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"


async def key_names(gateway: Gateway) -> dict[str, bool]:
    """Tell which keys there are, and whether they are enabled."""
    return {key.name: key.is_enabled for key in await gateway.ledger.list_keys()}


async def test_a_first_start_mints_one_key(tmp_path: Path) -> None:
    """A second start finds it and mints none; the books know only its digest."""
    async with opened(tmp_path, KEYLESS) as gateway:
        key = await mint_first_key(gateway)
        assert key is not None
        assert key.startswith("sk-tp-")
        record = await gateway.ledger.find_key(digest_key(gateway.pepper, key))
        assert record is not None
        assert (record.name, record.is_declared) == ("first", False)
    async with opened(tmp_path, KEYLESS) as gateway:
        assert await mint_first_key(gateway) is None
        assert await key_names(gateway) == {"first": True}


async def test_who_has_a_key_needs_none(tmp_path: Path) -> None:
    """A declared one counts."""
    async with opened(tmp_path) as gateway:
        assert await mint_first_key(gateway) is None


async def test_the_operators_trials_have_no_key_to_hand_out(tmp_path: Path) -> None:
    """Nobody can sign in with theirs."""
    async with opened(tmp_path, KEYLESS) as gateway:
        await gateway.ledger.create_key(KeyRecord(OPERATOR_KEY, digest="d"))
        assert await mint_first_key(gateway) is not None


async def test_when_all_keys_are_revoked_a_start_mints_another(tmp_path: Path) -> None:
    """Under a name that nobody has, or the house would stay locked."""
    async with opened(tmp_path, KEYLESS) as gateway:
        for name in ("first", "first-3"):
            await gateway.ledger.create_key(KeyRecord(name, digest=name))
            await gateway.ledger.revoke_key(name)
        assert await mint_first_key(gateway) is not None
        assert await key_names(gateway) == {"first": False, "first-2": True, "first-3": False}


async def test_of_two_starts_at_once_one_mints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has nothing to show."""
    async with opened(tmp_path, KEYLESS) as gateway:
        listed = gateway.ledger.list_keys

        async def list_late() -> Any:
            keys = await listed()
            await gateway.ledger.create_key(KeyRecord("first", digest="of the other"))
            return keys

        monkeypatch.setattr(gateway.ledger, "list_keys", list_late)
        assert await mint_first_key(gateway) is None


def a_table(text: str, folder: Path, **environ: str) -> Table:
    """Load a routing table."""
    file = folder / "routes.yaml"
    file.write_text(text)
    return load_table(file, environ=environ, catalogue=Catalogue())


AWKWARD = 'it\'s-"$HOME"'


@pytest.mark.parametrize("model", ["chat", AWKWARD])
def test_the_curl_line_can_be_pasted(tmp_path: Path, model: str) -> None:
    """A shell makes of it the request it shows, whatever the model is called."""
    table = a_table(
        f"providers: {{sim: {{dialect: simulated}}}}\nmodels: {{{json.dumps(model)}: sim/echo}}\n", tmp_path
    )
    text = introduce("sk-tp-abc", ADDRESS, table)
    lines = text[text.index("  curl") : text.index("  from openai")]
    curl = tmp_path / "curl"
    curl.write_text(CURL)
    curl.chmod(0o755)
    ran = subprocess.run(
        ["/bin/sh", "-c", lines], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    url, *flags = json.loads(ran.stdout)
    assert url == f"{ADDRESS}/v1/chat/completions"
    assert flags[:4] == ["-H", "Authorization: Bearer sk-tp-abc", "-H", "Content-Type: application/json"]
    assert flags[4] == "-d"
    assert json.loads(flags[5]) == {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.mark.parametrize("model", ["chat", AWKWARD])
def test_the_python_lines_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """They run with OpenAI's SDK."""
    asked: dict[str, Any] = {}

    class Client:
        def __init__(self, **settings: str) -> None:
            asked.update(settings)
            self.chat = types.SimpleNamespace(completions=self)

        def create(self, **fields: Any) -> Any:
            asked.update(fields)
            message = types.SimpleNamespace(content="Hello to you!")
            return types.SimpleNamespace(choices=[types.SimpleNamespace(message=message)])

    monkeypatch.setitem(sys.modules, "openai", types.SimpleNamespace(OpenAI=Client))
    table = a_table(
        f"providers: {{sim: {{dialect: simulated}}}}\nmodels: {{{json.dumps(model)}: sim/echo}}\n", tmp_path
    )
    text = introduce("sk-tp-abc", ADDRESS, table)
    lines = [line.removeprefix("  ") for line in text[text.index("  from openai") :].splitlines()]
    exec("\n".join(lines), {"print": lambda said: asked.update(said=said)})  # noqa: S102
    assert asked == {
        "base_url": f"{ADDRESS}/v1",
        "api_key": "sk-tp-abc",
        "model": model,
        "messages": [{"role": "user", "content": "Hello!"}],
        "said": "Hello to you!",
    }


def test_the_key_is_said_to_be_shown_once() -> None:
    """It stands in the two snippets and in the sentence above them."""
    text = introduce("sk-tp-abc", ADDRESS, Table(id="t", providers={}, routes={}))
    assert text.startswith("No client key yet, so here is one. It is shown only this once: sk-tp-abc\n")
    assert text.count("sk-tp-abc") == 3


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("providers: {sim: {dialect: simulated}}\nmodels: {a: openai/gpt-4o, b: [openai/x, sim/echo]}\n", "b"),
        ("providers: {sim: {dialect: simulated}}\nmodels: {a: sim/e, b: sim/e}\ndefaults: {default_model: b}\n", "b"),
        ('models: {"*": openrouter/*}\n', PASSED_THROUGH),
        ("models: {a: openai/gpt-4o}\n", PASSED_THROUGH),
    ],
    ids=["ready", "default", "glob", "none ready"],
)
def test_the_model_suggested_is_one_that_answers(tmp_path: Path, text: str, model: str) -> None:
    """The default one, else the first that is ready; a `*` alone leads to OpenRouter."""
    assert suggest_model(a_table(text, tmp_path)) == model
