"""What the simulated model says: prose, an echo, JSON or a tool call, in pieces of a token each.

The same seed, model id and messages give the same answer; nothing is remembered between requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from random import Random
from typing import Any, Final

import orjson

from proxy.simulated.asks import Ask, Tool, text_of
from proxy.simulated.prose import write_words
from proxy.simulated.schemas import make_instance

OUTPUT_TOKENS_MAX: Final = 32_768
"""Of one choice, whatever was asked for."""
ECHO_MODEL: Final = "echo"
JSON_MODEL: Final = "json"

_PIECES: Final = re.compile(r"\s*\S{1,6}|\s+")
_SCORE: Final = re.compile(r"\bscore\s*=\s*(-?\d{1,15}(?:\.\d{1,15})?)")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers asked for; the pieces are the text, or the arguments of the tool."""

    pieces: tuple[str, ...]
    finish_reason: str
    tool: str | None = None

    @property
    def output_tokens(self) -> int:
        """Count what is billed: the pieces, and one token for the name of a tool."""
        return len(self.pieces) + (self.tool is not None)

    @property
    def text(self) -> str:
        """Give the pieces joined."""
        return "".join(self.pieces)


def compose(ask: Ask, *, seed: int, length_tokens: int) -> tuple[Choice, ...]:
    """Decide what to say, once for each choice asked for."""
    chance = Random(_fingerprint(ask, seed))
    limit = min(ask.output_tokens_max or OUTPUT_TOKENS_MAX, OUTPUT_TOKENS_MAX)
    tool = _choose_tool(ask)
    if tool is not None:
        arguments = orjson.dumps(make_instance(tool.parameters) or {}).decode()
        pieces = _split(arguments, limit - 1)
        return (Choice(pieces, _reason(pieces, arguments, "tool_calls"), tool.name),) * ask.choices
    fixed = _fixed_text(ask)
    if fixed is not None:
        pieces = _split(fixed, limit)
        return (Choice(pieces, _reason(pieces, fixed, "stop")),) * ask.choices
    return tuple(_write_prose(chance, length_tokens, limit) for _ in range(ask.choices))


def quote(content: str) -> tuple[Choice, ...]:
    """Say this text, whatever was asked."""
    return (Choice(_split(content, None), "stop"),)


def _write_prose(chance: Random, length_tokens: int, limit: int) -> Choice:
    words = write_words(chance, min(length_tokens, OUTPUT_TOKENS_MAX))
    return Choice(tuple(words[:limit]), "length" if len(words) > limit else "stop")


def _fixed_text(ask: Ask) -> str | None:
    """Give the text that follows from the request alone, None when it is left to chance."""
    if ask.model == ECHO_MODEL:
        return ask.last_user_text
    kind = ask.response_format.get("type")
    if ask.model != JSON_MODEL and kind not in {"json_object", "json_schema"}:
        return None
    return orjson.dumps(_make_json(ask)).decode()


def _make_json(ask: Ask) -> Any:
    """Make JSON that fits the response format; a score that the prompt dictates goes where it fits."""
    score = _find_score(ask)
    declared = ask.response_format.get("json_schema")
    schema = declared.get("schema") if isinstance(declared, dict) else None
    if not isinstance(schema, dict):
        return {"answer": "yes"} if score is None else {"score": score}
    value = make_instance(schema)
    properties = schema.get("properties")
    if score is not None and isinstance(value, dict) and isinstance(properties, dict) and "score" in properties:
        value["score"] = score
    return value


def _find_score(ask: Ask) -> float | None:
    """Find the last `score=N` of the prompt."""
    found = [match for message in ask.messages for match in _SCORE.findall(text_of(message))]
    if not found:
        return None
    return float(found[-1]) if "." in found[-1] else int(found[-1])


def _choose_tool(ask: Ask) -> Tool | None:
    """Choose the tool to call: the named, a required, or one the user speaks of; none once a tool has answered."""
    if ask.tool_choice == "none" or ask.messages[-1].get("role") == "tool":
        return None
    named = [tool for tool in ask.tools if f"={tool.name}" == ask.tool_choice]
    spoken = [
        tool for tool in ask.tools if re.search(rf"\b{re.escape(tool.name)}\b", ask.last_user_text, re.IGNORECASE)
    ]
    required = ask.tools if ask.tool_choice == "required" else ()
    return next(iter([*named, *spoken, *required]), None)


def _split(text: str, pieces_max: int | None) -> tuple[str, ...]:
    return tuple(match.group() for match in islice(_PIECES.finditer(text), pieces_max))


def _reason(pieces: tuple[str, ...], text: str, whole: str) -> str:
    return whole if sum(map(len, pieces)) == len(text) else "length"


def _fingerprint(ask: Ask, seed: int) -> int:
    digest = blake2b(f"{seed}\0{ask.model}\0".encode(), digest_size=16)
    digest.update(orjson.dumps(ask.messages, option=orjson.OPT_SORT_KEYS))
    return int.from_bytes(digest.digest(), "big")
