"""The use case (floor 4): one client's request is planned, held, attempted, relayed and settled.

`exchange` is the sentence itself, `admission` its first clause (the hold), `attempt` one upstream call and its booking,
`service` what all exchanges share.
"""

from __future__ import annotations

from proxy.gateway.admission import KeyChanged, bound_cheaply
from proxy.gateway.attempt import Line
from proxy.gateway.exchange import Answer, Asked, Exchange
from proxy.gateway.service import Service

__all__ = ["Answer", "Asked", "Exchange", "KeyChanged", "Line", "Service", "bound_cheaply"]
