"""The use case (floor 4): one client's request is planned, held, attempted, relayed and settled.

`exchange` is the sentence itself, `admission` its first clause (the hold), `attempt` one upstream call and its booking,
`service` what all exchanges share.
"""

from __future__ import annotations

from proxy.gateway.admission import KeyChanged, cap_bounds
from proxy.gateway.attempt import Line
from proxy.gateway.errands import Asked
from proxy.gateway.exchange import Answer, Exchange
from proxy.gateway.fitting import fit_plan
from proxy.gateway.forwarding import FORWARDED, VALUE_CHARS_MAX
from proxy.gateway.progress import CHECKPOINT_S, take_stock
from proxy.gateway.service import Service
from proxy.gateway.sharing import SharedExchange, is_shared

__all__ = [
    "CHECKPOINT_S",
    "FORWARDED",
    "VALUE_CHARS_MAX",
    "Answer",
    "Asked",
    "Exchange",
    "KeyChanged",
    "Line",
    "Service",
    "SharedExchange",
    "cap_bounds",
    "fit_plan",
    "is_shared",
    "take_stock",
]
