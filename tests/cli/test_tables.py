"""`check` and `models`: what a routing table says, and whether it may."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_a_good_table_is_called_good(shell: Shell) -> None:
    """0, with what is not ready; the file may be named or not."""
    result = shell.run("check", str(shell.routes))
    assert result.code == 0
    assert result.out.startswith(f"{shell.routes}: good: 2 models, 0 keys, id ")
    assert "OPENAI_API_KEY is not set" in result.out
    assert shell.run("check").code == 0
    assert shell.run("check", "--config", str(shell.routes)).code == 0


def test_a_bad_table_is_1_with_all_that_is_wrong(shell: Shell) -> None:
    """On stdout, because that is what was asked for."""
    shell.routes.write_text("models:\n  chat: nobody/x\n  other: {targts: []}\n")
    result = shell.run("check", str(shell.routes))
    assert (result.code, result.err) == (1, "")
    lines = result.out.splitlines()
    assert {line.split(":")[1] for line in lines} == {"2", "3"}


def test_a_table_that_is_not_there_is_bad(shell: Shell) -> None:
    """It is named; no traceback."""
    result = shell.run("check", "missing.yaml")
    assert result.code == 1
    assert "missing.yaml:1:1: the file does not exist" in result.out


def test_a_check_can_be_read_by_a_program(shell: Shell) -> None:
    """Good and bad have the same fields."""
    good = shell.run("check", "--json")
    assert (good.code, good.json["ok"], good.json["models"]) == (0, True, ["chat", "backed"])
    shell.routes.write_text("models: {chat: nobody/x}\n")
    bad = shell.run("check", "--json")
    assert (bad.code, bad.json["ok"]) == (1, False)
    (problem,) = bad.json["problems"]
    assert (problem["line"], problem["path"]) == (1, "models.chat")


def test_models_are_listed_with_their_targets(shell: Shell) -> None:
    """Which are ready, and why the others are not."""
    result = shell.here("models")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split()[0] == "MODEL"
    assert lines[1].split() == ["chat", "sim/echo", "-", "1", "2", "yes"]
    assert lines[2].endswith("no: OPENAI_API_KEY is not set")


def test_models_can_be_read_by_a_program(shell: Shell) -> None:
    """With price and context where they are known."""
    chat, backed = shell.here("models", "--json").json["models"]
    assert chat["ready"] is True
    assert chat["targets"][0]["price"]["output"] == "2"
    first, second = backed["targets"]
    assert (backed["ready"], first["ready"], second["ready"]) == (True, False, True)
    assert first["reason"] == "OPENAI_API_KEY is not set"


def test_a_model_without_a_price_shows_none(shell: Shell) -> None:
    """Unknown is never 0."""
    shell.routes.write_text("providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n")
    assert shell.here("models").out.splitlines()[1].split() == ["chat", "sim/echo", "-", "-", "-", "yes"]
    assert shell.here("models", "--json").json["models"][0]["targets"][0]["price"] is None


def test_without_a_routing_table_the_built_in_one_is_told_of(shell: Shell) -> None:
    """Everything is simulated until a provider's key is set."""
    shell.routes.unlink()
    result = shell.run("check")
    assert result.code == 0
    assert "every answer is simulated" in result.out
