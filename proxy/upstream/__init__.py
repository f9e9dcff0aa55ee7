"""Calls to providers over HTTP (floor 2): the only package that speaks aiohttp and reveals a provider's credential.

It decides nothing: no retries between targets, no clocks but the connection's, no reading of bodies. `client` owns the
pool, `pooling` says which of its connections may serve, `reply` is one answer, `faults` turns what aiohttp raises into
our failures, `resolver` looks names up.
"""

from __future__ import annotations

from proxy.upstream.client import AiohttpUpstream

__all__ = ["AiohttpUpstream"]
