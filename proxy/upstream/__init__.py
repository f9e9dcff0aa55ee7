"""Calls to providers over HTTP (floor 2): the only package that dials out and reveals a provider's credential.

It decides nothing: no retries between targets, no clocks but the connection's, no reading of bodies. `client` makes the
one exchange a call is, `request` writes it, `pooling` keeps the connections, `dialing` and `resolver` make them,
`connection` is one of them with its parser, `reply` one answer on its way in, `decoding` unpacks it if it comes
compressed, `faults` says in our words what went wrong.
"""

from __future__ import annotations

from proxy.upstream.client import HttpUpstream

__all__ = ["HttpUpstream"]
