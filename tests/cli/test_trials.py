"""`explain` and `test`: a request thought through, and one that is made."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_explain_tells_what_would_happen(shell: Shell) -> None:
    """Targets in order, those left out with the reason, and the worst case in money."""
    result = shell.here("explain", "backed")
    assert result.code == 0
    assert "sim/echo" in result.out
    assert "OPENAI_API_KEY is not set" in result.out
    assert "worst case of a request: $0." in result.out
    assert not shell.data.exists()


def test_explain_can_be_read_by_a_program(shell: Shell) -> None:
    """Which targets, why, what at most."""
    found = shell.here("explain", "backed", "--json").json
    targets = {candidate["target"]: candidate["included"] for candidate in found["candidates"]}
    assert targets == {"sim/echo": True, "openai/gpt-4o": False}
    assert float(found["worst_case_usd"]) > 0


def test_an_unknown_price_is_said_to_be_unknown(shell: Shell) -> None:
    """Never 0."""
    shell.routes.write_text("providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n")
    assert "worst case of a request: unknown" in shell.here("explain", "chat").out
    assert shell.here("explain", "chat", "--json").json["worst_case_usd"] is None


def test_an_unknown_model_is_1_with_the_near_names(shell: Shell) -> None:
    """On stderr."""
    result = shell.here("explain", "chatt")
    assert (result.code, result.out) == (1, "")
    assert "'chat'" in result.err


def test_a_model_that_answers_is_0_and_booked(shell: Shell) -> None:
    """Like any other request, under the operator's own key."""
    result = shell.here("test", "chat")
    assert result.code == 0, result.err
    assert result.out.startswith("chat: answered by sim/echo in ")
    found = shell.here("test", "chat", "--json").json
    assert (found["ok"], found["target"]) == (True, "sim/echo")
    assert shell.here("usage", "--json").json["total"]["requests"] == 2


def test_an_answer_without_a_price_is_not_called_free(shell: Shell) -> None:
    """Its cost is unknown."""
    shell.routes.write_text("providers: {sim: {dialect: simulated}}\nmodels: {chat: sim/echo}\n")
    assert shell.here("test", "chat").out.rstrip().endswith("for an unknown cost")


def test_a_model_that_does_not_answer_is_1(shell: Shell) -> None:
    """With the reason, in both forms."""
    shell.routes.write_text(
        "providers: {sim: {dialect: simulated, fail: refuse}}\n"
        "models: {chat: sim/echo}\n"
        "defaults: {retry: {attempts: 1}}\n"
    )
    result = shell.here("test", "chat")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("chat: ")
    result = shell.here("test", "chat", "--json")
    assert (result.code, result.json["ok"]) == (1, False)
