"""YAML text to a tree of nodes that know where they stand (part of `files`, floor 2).

A tree is built from the parser's events and not from its objects, for four reasons: every member keeps its line and
column, a key given twice is seen, hostile files meet a limit before they cost anything, and scalars are read as
YAML 1.2 does, so that `on`, `yes` and `12:30` are words. Nothing here knows what a routing table is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from proxy.errors import ConfigError
from proxy.files.problems import Problems

FILE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
ALIASES_MAX = 100
VALUES_MAX = 50_000
"""Values in a file, and again after every alias has been followed: aliases to aliases may stand for billions."""

Scalar = str | int | float | bool | None
Step = str | int

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# Narrower than YAML: what would not be written back the same way (leading zeros, hex, 30 digits) stays a word.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}(?:[eE][-+]?[0-9]{1,2})?")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Node:
    """One value of the file and where its member begins: at its key in a mapping, at itself in a list."""

    line: int
    column: int
    path: str
    value: Scalar | list[Node] | dict[str, Node]
    weight: int = 1
    """Values in it, itself included, with every alias followed."""
    height: int = 1
    """Levels in it, itself included, with every alias followed."""
    is_wounded: bool = False
    """A member was cut out of it: what is missing now was not forgotten."""

    def trail(self, *steps: Step) -> list[tuple[Node, Node]]:
        """Follow steps as far as they exist, skipping those that do not; each leg is (container, member)."""
        legs: list[tuple[Node, Node]] = []
        here = self
        for step in steps:
            member = here.member(step)
            if member is not None:
                legs.append((here, member))
                here = member
        return legs

    def at(self, *steps: Step) -> Node:
        """Give the node the steps lead to; a step that does not exist is skipped, so a missing member is its parent."""
        legs = self.trail(*steps)
        return legs[-1][1] if legs else self

    def member(self, step: Step) -> Node | None:
        """Give the member with this key or index, None when there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def members(self) -> list[Node]:
        """Give what a mapping or list holds, nothing for a scalar."""
        if isinstance(self.value, dict):
            return list(self.value.values())
        return self.value if isinstance(self.value, list) else []

    def names(self) -> list[str]:
        """Give the keys of a mapping, nothing for anything else."""
        return list(self.value) if isinstance(self.value, dict) else []

    def drop(self, members: set[int]) -> None:
        """Take members out, given by their `id()`."""
        self.is_wounded = True
        if isinstance(self.value, dict):
            self.value = {key: node for key, node in self.value.items() if id(node) not in members}
        else:
            self.value = [node for node in self.members() if id(node) not in members]

    def plain(self) -> Any:
        """Give the value without its places, as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def decode(content: bytes, problems: Problems) -> str:
    """Read bytes as UTF-8 text that YAML allows; raises ConfigError."""
    if len(content) > FILE_BYTES_MAX:
        raise problems.fatal(1, 1, f"the file is larger than {FILE_BYTES_MAX // 1024} KiB; split it or remove data")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(content[: error.start].decode("utf-8", "replace"))
        message = "the file is not UTF-8 here; save it as UTF-8"
        raise problems.fatal(line, column, message) from error
    odd = _UNPRINTABLE.search(text)
    if odd is not None:
        line, column = _position(text[: odd.start()])
        raise problems.fatal(line, column, f"the character U+{ord(odd[0]):04X} may not stand in YAML; remove it")
    return text


def compose(text: str, problems: Problems) -> Node:
    """Build the tree; duplicate keys are noted and the reading goes on, anything worse raises ConfigError."""
    try:
        return _Composer(yaml.parse(text, Loader=_Loader), problems).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise problems.fatal(line, column, _explain(error, text, line)) from error
    except yaml.YAMLError as error:
        raise problems.fatal(1, 1, "the file is not YAML; check its encoding") from error


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _explain(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    if re.match(r"\s*(?:- *)?\*", here) or "alias" in f"{error.context} {error.problem}":
        remedy = 'a name that begins with * must be quoted: "*": openrouter/*'
    elif error.context_mark and error.context_mark.line + 1 < line and "flow" in str(error.context):
        remedy = f"the bracket opened on line {error.context_mark.line + 1} is not closed"
    elif "${" in here:
        remedy = 'inside { } or [ ] a variable must be quoted: "${NAME}"'
    elif "\t" in here:
        remedy = "indent with spaces, YAML allows no tabs there"
    else:
        remedy = "check indentation, quotes, brackets and the space after each colon"
    return f"not YAML: {error.problem or error.context or 'it cannot be read'}; {remedy}"


class _Composer:
    """Turns parser events into nodes; one use per text."""

    def __init__(self, events: Iterator[Any], problems: Problems) -> None:
        self._events = events
        self._problems = problems
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self._values = 0

    def document(self) -> Node:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise self._problems.fatal(1, 1, "the file is empty; it needs at least `models:`")
        root = self._node(next(self._events), "", depth=1)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._fatal(event, "a second YAML document begins here; one file holds one table")
        return root

    def _node(self, event: Any, path: str, *, depth: int) -> Node:
        self._values += 1
        if self._values > VALUES_MAX:
            raise self._fatal(event, f"more than {VALUES_MAX} values")
        if depth > DEPTH_MAX:
            raise self._fatal(event, f"nested deeper than {DEPTH_MAX} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth=depth)
        if event.tag is not None:
            raise self._fatal(event, f"tags such as {event.tag[:40]} are not read; write plain values, text in quotes")
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1, path, None)
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # not whole yet: it may not hold itself
        if isinstance(event, yaml.MappingStartEvent):
            node.value = self._mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node.value = self._sequence(path, depth)
        else:
            node.value = _read_scalar(event.value) if event.implicit[0] else event.value
        _measure(node)
        if node.weight > VALUES_MAX:
            raise self._fatal(event, f"more than {VALUES_MAX} values once aliases are followed")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, path: str, *, depth: int) -> Node:
        self._aliases += 1
        if self._aliases > ALIASES_MAX:
            raise self._fatal(event, f"more than {ALIASES_MAX} aliases (*name) in one file")
        target = self._anchors.get(event.anchor)
        if target is None:
            what = "holds itself" if event.anchor in self._anchors else "is not defined above"
            raise self._fatal(
                event, f'the anchor {event.anchor[:40]} {what}; a name that begins with * needs quotes: "*"'
            )
        if depth + target.height - 1 > DEPTH_MAX:
            raise self._fatal(event, f"nested deeper than {DEPTH_MAX} levels once aliases are followed")
        mark = event.start_mark
        return Node(mark.line + 1, mark.column + 1, path, target.value, target.weight, target.height)

    def _sequence(self, path: str, depth: int) -> list[Node]:
        members: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            members.append(self._node(event, _join(path, len(members)), depth=depth + 1))
        return members

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            member = self._node(next(self._events), _join(path, key), depth=depth + 1)
            member.line, member.column = event.start_mark.line + 1, event.start_mark.column + 1
            if key in members:
                message = f"`{key}` is given twice; it is also on line {members[key].line}, keep one"
                self._problems.add(member, message)
            members[key] = member
        return members

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._fatal(event, 'a key must be plain text; quote it when it begins with * or {: "*"')
        if event.tag is not None or event.anchor is not None:
            raise self._fatal(event, "tags and anchors are not read on keys")
        if event.value == "<<" and event.implicit[0]:
            raise self._fatal(
                event, "merge keys (<<) are not read; write the members out, or use an alias for a whole value"
            )
        return str(event.value)

    def _fatal(self, event: Any, message: str) -> ConfigError:
        return self._problems.fatal(event.start_mark.line + 1, event.start_mark.column + 1, message)


def _measure(node: Node) -> None:
    for member in node.members():
        node.weight += member.weight
        node.height = max(node.height, 1 + member.height)


def _join(path: str, step: Step) -> str:
    return f"{path}.{step}" if path else str(step)


def _read_scalar(text: str) -> Scalar:
    """Read a plain scalar as YAML 1.2's core schema does: yes, no, on and off are words."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
