"""A tree of nodes to checked options: pydantic checks, this tells where it failed (part of `files`, floor 2).

What is wrong is noted and cut out, and the rest is checked again, so that one reading of a file finds the bad unit and
the unknown model both.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.files.document import Node, Step
from proxy.files.options import Options
from proxy.files.problems import Problems
from proxy.files.values import Surroundings

CUTS_MAX = 8
"""Rounds of cutting out; a member cut out can leave its parent incomplete, which is cut out next."""

Checked = TypeVar("Checked", bound=Options)

_WANTED = {
    "string_type": "text is wanted here",
    "bool_type": "true or false is wanted here, without quotes",
    "int_type": "a whole number is wanted here",
    "list_type": "a list is wanted here: one `- entry` a line",
    "dict_type": "a mapping is wanted here: `name: value` lines",
    "model_type": "a mapping is wanted here: `name: value` lines",
    "model_attributes_type": "a mapping is wanted here: `name: value` lines",
}
_REMEDIES = {
    "input": "write both prices: {input: $1/M, output: $2/M}, $0/M when it is free",
    "output": "write both prices: {input: $1/M, output: $2/M}, $0/M when it is free",
    "limit": "write it as `limit: $5/day`",
    "key": 'write it as `key: "${NAME}"`',
    "targets": "list what to try: `targets: [openrouter/openai/gpt-4o]`",
    "models": 'name at least one: `models: {"*": openrouter/*}` passes everything through',
    "name": "every key needs one, it is shown in usage and logs",
}


def check(cls: type[Checked], root: Node, surroundings: Surroundings, problems: Problems) -> Checked:
    """Read a tree as options, noting every finding; raises ConfigError when nothing of it can be used."""
    for cut in range(CUTS_MAX):
        try:
            return cls.model_validate(root.plain(), context=surroundings)
        except ValidationError as error:
            found = error.errors(include_url=False)
        if cut == 0:
            _note(cls, root, found, problems)
        if not _cut_out(root, found):
            break
    raise problems.error()


def _note(cls: type[Options], root: Node, found: list[ErrorDetails], problems: Problems) -> None:
    refused_inside = {_place(root, error)[:-1] for error in found if _is_later_word(cls, error)}
    for error in found:
        steps = _steps(error)
        place = root.at(*steps)
        if error["type"] == "missing" and _place(root, error) in refused_inside:
            continue  # `{two_tier: ...}` has no targets, but that is not what is wrong with it
        problems.add(place, _say(cls, error, problems))


def _steps(error: ErrorDetails) -> tuple[Step, ...]:
    return tuple(step for step in error["loc"] if step != "[key]")


def _place(root: Node, error: ErrorDetails) -> tuple[int, ...]:
    """Give the identities of the nodes on the way, to compare places by."""
    return tuple(id(member) for _, member in root.trail(*_steps(error)))


def _cut_out(root: Node, found: list[ErrorDetails]) -> bool:
    """Take every member with a finding out of the tree; False when the root itself is one."""
    trails = [root.trail(*_steps(error)) for error in found]
    if not all(trails):
        return False
    wounded = {id(container): (container, set[int]()) for container, _ in (trail[-1] for trail in trails)}
    for container, member in (trail[-1] for trail in trails):
        wounded[id(container)][1].add(id(member))
    for container, members in wounded.values():
        container.drop(members)
    return True


def _is_later_word(cls: type[Options], error: ErrorDetails) -> bool:
    options = _options_at(cls, _steps(error)[:-1])
    return error["type"] == "extra_forbidden" and options is not None and error["loc"][-1] in options.later


def _say(cls: type[Options], error: ErrorDetails, problems: Problems) -> str:
    kind, last = error["type"], str(_steps(error)[-1]) if _steps(error) else ""
    if kind == "extra_forbidden":
        return _say_unknown(_options_at(cls, _steps(error)[:-1]), last, problems)
    if kind == "missing":
        return f"`{last}` is missing; {_REMEDIES.get(last, 'add it')}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind in {"literal_error", "enum"}:
        return _say_choice(error, problems)
    if kind in _WANTED:
        return _WANTED[kind]
    message = error["msg"]
    return f"{message[:1].lower()}{message[1:]}"


def _say_unknown(options: type[Options] | None, word: str, problems: Problems) -> str:
    assert options is not None  # only a mapping of ours can refuse a member
    if word in options.later:
        return f"`{word}` is not available yet; leave it out until a later release"
    if word in options.elsewhere:
        return f"`{word}` is {options.elsewhere[word]}"
    known = sorted(options.model_fields, key=lambda name: name not in options.__annotations__)  # its own words first
    remedy = problems.suggest(word, known) or f"; known here: {', '.join(known)}"
    return f"`{word}` is unknown here{remedy}"


def _say_choice(error: ErrorDetails, problems: Problems) -> str:
    choices = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
    word = error["input"]
    if not isinstance(word, str):
        return f"one of {', '.join(choices)} is wanted here"
    return f"{word[:40]!r} is not one of {', '.join(choices)}{problems.suggest(word, choices)}"


def _options_at(cls: type[Options], steps: tuple[Step, ...]) -> type[Options] | None:
    """Give the class of the mapping the steps lead to."""
    annotation: Any = cls
    for step in steps:
        annotation = _inside(annotation, step)
    found = _unwrap(annotation)
    return found if isinstance(found, type) and issubclass(found, Options) else None


def _inside(annotation: Any, step: Step) -> Any:
    outer = _unwrap(annotation)
    if isinstance(outer, type) and issubclass(outer, BaseModel):
        field = outer.model_fields.get(str(step))
        return field.annotation if field else None
    return get_args(outer)[-1] if get_origin(outer) in {dict, list} else None


def _unwrap(annotation: Any) -> Any:
    """Take `X | None` as X, and `Annotated[X, ...]` too."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    members = [member for member in get_args(annotation) if member is not type(None)]
    is_optional = get_origin(annotation) not in {dict, list} and type(None) in get_args(annotation)
    return _unwrap(members[0]) if is_optional and len(members) == 1 else annotation
