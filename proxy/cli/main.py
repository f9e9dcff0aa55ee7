"""From arguments to an exit code (part of `cli`, floor 7): the one place where every error becomes a line of text."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from proxy.cli.commands import command
from proxy.cli.output import BAD, UNREACHABLE, WRONG, complain
from proxy.errors import ConfigError, LedgerUnavailable, RequestError

DEBUG = "TURNPIKE_DEBUG"
"""Set to anything, an unexpected error shows its stack: for whoever reports or mends it."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code, whatever happens."""
    code: object = 0
    try:
        command(args=list(arguments), prog_name="turnpike")
    except SystemExit as finished:
        code = finished.code
    except Exception as error:  # noqa: BLE001  # the last line of defence: a person never meets a traceback unasked
        code = _report(_unwrap(error))
    return code if isinstance(code, int) else 0


def _unwrap(error: BaseException) -> BaseException:
    """Take an error out of the groups that concurrent parts of a server wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(error: BaseException) -> int:
    """Say in a line what is wrong; gives the exit code."""
    if isinstance(error, ConfigError):
        complain(*(str(problem) for problem in error.problems))
        return WRONG
    if isinstance(error, RequestError):
        complain(error.message)
        return UNREACHABLE if isinstance(error, LedgerUnavailable) else BAD
    if os.environ.get(DEBUG):
        traceback.print_exception(error, file=sys.stderr)
    complain(f"unexpected error: {type(error).__name__}; set {DEBUG}=1 to see where it comes from")
    return BAD
