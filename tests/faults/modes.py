"""The catalogue of fault modes by name: what a script lists, `fault:NAME` asks for, a matrix of tests runs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from tests.faults import replies
from tests.faults.cuts import CUT_MODES
from tests.faults.failures import FAILURE_MODES, SHAPES, error_event, error_first
from tests.faults.formats import FORMAT_MODES
from tests.faults.lies import LIE_MODES
from tests.faults.statuses import RETRY_AFTER, SERVER_FAULTS, STATUS_MODES, rate_limited, server_fault
from tests.faults.steps import Mode
from tests.faults.usages import USAGE_MODES

MODEL_PREFIX: Final = "fault:"
"""A model named `fault:NAME` meets the mode NAME, whatever the script says."""

_GOOD: Final = (
    replies.ok(),
    replies.ok_paced(4, every_s=0.05, first_s=0.05),
    replies.ok_late_end(0.04),
    replies.ok_openrouter(),
    replies.ok_unframed(),
    replies.ok_chunked(),
    replies.ok_with_length(),
    replies.split_every_byte(),
    replies.split_random(seed=1),
    replies.slow_drip(),
    replies.gzipped(),
    replies.many_headers(),
    replies.early_hints(),
)

_ALL: Final = (
    *_GOOD,
    *(make() for make in (*STATUS_MODES, *CUT_MODES, *LIE_MODES, *FORMAT_MODES, *USAGE_MODES, *FAILURE_MODES)),
    *(rate_limited(name) for name in RETRY_AFTER),
    *(server_fault(status) for status in SERVER_FAULTS),
    *(error_event(shape) for shape in SHAPES),
    *(error_first(shape) for shape in SHAPES),
)

MODES: Final = MappingProxyType({mode.name: mode for mode in _ALL})
"""Every mode with its default figures, by name. `refuse` is not among them: see `ports.closed_port`."""


def mode(name: str) -> Mode:
    """Give the mode of that name; KeyError when there is none."""
    return MODES[name]
