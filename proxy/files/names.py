"""Names of models wherever a file speaks of them: whether some model of it answers (part of `files`, floor 2)."""

from __future__ import annotations

from proxy.files.document import Node
from proxy.files.problems import Problems
from proxy.routing.principal import matches
from proxy.routing.resolve import SUFFIXES


def check_askable(
    name: str | None, models: frozenset[str], *, node: Node, problems: Problems, is_pattern: bool = False
) -> None:
    """Note a name that no model of the file answers to, alias, suffix or glob; a pattern must meet at least one."""
    if name is None or problems.is_flooded:
        return
    if "*" in name and not is_pattern:
        problems.add(node, f"`{name}` is a glob; a default is one model, write its name")
    elif name not in models and not any(_overlap(name, model) for model in models) and not _is_variant(name, models):
        near = problems.suggest(name, models) or "; name one of `models`"
        problems.add(node, f"there is no model `{name}`{near}")


def _is_variant(name: str, models: frozenset[str]) -> bool:
    stem, colon, suffix = name.rpartition(":")
    return bool(colon) and suffix in SUFFIXES and stem in models


def _overlap(pattern: str, model: str) -> bool:
    """Tell whether some name matches both; each holds at most one `*`."""
    if "*" not in pattern:
        return matches(model, pattern)
    if "*" not in model:
        return matches(pattern, model)
    head, _, tail = pattern.partition("*")
    other_head, _, other_tail = model.partition("*")
    return (head.startswith(other_head) or other_head.startswith(head)) and (
        tail.endswith(other_tail) or other_tail.endswith(tail)
    )
