"""Reads a Dockerfile into stages of instructions, and a .dockerignore into what it leaves out; as much as ours use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

KEYWORDS: Final = frozenset(
    {"FROM", "ENV", "WORKDIR", "RUN", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
)
_CONTINUED: Final = re.compile(r"\\\n")
_COMMENT: Final = re.compile(r"^\s*#.*\n", re.MULTILINE)
_FLAG: Final = re.compile(r"^--([a-z-]+)=(\S+)\s+")
_PAIR: Final = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword, its `--flags`, and the rest of it as it stands."""

    keyword: str
    flags: Mapping[str, str]
    text: str

    @property
    def words(self) -> Sequence[str]:
        """The members of an exec form (a JSON list), or the words of a plain one."""
        _, bracket, members = self.text.partition("[")
        return [str(word) for word in json.loads(bracket + members)] if bracket else self.text.split()


@dataclass(slots=True)
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def every(self, keyword: str) -> list[Instruction]:
        """Give the instructions of one keyword, in order."""
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]

    def last(self, keyword: str) -> Instruction:
        """Give the instruction that counts where only one does; AssertionError when there is none."""
        found = self.every(keyword)
        assert found, f"the stage has no {keyword}"
        return found[-1]

    @property
    def variables(self) -> dict[str, str]:
        """What the stage's ENV instructions set, unexpanded."""
        return {name: value for env in self.every("ENV") for name, value in _PAIR.findall(env.text)}


def parse(text: str) -> list[Stage]:
    """Read a Dockerfile; AssertionError on an instruction that is none of KEYWORDS or stands before the first FROM."""
    stages: list[Stage] = []
    for line in _CONTINUED.sub(" ", _COMMENT.sub("", text)).splitlines():
        if line.strip():
            _add(stages, _instruction(line.strip()))
    return stages


def _add(stages: list[Stage], instruction: Instruction) -> None:
    if instruction.keyword == "FROM":
        base, *name = instruction.words
        stages.append(Stage(base, name[1] if name else ""))
    else:
        assert stages, f"{instruction.keyword} stands before the first FROM"
        stages[-1].instructions.append(instruction)


def _instruction(line: str) -> Instruction:
    keyword, _, rest = line.partition(" ")
    assert keyword in KEYWORDS, f"no instruction we know: {keyword}"
    rest, flags = rest.strip(), {}
    while flag := _FLAG.match(rest):
        flags[flag[1]] = flag[2]
        rest = rest[flag.end() :]
    return Instruction(keyword, flags, rest)


def is_ignored(path: PurePosixPath, ignore: str) -> bool:
    """Tell whether a .dockerignore leaves a file out of the build: of the patterns that fit, the last one counts."""
    ignored = False
    for line in ignore.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            fits = _pattern(pattern.removeprefix("!"))
            if any(fits.fullmatch(str(place)) for place in (path, *path.parents)):
                ignored = not pattern.startswith("!")
    return ignored


def _pattern(glob: str) -> re.Pattern[str]:
    """Turn a pattern into an expression for whole paths: `**/` is any number of folders, `*` stays within a name."""
    translated = re.escape(glob).replace(r"\[", "[").replace(r"\]", "]")
    return re.compile(translated.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*"))
