"""A provider that needs no network and no key (floor 2): what `make run` serves and what chains are tried out with.

It speaks OpenAI's dialect in bytes, so that everything above it works as with a real provider: `asks` reads the
request, `answers` decides what to say (`prose`, `schemas`), `scripts` writes it down with its timing and its faults,
`transport` plays the script. The same request with the same seed gives the same text.
"""

from __future__ import annotations

from proxy.simulated.transport import SimulatedUpstream

__all__ = ["SimulatedUpstream"]
