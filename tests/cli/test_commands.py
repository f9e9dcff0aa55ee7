"""The command line as a whole: flags and variables, exit codes, no traceback, and what it loads."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.__main__ import main
from proxy.cli import output, tables
from proxy.cli.output import Column, print_table
from tests.cli.conftest import Shell

COMMANDS = ["serve", "check", "models", "explain", "test", "keys", "usage", "export"]


def test_help_lists_every_command(shell: Shell) -> None:
    """Exit 0."""
    result = shell.run("--help")
    assert result.code == 0
    for name in COMMANDS:
        assert f"\n  {name}" in result.out
        assert shell.run(name, "--help").code == 0


def test_the_script_exits_with_the_commands_code(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m proxy` does."""
    monkeypatch.setattr(sys, "argv", ["turnpike", "check", "missing.yaml"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1


def test_the_version_is_told(shell: Shell) -> None:
    """On stdout."""
    result = shell.run("--version")
    assert (result.code, result.out) == (0, "turnpike 0.1.0\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--prot", "1"],
        ["serve", "--port", "many"],
        ["serve", "--port", "70000"],
        ["serve", "--workers", "0"],
        ["serve", "--workers", "65"],
        ["serve", "--log-format", "xml"],
        ["explain"],
        ["keys", "create"],
        ["export", "--format", "xml"],
    ],
)
def test_wrong_use_is_2(shell: Shell, arguments: list[str]) -> None:
    """With a line that says what is wrong, on stderr."""
    result = shell.run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error" in result.err


def test_a_flag_beats_its_variable(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the variable the default."""
    (shell.folder / "other.yaml").write_text("models: {other: sim/x}\nproviders: {sim: {dialect: simulated}}\n")
    monkeypatch.setenv("TURNPIKE_CONFIG", str(shell.folder / "other.yaml"))
    assert shell.run("models", "--json").json["models"][0]["model"] == "other"
    assert shell.run("models", "--json", "--config", str(shell.routes)).json["models"][0]["model"] == "chat"
    monkeypatch.delenv("TURNPIKE_CONFIG")
    assert shell.run("models", "--json").json["models"][0]["model"] == "chat"


def test_a_relative_data_folder_stands_beside_the_routes_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is run from."""
    elsewhere = shell.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert shell.run("keys", "create", "a", "--config", "../routes.yaml").code == 0
    assert (shell.folder / "data" / "ledger.db").exists()
    assert shell.run("keys", "create", "b", "--config", "../routes.yaml", "--data", "books").code == 0
    assert (shell.folder / "books" / "ledger.db").exists()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("command", [["models"], ["explain", "chat"], ["serve", "--port", "0"], ["test", "chat"]])
def test_a_bad_routing_table_is_2_with_all_that_is_wrong(shell: Shell, command: list[str]) -> None:
    """FILE:LINE:COLUMN of every finding."""
    shell.routes.write_text("models:\n  chat: nobody/x\n  other: {targts: []}\n")
    result = shell.here(*command)
    assert result.code == 2
    assert result.out == ""
    assert f"{shell.routes}:2:" in result.err
    assert f"{shell.routes}:3:" in result.err


@pytest.mark.parametrize(
    "command", [["keys", "create", "a"], ["keys", "list"], ["usage"], ["export"], ["serve", "--port", "0"]]
)
def test_a_ledger_that_cannot_be_reached_is_3(shell: Shell, command: list[str]) -> None:
    """Here the data folder is a file."""
    shell.data.write_text("no folder")
    result = shell.here(*command)
    assert (result.code, result.out) == (3, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "revoke", "a"], ["usage"], ["export"]])
def test_asking_books_that_do_not_exist_begins_none(shell: Shell, command: list[str]) -> None:
    """3, with what to do, and nothing made."""
    result = shell.here(*command)
    assert result.code == 3
    assert "keys create" in result.err
    assert not shell.data.exists()


def test_an_unexpected_error_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its type, without what it says; the stack only for those who ask for it."""

    def fail(_path: Path | None) -> None:
        raise ExceptionGroup("several", [ZeroDivisionError("secret detail")])

    monkeypatch.setattr(tables, "read_table", fail)
    result = shell.run("models")
    assert result.code == 1
    assert result.err == "unexpected error: ZeroDivisionError; set TURNPIKE_DEBUG=1 to see where it comes from\n"
    monkeypatch.setenv("TURNPIKE_DEBUG", "1")
    assert run_quietly("models") == 1


def run_quietly(*arguments: str) -> int:
    """Run a command whose stack is wanted."""
    from proxy.cli.main import run

    return run(arguments)


def test_an_interrupt_is_no_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """130, as shells expect it, and nothing said."""

    def interrupt(_path: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "read_table", interrupt)
    result = shell.run("models")
    assert (result.code, result.out, result.err) == (130, "", "")


# ---------------------------------------------------------------- tables


class Terminal(io.StringIO):
    """A stdout somebody is looking at."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table_and_a_pipe_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligned in both; nothing in a name can move the cursor or be taken for markup."""
    columns, rows = [Column("NAME"), Column("N", is_number=True)], [["a[bold]\x1b[31m", "1"], ["b", "200"]]
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stdout", piped)
    print_table(columns, rows)
    assert piped.getvalue().splitlines()[0].startswith("NAME")
    assert piped.getvalue().splitlines()[2].endswith("  200")
    assert "\x1b" not in piped.getvalue()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_table(columns, rows)
    assert "a[bold]\\u001b[31m" in terminal.getvalue()
    assert "\x1b[31m" not in terminal.getvalue()


def test_what_is_complained_about_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    """Names come from files and from clients."""
    output.complain("a\nb", "c\x1b[0m")
    assert capsys.readouterr().err == "a\\u000ab\nc\\u001b[0m\n"


# ---------------------------------------------------------------- what is loaded


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ("['--help']", "pydantic rich httptools uvicorn starlette structlog yaml asyncio"),
        ("['check']", "rich httptools uvicorn starlette structlog"),
        ("['serve', '--workers', '0']", "rich httptools uvicorn starlette structlog"),
    ],
)
def test_a_command_loads_only_what_it_needs(shell: Shell, arguments: str, absent: str) -> None:
    """A start is not paid for by what another command uses."""
    code = (
        "import sys\nfrom proxy.cli.main import run\n"
        f"run({arguments})\n"
        f"loaded = [name for name in {absent.split()} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=shell.folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
