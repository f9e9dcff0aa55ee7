"""What models can do, as config/models.yaml says it (part of `catalogue`, floor 2; openrouter.md 8.7).

A capability that is not written is not known, and what is not known is given the benefit of the doubt: nothing is
dropped or refused for its sake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.codecs.efforts import EFFORTS
from proxy.codecs.wire import Thinking

MODALITIES = frozenset({"input", "output"})
"""What a model has wherever it is sold; the rest is a matter of who sells it."""

_INPUT = ("text", "image", "pdf", "audio", "video")
_OUTPUT = ("text", "image", "audio", "video")


def read_capabilities(given: object) -> dict[str, object]:
    """Check one `capabilities:` and give it in the form that is asked for; ValueError says what is wrong."""
    if not isinstance(given, dict):
        msg = "capabilities are a mapping, as {thinking: budget}"
        raise ValueError(msg)  # noqa: TRY004 -- one kind of error for one kind of fault: a file that is wrong
    if unknown := sorted(map(str, given.keys() - _READERS.keys())):
        msg = f"unknown capability {unknown[0]!r}; there are {', '.join(sorted(_READERS))}"
        raise ValueError(msg)
    return {name: _READERS[name](name, value) for name, value in given.items()}


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        msg = f"{name} is true or false"
        raise ValueError(msg)  # noqa: TRY004 -- as above
    return value


def _thinking(name: str, value: object) -> Thinking:
    if value not in list(Thinking):
        msg = f"{name} is one of {', '.join(Thinking)}"
        raise ValueError(msg)
    return Thinking(str(value))


def _some_of(*words: str) -> Callable[[str, object], tuple[str, ...]]:
    def read(name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(word in words for word in value):
            msg = f"{name} is a list of some of {', '.join(words)}"
            raise ValueError(msg)
        return tuple(value)

    return read


def _fields(name: str, value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(field, str) for field in value):
        msg = f"{name} is a list of request fields"
        raise ValueError(msg)
    return frozenset(value)


def _names(name: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        msg = f"{name} is a mapping of request fields, as {{seed: random_seed}}"
        raise ValueError(msg)
    return value


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "thinking": _thinking,
    "sampling": _truth,
    "forced_tools": _truth,
    "prefill": _truth,
    "json_schema": _truth,
    "tools": _truth,
    "input": _some_of(*_INPUT),
    "output": _some_of(*_OUTPUT),
    "efforts": _some_of(*EFFORTS),
    "unsupported": _fields,
    "renamed": _names,
}
