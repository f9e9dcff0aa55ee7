"""Foreign words made fit for a client (floor 1a, pure).

An upstream's error text can name hosts, keys, accounts and paths. The text is worth passing on, because it says what to
change; these are not, because they are the operator's. Model ids, versions, numbers and field names stay: they are what
the client can act on. In doubt between a name and a word, what holds a digit or a capital inside is taken for a name.
"""

from __future__ import annotations

import re

MESSAGE_CHARS_MAX = 1_000
TEXT_CHARS_MAX = 4 * MESSAGE_CHARS_MAX
"""What is read of a text: removing makes it shorter, so more is read than is given."""

# Controls, marks that change the direction of writing, invisible marks, halves of surrogate pairs.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff]+"
)
# What hosts end in. Left out are those that are also words, file endings or fields: id, it, me, name, sh, so.
_TLDS = (
    "com|ai|net|org|io|dev|cloud|app|co|us|eu|uk|de|fr|cn|in|info|biz|xyz|tech|gov|edu|mil|jp|kr|ru|nl|ch|se|au|ca|nz"
    "|sg|hk|tw|vn|br|mx|za|ar|ae|ie|dk|fi|cz|gr|pt|ro|hu|ua|tr"
    "|internal|intranet|local|localdomain|lan|corp|svc|example|test|invalid|arpa|onion"
)
_LINK = re.compile(r"(?i:[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>)]*)")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ID = r"(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6,}|[A-Za-z0-9]{20,})"
_PORT = r"(?::\d{1,5})?"
_IPV4 = r"(?:\d{1,3}\.){3}\d{1,3}"
_HEX = r"[0-9a-f]{1,4}"
_IPV6 = rf"(?:{_HEX}(?::{_HEX}){{7}}|(?=:*[0-9a-f])(?:{_HEX}(?::{_HEX}){{0,6}})?::(?:{_HEX}(?::{_HEX}){{0,6}})?)"
_SEGMENT = r"[^\s/\\\"'<>()\[\]{},;:]"

_REMOVED = (
    (
        "stack",
        r"\bTraceback \(most recent call last\).*",
        r"\bFile \"[^\"]*\", line \d+(?:, in \S+)?",
        r"\bat [\w.$<>]{1,80} ?\([^\s()]*:\d+(?::\d+)?\)",
    ),
    ("link", _LINK.pattern),
    (
        "key",
        r"(?i:\bBearer\s+)(?!(?:auth|authentication|authorization|token|tokens)\b)[^\s\"']+",
        r"(?i:\bBasic\s+)(?=\S*(?:[\d+/=]|[a-z][A-Z]))[A-Za-z0-9+/=]{6,}",
        r"(?<![A-Za-z0-9])(?:sk|pk|rk|gsk|csk|xai|pplx|nvapi)[-_][A-Za-z0-9*_.-]{4,}",
        r"(?<![A-Za-z0-9])(?:ya29\.|hf_|gh[opsu]_|xox[abp]-|eyJ|AIza|AKIA)[A-Za-z0-9_.-]{6,}",
        r"(?<![A-Za-z0-9])(?:key|api)[-_](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{12,}",
        r"(?i:\b[\w-]{0,30}(?:key|token|secret|password)=)[^\s&\"',;]+",
        r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}",
    ),
    (
        "account",
        r"(?<![A-Za-z0-9])(?:org|acct|proj)[-_][A-Za-z0-9]{6,}",
        rf"(?<![A-Za-z0-9])(?:user|account|organization|project|team|workspace)[-_]{_ID}",
        r"(?i:\b(?:project|account|organization|subscription)(?: number| id)?[ :#]{1,2})\d{6,}",
        r"(?<![\w/])(?:projects|organizations)/[\w.:-]+(?:/[\w.:-]+)*",
        r"\barn:aws[\w-]*:\S+",
        r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+",
        r"(?i:(?<![\w-])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-]))",
    ),
    (
        "host",
        rf"(?:::(?i:ffff:)?|(?<![\d.])){_IPV4}(?!\d){_PORT}",
        rf"(?i:\[{_IPV6}(?:%\w+)?\]{_PORT}|(?<![\w:.]){_IPV6}(?![\w:]))",
        rf"(?i:(?<![\w.-])localhost(?![\w-]){_PORT})",
        rf"(?<![\w.-])(?:{_LABEL}\.)+(?:{_TLDS}|{_TLDS.upper()})(?![\w-]){_PORT}(?:/[^\s\"']*)?",
    ),
    (
        "path",
        rf"(?<![\w/])(?:~|\.\.?)?/{{1,3}}(?:{_SEGMENT}+/)+{_SEGMENT}*",
        r"(?<![A-Za-z])[A-Za-z]:\\[^\s\"'<>|]+|\\\\[\w.-]+\\[^\s\"'<>|]+",
        r"(?<![\w/.-])(?:[\w.-]+/)+[\w-]+\.(?:py|js|ts|go|rs|rb|java|cc|cpp|json|ya?ml|toml|conf|env|pem|crt|log|db)\b",
    ),
)
_PATTERNS = tuple((re.compile("|".join(patterns)), f"({what} removed)") for what, *patterns in _REMOVED)


def scrub(text: str, *, asked: bytes = b"") -> str:
    """Give `text` on one line, at most `MESSAGE_CHARS_MAX` long, without hosts, keys, accounts and paths.

    Links that stand in the client's own request (`asked`, its body) stay: that a picture cannot be read helps nobody
    who is not told which.
    """
    text = _CONTROL.sub(" ", text[:TEXT_CHARS_MAX])
    links = {link for link in _LINK.findall(text) if link.rstrip(".,;:!?").encode() in asked} if asked else set()
    parts = (
        re.split("(" + "|".join(map(re.escape, sorted(links, key=len, reverse=True))) + ")", text) if links else [text]
    )
    return "".join(part if part in links else _scrub_part(part) for part in parts).strip()[:MESSAGE_CHARS_MAX]


def _scrub_part(text: str) -> str:
    for pattern, word in _PATTERNS:
        text = pattern.sub(word, text)
    return text
