"""The log (part of `telemetry`, floor 2): one line per finished request, and a few about the gateway itself.

Lines go to stderr, because stdout holds the ready line. Three things are promised: no secret leaves (masked by the
field's name, by its value, by its shape), nothing a client sent can forge or break a line, and no request ever waits
for a log or fails by one. So lines are handed to a thread that writes them, and dropped and counted when it is stuck.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import IO, Any, NamedTuple

import orjson

from proxy.money import format_usd
from proxy.usage import CostSource


@contextmanager
def _without_rich() -> Iterator[None]:
    """Keep structlog from loading rich, whose tracebacks we never print: 0.15 s and 7 MB of every start."""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # makes `import rich` an ImportError, which structlog expects
    try:
        yield
    finally:
        del sys.modules["rich"]


with _without_rich():
    import structlog

VALUE_CHARS_MAX = 1_000
"""A longer value is cut; a stack trace may be ten times as long."""
VALUE_DEPTH_MAX = 4
ITEMS_MAX = 100
"""Items of one list or mapping that are shown."""
LINES_MAX = 10_000
"""Lines that wait for the writer; more are dropped and counted."""
FLUSH_S = 0.05
"""How long lines are gathered before they are written together."""
PIPE_BYTES = 4_096
"""What a pipe takes whole (POSIX asks for 512, Linux has this): workers that share one do not break each other's lines.

A longer line, a stack trace mostly, is whole as long as the pipe's reader keeps up.
"""
CLOSE_S = 2.0
SECRETS_MAX = 4_096
SECRET_CHARS_MIN = 6
"""A shorter value is a word, not a secret: masking it would blank out half the log."""
MASK = "***"

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_SECRET_NAMES = frozenset(
    {"authorization", "proxy_authorization", "api_key", "x_api_key", "x_goog_api_key", "cookie", "set_cookie"}
    | {"password", "secret", "token", "pepper", "admin_key", "client_key", "secret_key", "webhook"}
)
_PLAIN = frozenset({int, float, bool, type(None)})
_SHAPES = re.compile(
    rb"(?<![A-Za-z0-9])(?:(?:sk-|gsk_|xai-|AIza)[A-Za-z0-9_-]{12,}|([Bb]earer(?:\s|%20)+)[^\s\"'\\,;]+)"
)


class FinishedRequest(NamedTuple):
    """The one line a request leaves in the log."""

    request_id: str
    key: str
    tenant: str | None
    route: str | None
    """The alias asked for, None when the request was refused before it had one."""
    provider: str | None
    """Of the last attempt, as `model`."""
    model: str | None
    status: int
    """As the client saw it; 499 when it had left."""
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int | None
    """Of all attempts together; None is unknown, never 0."""
    cost_source: CostSource | None
    latency_ms: int
    first_token_ms: int | None
    error: str | None
    """How it ended, None when all was well."""
    overhead_us: int | None = None
    """From the request's arrival to the reply's first byte, less the time upstreams took; only metrics tell it."""
    is_overrun: bool = False
    """Its last attempt cost more than was held."""
    is_draining: bool = False
    """Its client has left and its reply is still being read: what it used is told by `request_drained`."""


class Telemetry:
    """The log. Its methods never raise and never wait."""

    def __init__(
        self,
        *,
        log_format: str = "json",
        level: str = "info",
        stream: IO[bytes] | None = None,
        lines_max: int = LINES_MAX,
    ) -> None:
        """Write `json` or `console` lines from `level` on to a stream, stderr unless told."""
        self._masker = _Masker()
        self._writer = _Writer(stream if stream is not None else sys.stderr.buffer, lines_max)
        self._renderer = _Renderer(_render_console if log_format == "console" else _render_json, self._masker)
        self._level = LEVELS.get(level.lower(), LEVELS["info"])
        self._log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            self._writer,
            processors=[self._renderer],
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
            cache_logger_on_first_use=True,
        ).bind()
        self._bridge = _Bridge(self)

    def register_secret(self, value: str) -> None:
        """Mask this value wherever it may turn up from now on."""
        self._masker.register(value)

    def request_finished(self, record: FinishedRequest) -> None:
        """Write the line of one request that was let in."""
        self._write_request("request_finished", record)

    def request_drained(self, record: FinishedRequest) -> None:
        """Write what became of a request whose client had left and whose reply was read to its end all the same."""
        self._write_request("request_drained", record)

    def _write_request(self, event: str, record: FinishedRequest) -> None:
        level = "info" if record.error is None else "warning"
        if LEVELS[level] < self._level:
            return
        source = record.cost_source
        fields = {
            "event": event,
            "request_id": record.request_id,
            "key": record.key,
            "tenant": record.tenant,
            "route": record.route,
            "provider": record.provider,
            "model": record.model,
            "status": record.status,
            "attempts": record.attempts,
            "input_tokens": record.input_tokens,
            "output_tokens": record.output_tokens,
            "cost_usd": None if record.cost_nano_usd is None else format_usd(record.cost_nano_usd),
            "cost_source": None if source is None else source.value,
            "latency_ms": record.latency_ms,
            "first_token_ms": record.first_token_ms,
            "error": record.error,
        }
        if record.is_overrun:
            fields["overrun"] = True
        # Past structlog's wrapper, which costs a fifth of the line, to the same last processor and the same writer.
        self._writer.write(self._renderer.render_known(level, fields))

    def request_refused(self, request_id: str, status: int, code: str) -> None:
        """Write the line of one request that was answered before it could cost anything."""
        self._log.info("request_refused", request_id=request_id, status=status, code=code)

    def info(self, event: str, **fields: object) -> None:
        """Tell something the operator may want to know."""
        self._log.info(event, **fields)

    def warn(self, event: str, **fields: object) -> None:
        """Tell something the operator should look at."""
        self._log.warning(event, **fields)

    def fail(self, event: str, error: BaseException | None = None, **fields: object) -> None:
        """Tell something that is broken, with the stack of the exception if there is one."""
        if error is not None:
            fields["trace"] = "".join(traceback.format_exception(error))
        self._log.error(event, **fields)

    def capture_logging(self) -> None:
        """Take over what libraries write to `logging`, warnings and worse, so that it is masked too."""
        root = logging.getLogger()
        root.addHandler(self._bridge)
        root.setLevel(logging.WARNING)

    def close(self) -> None:
        """Write what waits, then stop; calling it twice is harmless."""
        logging.getLogger().removeHandler(self._bridge)
        self._writer.close()


def write_line(event: str, *, log_format: str, level: str, least: str, **fields: object) -> None:
    """Write one line to stderr at once, without a thread: for a process that must not have any, because it forks.

    A level below `least` is left out, and so is a line that nobody is ready to read.
    """
    if LEVELS[level] < LEVELS.get(least.lower(), LEVELS["info"]):
        return
    render = _Renderer(_render_console if log_format == "console" else _render_json, _Masker())
    line = render(None, level, {"event": event, **fields})[:PIPE_BYTES]
    with suppress(OSError, ValueError):
        file = sys.stderr.fileno()
        if select.select([], [file], [], 0)[1]:
            os.write(file, line)


class _Masker:
    """Knows every secret by its value."""

    def __init__(self) -> None:
        self._needles: tuple[bytes, ...] = ()

    def register(self, value: str) -> None:
        if len(value) < SECRET_CHARS_MIN:
            return
        raw = value.encode("utf-8", "replace")
        as_json = orjson.dumps(raw.decode())[1:-1]
        self._needles = tuple(dict.fromkeys((*self._needles, raw, as_json)))[-SECRETS_MAX:]

    def mask(self, line: bytes) -> bytes:
        for needle in self._needles:
            if needle in line:
                line = line.replace(needle, MASK.encode())
        # Spelled out, because a generator costs more than all five looks; it runs for every request.
        if b"sk-" in line or b"earer" in line or b"AIza" in line or b"gsk_" in line or b"xai-" in line:
            line = _SHAPES.sub(rb"\1***", line)
        return line


class _Renderer:
    """The last processor: a bounded, masked line of what was logged."""

    def __init__(self, render: Any, masker: _Masker) -> None:
        self._render = render
        self._masker = masker
        self._second = 0
        self._prefix = ""

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> bytes:
        fields: dict[str, Any] = {"time": self._time(), "level": method, "event": event.pop("event")}
        for name, value in event.items():
            kind = type(value)
            if _is_secret_name(name):
                fields[name] = MASK if value is not None else None
            elif kind in _PLAIN or (kind is str and len(value) <= VALUE_CHARS_MAX and value.isprintable()):
                fields[name] = value
            elif name == "trace":
                fields[name] = self._clean_text(str(value), 10 * VALUE_CHARS_MAX)
            else:
                fields[name] = self._clean_value(value, 0)
        try:
            line: bytes = self._render(fields)
        except (TypeError, ValueError):
            # A value neither JSON nor text can hold; the line that names it is worth more than none.
            line = self._render({"time": fields["time"], "level": method, "event": "unloggable"})
        return self._masker.mask(line)

    def render_known(self, level: str, fields: dict[str, Any]) -> bytes:
        """Render fields whose names hold no secret and whose values are texts, numbers or None: no need to look."""
        for value in fields.values():
            if value.__class__ is str and not (len(value) <= VALUE_CHARS_MAX and value.isprintable()):
                return self(None, level, fields)
        return self._masker.mask(self._render({"time": self._time(), "level": level, **fields}))

    def _time(self) -> str:
        """Give the wall clock as ISO 8601 in UTC; the part that changes once a second is kept."""
        now_s = time.time()
        second = int(now_s)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now_s - second) * 1000):03d}Z"

    def _clean_value(self, value: object, depth: int) -> object:
        if isinstance(value, str):
            return self._clean_text(value, VALUE_CHARS_MAX)
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Mapping) and depth < VALUE_DEPTH_MAX:
            return dict(self._clean_item(str(key), item, depth + 1) for key, item in list(value.items())[:ITEMS_MAX])
        if isinstance(value, list | tuple) and depth < VALUE_DEPTH_MAX:
            return [self._clean_value(item, depth + 1) for item in value[:ITEMS_MAX]]
        return f"<{type(value).__name__}>"

    def _clean_item(self, name: str, value: object, depth: int) -> tuple[str, object]:
        shown = MASK if _is_secret_name(name) else self._clean_value(value, depth)
        return self._clean_text(name, VALUE_CHARS_MAX), shown

    def _clean_text(self, text: str, chars_max: int) -> str:
        if len(text) > chars_max:
            # Masked before it is cut: half a secret would no longer be recognised.
            text = self._masker.mask(text.encode("utf-8", "replace")).decode("utf-8", "replace")
            text = text[: chars_max - 1] + "…"
        return text if text.isprintable() else "".join(map(_escape, text))


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return name.lower().replace("-", "_") in _SECRET_NAMES


def _escape(char: str) -> str:
    """Spell out what could move a cursor, turn the writing direction or end a line; newlines are the renderer's."""
    if char.isprintable() or char == "\n":
        return char
    return f"\\u{ord(char):04x}"


def _render_json(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _render_console(fields: Mapping[str, Any]) -> bytes:
    shown = {name: value for name, value in fields.items() if value is not None}
    head = f"{shown.pop('time')[11:19]} {shown.pop('level'):<8} {shown.pop('event')}"
    trace = str(shown.pop("trace", "")).rstrip()
    parts = [f"{name}={_console_text(value)}" for name, value in shown.items()]
    stack = "".join(f"\n    {line}" for line in trace.split("\n")) if trace else ""
    return (" ".join([head, *parts]) + stack + "\n").encode("utf-8", "replace")


def _console_text(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    plain = text.replace("\n", "\\n")
    return orjson.dumps(plain).decode() if not plain or " " in plain else plain


class _Bridge(logging.Handler):
    """Turns records of `logging` into lines of ours."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(logging.WARNING)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError):
            return  # a request ended by the end of its time to drain is no fault
        try:
            message = record.getMessage().strip()
        except (TypeError, ValueError):
            message = str(record.msg)
        if record.levelno >= logging.ERROR:
            self._telemetry.fail("log", error, logger=record.name, message=message)
        else:
            self._telemetry.warn("log", logger=record.name, message=message)


class _Writer:
    """The end of the pipe, with a thread of its own: a reader that is stuck stops the log, not the requests."""

    def __init__(self, stream: IO[bytes], lines_max: int) -> None:
        self._stream = stream
        self._lines_max = lines_max
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._has_lines = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="turnpike-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: bytes) -> None:
        if len(self._lines) >= self._lines_max or self._is_closing:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._has_lines.is_set():
            self._has_lines.set()

    debug = info = warning = error = critical = write

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._has_lines.set()
        self._thread.join(CLOSE_S)
        atexit.unregister(self.close)

    def _run(self) -> None:
        while not self._is_closing:
            self._has_lines.wait()
            if not self._is_closing:
                time.sleep(FLUSH_S)
            self._has_lines.clear()
            self._drain()
        self._drain()  # what was written between the last look and the end

    def _drain(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            lines.append(_render_json({"level": "warning", "event": "log_lines_dropped", "lines": self._dropped}))
            self._dropped = 0
        try:
            for piece in _pieces(lines):
                self._stream.write(piece)
                self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads or the disk is full; the log may not take the gateway down with it.
            self._dropped += len(lines)


def _pieces(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Join lines into pieces of `PIPE_BYTES` at most; a longer line is one by itself."""
    begin, length = 0, 0
    for index, line in enumerate(lines):
        if length and length + len(line) > PIPE_BYTES:
            yield b"".join(lines[begin:index])
            begin, length = index, 0
        length += len(line)
    if length:
        yield b"".join(lines[begin:])
