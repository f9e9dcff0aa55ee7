"""YAML text to nodes: places, scalars, limits."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from proxy.errors import ConfigError
from proxy.files import document
from proxy.files.document import Node, compose, decode
from proxy.files.problems import Problems


def read(text: str) -> Node:
    """Compose a text that has no findings."""
    problems = Problems("f.yaml")
    node = compose(text, problems)
    assert not problems
    return node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("0o7", "0o7"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("2026-11-20", "2026-11-20"),
        (".inf", ".inf"),
        ("1e5", "1e5"),
        ("9" * 19, "9" * 19),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("-12", -12),
        ("0", 0),
        ("0.25", 0.25),
        ("1.5e-3", 0.0015),
        ("'5'", "5"),
        ('"true"', "true"),
        ("|-\n  5", "5"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_does(text: str, value: object) -> None:
    """Words stay words, and numbers that would not be written back the same way stay as written."""
    plain = read(f"a: {text}\n").plain()["a"]
    assert (plain, type(plain)) == (value, type(value))


def test_keys_are_text_whatever_they_look_like() -> None:
    """`on`, `4`, `null` and `1.0` are names."""
    assert read("on: 1\n4: 2\nnull: 3\n1.0: 4\n").plain() == {"on": 1, "4": 2, "null": 3, "1.0": 4}


def test_every_member_knows_its_place() -> None:
    """Line and column of its key in a mapping, of itself in a list; what does not exist is its nearest parent."""
    root = read("a:\n  b: [x, {c: 1}]\n")
    places = {
        (): (1, 1, ""),
        ("a",): (1, 1, "a"),
        ("a", "b"): (2, 3, "a.b"),
        ("a", "b", 1): (2, 10, "a.b.1"),
        ("a", "b", 1, "c"): (2, 11, "a.b.1.c"),
        ("a", "b", 7): (2, 3, "a.b"),
        ("a", "nope", "b"): (2, 3, "a.b"),
    }
    for steps, place in places.items():
        node = root.at(*steps)
        assert (node.line, node.column, node.path) == place


def test_an_alias_stands_for_its_anchor_at_a_place_of_its_own() -> None:
    """Same value, own line."""
    root = read("a: &t {idle: 3s}\nb: *t\n")
    assert root.at("b").plain() == {"idle": "3s"}
    assert (root.at("b").line, root.at("b").path) == (2, "b")


def test_a_byte_order_mark_is_forgiven() -> None:
    """Some editors write one."""
    assert decode(b"\xef\xbb\xbfa: 1", Problems("f")) == "a: 1"


def nest(depth: int) -> str:
    """Nest lists."""
    return "[" * depth + "]" * depth


def nest_by_alias(depth: int) -> str:
    """Nest lists by aliases, each of them shallow."""
    return "- &a0 []\n" + "".join(f"- &a{level} [*a{level - 1}]\n" for level in range(1, depth - 1))


def repeat_alias(times: int) -> str:
    """Use one alias many times."""
    return "- &a x\n" + "- *a\n" * times


def laugh(levels: int, fan_out: int) -> str:
    """Build lists of lists of lists, each of them an alias."""
    lists = (f"- &a{level} [{', '.join([f'*a{level - 1}'] * fan_out)}]\n" for level in range(1, levels))
    return "- &a0 x\n" + "".join(lists)


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (nest(document.DEPTH_MAX), nest(document.DEPTH_MAX + 1), "nested deeper than 32"),
        (nest_by_alias(document.DEPTH_MAX), nest_by_alias(document.DEPTH_MAX + 1), "once aliases are followed"),
        (repeat_alias(document.ALIASES_MAX), repeat_alias(document.ALIASES_MAX + 1), "more than 100 aliases"),
        (laugh(5, 9), laugh(6, 9), "more than 50000 values once"),
        ("[" + "1," * 49_999 + "]", "[" + "1," * 50_000 + "]", "more than 50000 values"),
    ],
    ids=["depth", "depth by aliases", "aliases", "billion laughs", "values"],
)
def test_a_limit_holds_to_the_one(good: str, bad: str, message: str) -> None:
    """What is within passes, one more is refused with its place."""
    read(good)
    with pytest.raises(ConfigError, match=message):
        read(bad)


HOSTILE = {
    "half a million brackets": b"[" * (document.FILE_BYTES_MAX // 2),
    "braces": b"{" * (document.FILE_BYTES_MAX // 2),
    "block depth": b"- " * (document.FILE_BYTES_MAX // 2),
    "one huge scalar": b"models: {a: " + b"x" * (document.FILE_BYTES_MAX - 100) + b"}",
    "many values": b"a: [" + b"1," * (document.FILE_BYTES_MAX // 2 - 100) + b"]",
    "too large": b"#" * (document.FILE_BYTES_MAX + 1),
    "laughs": laugh(11, 9).encode(),
    "wrong encoding": "modèles: {}".encode("latin-1"),
    "utf-16": "models: {}".encode("utf-16"),
    "lone surrogate": b"a: \xed\xa0\x80",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_no_time(content: bytes) -> None:
    """A finding with a place within a few seconds, whatever the file; no crash."""
    started = time.monotonic()
    problems = Problems("f.yaml")
    try:
        result: Any = compose(decode(content, problems), problems).weight
    except ConfigError as error:
        result = error.problems[0].line
    assert result >= 1
    assert time.monotonic() - started < 10


def test_a_reader_that_gives_up_without_a_place_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every error of the YAML library says where."""

    def give_up(*_: object, **__: object) -> None:
        raise yaml.YAMLError

    monkeypatch.setattr(yaml, "parse", give_up)
    with pytest.raises(ConfigError, match=r"f\.yaml:1:1: the file is not YAML"):
        read("a: 1")
