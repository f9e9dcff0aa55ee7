"""What is kept of an answer as it goes out, and whether it is fit to be given again (part of the gateway, floor 4)."""

from __future__ import annotations

import re

from proxy.codecs.intake import choices_of
from proxy.gateway.attempt import Attempt
from proxy.replies import CONTENT_BYTES_MAX, Entry

_UNFIT = re.compile(rb'"(?:native_)?finish_reason"\s*:\s*"(?:error|content_filter)"')
_CUT_SHORT = re.compile(rb'"finish_reason"\s*:\s*"length"')


class Recording:
    """The bytes of one answer as the client got them; nothing of one that is too long."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces: list[bytes] = []
        self._bytes = 0

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._bytes += len(piece)
        if self._bytes > CONTENT_BYTES_MAX:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def content(self) -> bytes | None:
        """Give the whole answer, None when it is too long to be kept."""
        return b"".join(self._pieces) if self._bytes <= CONTENT_BYTES_MAX else None


def make_entry(content: bytes, attempt: Attempt, *, cost_nano_usd: int | None, at_s: float) -> Entry:
    """Make what is kept of a whole answer; for how long, each who keeps it says."""
    return Entry(
        is_stream=attempt.candidate.body.get("stream") is True,
        content=content,
        model=attempt.candidate.target.model,
        cost_nano_usd=cost_nano_usd,
        at_s=at_s,
        expires_at_s=at_s,
    )


def is_whole(attempt: Attempt) -> bool:
    """Tell whether an answer is one: it ended without an error, and every choice of it says why."""
    end, reply = attempt.end, attempt.relay.json
    if end is None or end.error is not None:
        return False
    # A stream that ended well has been asked by the relay.
    return reply is None or all(isinstance(choice.get("finish_reason"), str) for choice in choices_of(reply))


def is_fit_for_others(content: bytes, attempt: Attempt) -> bool:
    """Tell whether an answer may serve other requests: not an empty one, a fixed one, one that was stopped.

    Nor one that a cap of ours cut short: who asks next may have the money for all of it.
    """
    if attempt.candidate.target.provider.is_static or attempt.end is None or not attempt.end.usage.output_tokens:
        return False
    is_capped = attempt.candidate.output_tokens_max is not None
    return not (_UNFIT.search(content) or (is_capped and _CUT_SHORT.search(content)))
