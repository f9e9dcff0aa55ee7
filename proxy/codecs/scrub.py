"""Foreign words made fit for a client (floor 1a, pure).

An upstream's error text can name hosts, keys, accounts and paths. The text is worth passing on, because it says what to
change; these are not, because they are the operator's.
"""

from __future__ import annotations

import re

MESSAGE_CHARS_MAX = 1_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_PATTERNS = (
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>)\]]+", re.IGNORECASE), "(link removed)"),
    (re.compile(r"\bBearer\s+[^\s\"']+", re.IGNORECASE), "(key removed)"),
    (re.compile(r"\b(?:sk|pk|rk|gsk|xai|key|api|AIza|ya29)[-_.][A-Za-z0-9*_.-]{4,}"), "(key removed)"),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{20,}"), "(key removed)"),
    (re.compile(r"\b(?:user|org|acct|account|proj|project|team|workspace)[-_][A-Za-z0-9]{6,}"), "(account removed)"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b"), "(host removed)"),
    (
        re.compile(r"(?<![\w.])(?:localhost(?::\d{1,5})?|\[[0-9a-f:]*:[0-9a-f:.]*\](?::\d{1,5})?)", re.IGNORECASE),
        "(host removed)",
    ),
    (
        re.compile(
            r"(?<![\w./-])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+"
            r"(?:com|ai|net|org|io|dev|cloud|app|co|us|eu|uk|de|fr|cn|in|internal|local|lan|corp|example|test|invalid|localdomain)"
            r"(?::\d{1,5})?(?![\w-])(?:/[^\s\"']*)?",
            re.IGNORECASE,
        ),
        "(host removed)",
    ),
    (re.compile(r"(?<![\w/])/(?:[\w.-]+/)+[\w.-]*"), "(path removed)"),
)


def scrub(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Give `text` on one line, at most `MESSAGE_CHARS_MAX` long, without hosts, keys, accounts, paths and `secrets`."""
    text = _CONTROL.sub(" ", text[: 4 * MESSAGE_CHARS_MAX])
    for secret in secrets:
        text = text.replace(secret, "(key removed)")
    for pattern, word in _PATTERNS:
        text = pattern.sub(word, text)
    return text.strip()[:MESSAGE_CHARS_MAX]
