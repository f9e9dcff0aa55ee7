"""Google's Gemini API, spoken natively (part of the codecs, floor 1a, pure; openrouter.md 8.5).

Out: `request` writes the call, from `turns` and `parts` (messages), `tools` and `schema`, `generation` and `thinking`.
In: `stream` and `reply` read what comes back, `answer` one candidate of it, `usage` its counts, `refusals` errors.
`signatures` is what both ways share: thought signatures must come back upstream unharmed.
"""

from __future__ import annotations

from proxy.codecs.google.codec import GoogleCodec

__all__ = ["GoogleCodec"]
