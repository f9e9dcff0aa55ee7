"""`turnpike serve` (part of `cli`, floor 7)."""

from __future__ import annotations

import sys

import typer
import uvloop

from proxy.app import Settings, run, run_workers
from proxy.cli.output import WRONG, complain
from proxy.edge.server import ListenError


def serve_until_stopped(settings: Settings) -> int:
    """Serve; gives the exit code when a signal has ended it and everything is settled."""
    try:
        if settings.workers > 1:
            return run_workers(settings, say=_say_now)
        uvloop.run(run(settings, say=_say_now))
    except ListenError as error:
        complain(str(error))
        raise typer.Exit(WRONG) from error
    return 0


def _say_now(text: str) -> None:
    """Print at once: whoever starts a server waits for its ready line, often behind a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
