"""`turnpike serve` (part of `cli`, floor 7)."""

from __future__ import annotations

import sys

import typer
import uvloop

from proxy.app import Settings, run
from proxy.cli.output import WRONG, complain
from proxy.cli.places import Places
from proxy.edge.server import ListenError


def serve_until_stopped(places: Places, *, host: str, port: int, log_format: str, log_level: str) -> None:
    """Serve; returns when a signal has ended it and everything is settled."""
    settings = Settings(
        config=places.config, data=places.data, host=host, port=port, log_format=log_format, log_level=log_level
    )
    try:
        uvloop.run(run(settings, say=_say_now))
    except ListenError as error:
        complain(str(error))
        raise typer.Exit(WRONG) from error


def _say_now(text: str) -> None:
    """Print at once: whoever starts a server waits for its ready line, often behind a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
