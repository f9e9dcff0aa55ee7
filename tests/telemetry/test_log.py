"""What leaves by the log: one line per request, no secret, nothing a client could forge, and never an exception."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry import FinishedRequest, Telemetry
from proxy.telemetry import log as telemetry
from proxy.usage import CostSource

RECORD = FinishedRequest(
    request_id="req_1",
    key="mobile",
    tenant="acme",
    route="chat",
    provider="sim",
    model="echo",
    status=200,
    attempts=1,
    input_tokens=12,
    output_tokens=34,
    cost_nano_usd=1_234_567,
    cost_source=CostSource.COMPUTED,
    latency_ms=120,
    first_token_ms=40,
    error=None,
)


class Log:
    """A log whose lines can be read back."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.BytesIO()
        self.telemetry = Telemetry(stream=self.stream, **options)

    def text(self) -> str:
        self.telemetry.close()
        return self.stream.getvalue().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text().splitlines()]


def test_a_finished_request_is_one_line_with_its_cost() -> None:
    """Money is a decimal string, as in all JSON of ours."""
    log = Log()
    log.telemetry.request_finished(RECORD)
    (line,) = log.lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request_finished",
        "request_id": "req_1",
        "key": "mobile",
        "tenant": "acme",
        "route": "chat",
        "provider": "sim",
        "model": "echo",
        "status": 200,
        "attempts": 1,
        "input_tokens": 12,
        "output_tokens": 34,
        "cost_usd": "0.001234567",
        "cost_source": "computed",
        "latency_ms": 120,
        "first_token_ms": 40,
        "error": None,
    }


def test_what_became_of_a_left_request_is_a_line_of_its_own() -> None:
    """Read to its end for nobody; and what cost more than was held says so."""
    log = Log()
    log.telemetry.request_drained(RECORD._replace(error="client_left", is_overrun=True))
    (line,) = log.lines()
    assert (line["event"], line["level"], line["overrun"]) == ("request_drained", "warning", True)
    assert (line["cost_usd"], line["error"]) == ("0.001234567", "client_left")


def test_an_unknown_cost_is_null_and_a_failure_is_a_warning() -> None:
    """Unknown is never 0."""
    log = Log()
    log.telemetry.request_finished(RECORD._replace(cost_nano_usd=None, cost_source=None, error="timeout", status=504))
    (line,) = log.lines()
    assert (line["cost_usd"], line["cost_source"], line["level"], line["error"]) == (None, None, "warning", "timeout")


def test_the_level_decides_what_is_written() -> None:
    """Below it nothing is even rendered; an unknown level is `info`."""
    log = Log(level="WARNING")
    log.telemetry.request_finished(RECORD)
    log.telemetry.request_refused("r", 401, "invalid_api_key")
    log.telemetry.warn("seen")
    assert [line["event"] for line in log.lines()] == ["seen"]
    log = Log(level="nonsense")
    log.telemetry.info("seen", number=1)
    assert log.lines()[0]["number"] == 1


def test_a_refused_request_is_one_line() -> None:
    """With the code the client was told."""
    log = Log()
    log.telemetry.request_refused("r", 401, "invalid_api_key")
    (line,) = log.lines()
    assert (line["event"], line["request_id"], line["status"], line["code"]) == (
        "request_refused",
        "r",
        401,
        "invalid_api_key",
    )


def test_a_failure_has_its_stack() -> None:
    """As text in one field of one line."""
    log = Log()
    with pytest.raises(ValueError, match="base 10") as caught:
        int("odd")
    log.telemetry.fail("broken", caught.value, where="here")
    log.telemetry.fail("plain")
    first, second = log.lines()
    assert first["level"] == "error"
    assert first["trace"].startswith("Traceback")
    assert first["trace"].endswith("base 10: 'odd'\n")
    assert "trace" not in second


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("name", ["authorization", "X-Api-Key", "api_key", "Set-Cookie", "password", "client_key"])
def test_a_field_that_names_a_secret_is_masked(name: str) -> None:
    """At the top and inside mappings."""
    log = Log()
    log.telemetry.info("seen", **{name: "visible-value"}, nested={"deep": {name: ["visible-value"]}})
    log.telemetry.info("seen", **{name: None})
    text = log.text()
    assert "visible-value" not in text
    assert text.count("***") == 2


def test_a_registered_secret_is_masked_wherever_it_stands() -> None:
    """In any field, inside other text, in a stack, and with characters JSON must escape."""
    log = Log()
    secrets = ["correct-horse", 'quote"and\\slash', "grüße-geheim"]
    for secret in secrets:
        log.telemetry.register_secret(secret)
        log.telemetry.register_secret(secret)
        log.telemetry.info(f"saw {secret}", a=f"x{secret}x", b={"k": [secret], secret: 1})
        log.telemetry.fail("broken", ValueError(secret))
        log.telemetry.request_finished(RECORD._replace(route=secret, error=secret))
    text = log.text()
    for secret in secrets:
        assert secret not in text
        assert orjson.dumps(secret)[1:-1].decode() not in text


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdefghijklmnop",
        "key=sk-or-v1-0123456789abcdef",
        "Authorization: Bearer abc.def-ghi",
        "bearer  opaque-token",
        "AIzaSyA0123456789abcdefgh",
        "gsk_0123456789abcdef",
        "xai-0123456789abcdef",
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str) -> None:
    """Even when nobody registered it."""
    log = Log()
    log.telemetry.info("seen", message=text)
    shown = log.lines()[0]["message"]
    assert "***" in shown
    assert text.rpartition(" ")[2].rpartition("=")[2] not in shown


@pytest.mark.parametrize("text", ["task-model-abcdefghijkl", "deepseek/deepseek-chat-v3.1", "bearer", "sk-short"])
def test_ordinary_words_are_left_alone(text: str) -> None:
    """A model's name is not a key."""
    log = Log()
    log.telemetry.info("seen", message=text)
    assert log.lines()[0]["message"] == text


def test_a_word_is_not_taken_for_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values below the length and beyond the number of secrets are not remembered."""
    monkeypatch.setattr(telemetry, "SECRETS_MAX", 2)
    log = Log()
    for value in ("chat", "first-secret", "second-secret", "third-secret"):
        log.telemetry.register_secret(value)
    log.telemetry.info("seen", message="chat first-secret second-secret third-secret")
    assert log.lines()[0]["message"] == "chat first-secret *** ***"


def test_a_secret_on_the_edge_of_a_cut_is_masked_first() -> None:
    """Half a secret would not be recognised."""
    log = Log()
    log.telemetry.register_secret("correct-horse-battery")
    log.telemetry.info("seen", message="x" * (telemetry.VALUE_CHARS_MAX - 8) + "correct-horse-battery")
    text = log.text()
    assert "correct" not in text


# ---------------------------------------------------------------- form


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_value_can_forge_a_line_or_move_a_cursor(log_format: str) -> None:
    """S26: newline, ANSI, bidi, C1 and lone surrogates are spelled out; one line per event."""
    log = Log(log_format=log_format)
    nasty = "a\n\x1b[31mb\u202ec\x85d\ud800e\r\x00f\u2028g\x7fh"
    log.telemetry.request_finished(RECORD._replace(route=nasty))
    log.telemetry.info("seen", message=nasty, nested=[nasty, {nasty: nasty}])
    text = log.text()
    assert text.count("\n") == 2
    assert text.replace("\n", "").isprintable()


def test_values_are_bounded() -> None:
    """In length, number and depth; what is no JSON is named by its type."""
    log = Log()
    deep: list[Any] = []
    for _ in range(10):
        deep = [deep]
    log.telemetry.info("seen", long="x" * 5000, many=list(range(5000)), deep=deep, odd=object(), raw=b"bytes")
    line = log.lines()[0]
    assert len(line["long"]) == telemetry.VALUE_CHARS_MAX
    assert len(line["many"]) == telemetry.ITEMS_MAX
    assert line["deep"] == [[[["<list>"]]]]
    assert (line["odd"], line["raw"]) == ("<object>", "<bytes>")


def test_a_number_beyond_json_is_no_exception() -> None:
    """The line says that there was one."""
    log = Log()
    log.telemetry.info("seen", number=2**80)
    assert log.lines()[0]["event"] == "unloggable"


def test_the_console_is_for_reading() -> None:
    """Time, level, event, then fields without the empty ones; a stack on lines of its own."""
    log = Log(log_format="console")
    log.telemetry.info("seen", a="two words", b=1, c=None, d="", e=True)
    log.telemetry.fail("broken", ValueError("x"))
    first, second, stack = log.text().splitlines()
    assert first[9:] == 'info     seen a="two words" b=1 d="" e=true'
    assert second[9:] == "error    broken"
    assert stack == "    ValueError: x"


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.text(max_size=9) | st.integers() | st.floats() | st.binary(max_size=9),
            st.lists,
            max_leaves=9,
        ),
        max_size=4,
    )
)
def test_nothing_that_is_logged_raises(fields: dict[str, Any]) -> None:
    """Whatever the fields hold."""
    log = Log(lines_max=10)
    log.telemetry.info("seen", nested=fields)
    assert log.text().count("\n") == 1


# ---------------------------------------------------------------- libraries


def test_what_libraries_log_is_masked_too() -> None:
    """Warnings and worse become lines of ours, a cancelled request is no fault."""
    log = Log()
    log.telemetry.register_secret("correct-horse")
    log.telemetry.capture_logging()
    logger = logging.getLogger("somewhere")
    logger.info("unseen")
    logger.warning("about %s", "correct-horse")
    logger.error("broken", exc_info=ValueError("correct-horse"))
    logger.error("broken", exc_info=asyncio.CancelledError())
    (bridge,) = (handler for handler in logging.getLogger().handlers if type(handler).__module__ == telemetry.__name__)
    bridge.emit(logging.LogRecord("somewhere", logging.WARNING, "f", 1, "%d", ("no number",), None))
    lines = log.lines()
    assert [(line["level"], line["message"]) for line in lines] == [
        ("warning", "about ***"),
        ("error", "broken"),
        ("warning", "%d"),
    ]
    assert lines[1]["trace"] == "ValueError: ***\n"
    logger.error("after the end")
    assert "after" not in log.stream.getvalue().decode()


# ---------------------------------------------------------------- the pipe


class StuckStream(io.BytesIO):
    """A pipe nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.written = b""

    def write(self, data: Any) -> int:
        self.released.wait(5)
        self.written += bytes(data)
        return len(data)


def test_a_stuck_reader_stops_the_log_and_not_the_caller() -> None:
    """R66: lines beyond the limit are dropped and counted."""
    stream = StuckStream()
    log = Telemetry(stream=stream, lines_max=5)
    for number in range(50):
        log.info("seen", number=number)
    stream.released.set()
    log.close()
    events = [orjson.loads(line)["event"] for line in stream.written.splitlines()]
    assert 5 <= events.count("seen") <= 10
    dropped = sum(orjson.loads(line).get("lines", 0) for line in stream.written.splitlines())
    assert dropped + events.count("seen") == 50


class FullDisk(io.BytesIO):
    """A stream that cannot be written."""

    def write(self, _data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_no_exception() -> None:
    """Neither while writing nor at the end; closing twice is harmless, and so is logging after it."""
    log = Telemetry(stream=FullDisk())
    log.info("seen")
    log.close()
    log.close()
    log.info("too late")


class Pieces(io.BytesIO):
    """A stream that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, data: Any) -> int:
        self.sizes.append(len(data))
        return super().write(data)


def test_workers_that_share_a_pipe_do_not_break_each_other_s_lines() -> None:
    """What is written at once fits into a pipe and ends with a line; a longer line goes by itself."""
    stream = Pieces()
    log = Telemetry(stream=stream)
    for number in range(100):
        log.info("seen", number=number, text="x" * 300)
    log.fail("broken", trace="x" * 6_000)
    log.close()
    lines = stream.getvalue().splitlines(keepends=True)
    assert [orjson.loads(line).get("number") for line in lines] == [*range(100), None]
    borders = set(itertools.accumulate(map(len, lines)))
    assert set(itertools.accumulate(stream.sizes)) <= borders
    assert len([size for size in stream.sizes if size > telemetry.PIPE_BYTES]) == 1


@pytest.mark.parametrize(("level", "least", "is_written"), [("error", "info", True), ("info", "WARNING", False)])
def test_a_line_can_be_written_without_a_thread(
    capfd: pytest.CaptureFixture[str], level: str, least: str, is_written: bool
) -> None:
    """By a process that forks; the level decides as ever."""
    before = threading.active_count()
    telemetry.write_line("worker_died", log_format="json", level=level, least=least, cause="a\nb")
    assert threading.active_count() == before
    written = capfd.readouterr().err
    assert bool(written) == is_written
    assert not is_written or orjson.loads(written)["cause"] == "a\nb"


def test_a_process_that_forks_does_not_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe costs the line, not the server."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading):
        monkeypatch.setattr(sys, "stderr", stream)
        telemetry.write_line("worker_died", log_format="console", level="error", least="info")


def test_logging_does_not_load_rich() -> None:
    """It would cost every start 0.15 s and 7 MB; a later import of it works."""
    code = (
        "import sys, proxy.telemetry\n"
        "assert not any(name.split('.')[0] == 'rich' for name in sys.modules)\n"
        "import rich.table\n"
        "import importlib; importlib.reload(proxy.telemetry)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
