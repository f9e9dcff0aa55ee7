"""Findings in a file, gathered until all of it has been read (part of `files`, floor 2).

A problem is one line a person can act on: where, what, and the remedy. It never shows a secret: whatever was read as
one is struck out of every message before it leaves.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Protocol

from proxy.errors import ConfigError, ConfigProblem

PROBLEMS_MAX = 100
"""Findings reported at once; the rest is counted."""
FLOOD = 200
"""Findings after which slow searches stop."""
MESSAGE_CHARACTERS_MAX = 400
SECRET_CHARACTERS_MIN = 6
"""Shorter values are not struck out: they would blank innocent words."""
SUGGESTIONS_MAX = 30
SUGGESTED_NAMES_MAX = 500
SUGGESTED_CHARACTERS_MAX = 100
"""Searching near words is slow; past these limits a finding comes without one."""

_KEY_SHAPED = re.compile(r"\b(?:sk|gsk|pplx)-[A-Za-z0-9_-]{6,}|\bAIza[A-Za-z0-9_-]{10,}")


class Place(Protocol):
    """Something that stands somewhere in a file; lines and columns count from 1."""

    line: int
    column: int
    path: str


class Problems:
    """All findings of one file."""

    def __init__(self, file: str) -> None:
        """Begin with none; `file` is the name shown."""
        self.file = file
        self._found: dict[tuple[int, int, str], ConfigProblem] = {}
        self._secrets: set[str] = set()
        self._suggestions = 0

    def __bool__(self) -> bool:
        """Tell whether anything was found."""
        return bool(self._found)

    @property
    def is_flooded(self) -> bool:
        """Tell whether so much was found that looking further helps nobody."""
        return len(self._found) > FLOOD

    def hide(self, secret: str) -> None:
        """Strike this value out of every message."""
        if len(secret) >= SECRET_CHARACTERS_MIN:
            self._secrets.add(secret)

    def add(self, place: Place, message: str) -> None:
        """Note one finding; the same words about the same place are kept once."""
        self.add_at(place.line, place.column, message, path=place.path)

    def add_at(self, line: int, column: int, message: str, *, path: str = "") -> None:
        """Note one finding by line and column."""
        self._found.setdefault((line, column, message), ConfigProblem(self.file, line, column, path, message))

    def suggest(self, word: str, known: Iterable[str]) -> str:
        """Give `; did you mean X?` when a known word is near, else nothing; the search is limited."""
        if self._suggestions >= SUGGESTIONS_MAX or len(word) > SUGGESTED_CHARACTERS_MAX:
            return ""
        self._suggestions += 1
        names = sorted(set(known))[:SUGGESTED_NAMES_MAX]
        near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        return f"; did you mean `{near[0]}`?" if near else ""

    def error(self) -> ConfigError:
        """Give everything found as one error, in the order of the file."""
        found = sorted(self._found.values(), key=lambda problem: (problem.line, problem.column))
        shown = [self._scrub(problem) for problem in found[:PROBLEMS_MAX]]
        if len(found) > PROBLEMS_MAX:
            last = found[PROBLEMS_MAX]
            more = f"and {len(found) - PROBLEMS_MAX} more problems from here on"
            shown.append(ConfigProblem(self.file, last.line, last.column, "", more))
        return ConfigError(tuple(shown))

    def fatal(self, line: int, column: int, message: str) -> ConfigError:
        """Note what ends the reading and give everything found so far."""
        self.add_at(line, column, message)
        return self.error()

    def _scrub(self, problem: ConfigProblem) -> ConfigProblem:
        path, message = self._strike(problem.path), self._strike(problem.message)
        return ConfigProblem(problem.file, problem.line, problem.column, path, message)

    def _strike(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = _KEY_SHAPED.sub("***", text)
        return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[:MESSAGE_CHARACTERS_MAX] + "..."
