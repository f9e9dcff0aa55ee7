"""Foreign words made fit for a client (floor 1a, pure).

An upstream's error text can name hosts, keys, accounts and paths. The text is worth passing on, because it says what to
change; these are not, because they are the operator's.
"""

from __future__ import annotations

import re

MESSAGE_CHARS_MAX = 1_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>)\]]+", re.IGNORECASE)
_PATTERNS = (
    (_LINK, "(link removed)"),
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


def scrub(text: str, *, asked: bytes = b"") -> str:
    """Give `text` on one line, at most `MESSAGE_CHARS_MAX` long, without hosts, keys, accounts and paths.

    Links that stand in the client's own request (`asked`, its body) stay: that a picture cannot be read helps nobody
    who is not told which.
    """
    text = _CONTROL.sub(" ", text[: 4 * MESSAGE_CHARS_MAX])
    links = {link for link in _LINK.findall(text) if link.rstrip(".,;:!?").encode() in asked} if asked else set()
    parts = (
        re.split("(" + "|".join(map(re.escape, sorted(links, key=len, reverse=True))) + ")", text) if links else [text]
    )
    return "".join(part if part in links else _scrub_part(part) for part in parts).strip()[:MESSAGE_CHARS_MAX]


def _scrub_part(text: str) -> str:
    for pattern, word in _PATTERNS:
        text = pattern.sub(word, text)
    return text
