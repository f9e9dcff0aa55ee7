"""Whatever stands in a file, it is a table or findings with places, and nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.files import config_folder
from proxy.routing.table import Table
from tests.files.tables import load

WORDS = """
    providers models defaults tenants keys dialect base_url api_key headers on_disconnect verify price speed fail
    targets target model max_cost timeouts params context name key key_sha256 tenant budget default_model retry
    openai openrouter simulated sim chat a b * gpt-* openai/x sim/* $5 $1/M 3s 50/s 4k 25% two_tier rate on
    ${KEY} os.environ/KEY ${ http://h/v1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
"""
SCALARS = st.one_of(
    st.sampled_from(WORDS.split()),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(SCALARS.filter(lambda key: isinstance(key, str)), st.text(max_size=4)), inner, max_size=5
        ),
    ),
    max_leaves=25,
)
SECTIONS = st.fixed_dictionaries(
    {"models": st.dictionaries(st.sampled_from(["chat", "a", "b", "*", "gpt-*", "sim"]), TREES, max_size=4)},
    optional={
        "providers": st.dictionaries(st.sampled_from(["openai", "sim", "x"]), TREES, max_size=3),
        "keys": st.lists(TREES, max_size=3),
        "tenants": TREES,
        "defaults": TREES,
    },
)
LINE_ENDS = [end.encode() for end in "\n\r\x85\u2028\u2029"]
"""What YAML begins a new line after."""
SHIPPED = (config_folder().parent / "routes.yaml").read_bytes()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give one folder for all tries."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def load_or_tell(folder: Path, text: str | bytes) -> Table | None:
    """Load; findings must have places, and anything but a ConfigError fails the test."""
    try:
        return load(folder, text, {"KEY": "0123456789"})
    except ConfigError as error:
        problems = error.problems
    data = text if isinstance(text, bytes) else text.encode()
    lines = sum(data.count(end) for end in LINE_ENDS) + 2
    assert problems
    assert all(1 <= problem.line <= lines and problem.column >= 1 and problem.message for problem in problems)
    return None


@given(st.one_of(st.text(), st.binary()))
@example(b"\xff")
@example("models: {a: &x [*x]}")
@example("? a\n: b\n? {c: d}\n: e\n")
def test_any_bytes_are_a_table_or_findings(folder: Path, text: str | bytes) -> None:
    """Random bytes and text."""
    load_or_tell(folder, text.encode("utf-8", "replace") if isinstance(text, str) else text)


@settings(max_examples=150)
@given(st.one_of(SECTIONS, TREES))
def test_any_yaml_is_a_table_or_findings(folder: Path, tree: Any) -> None:
    """Trees built of our own words, in the wrong places and the right ones; what loads is whole."""
    table = load_or_tell(folder, yaml.safe_dump(tree, allow_unicode=True))
    for route in [*table.routes.values(), *table.globs] if table else ():
        assert 1 <= len(route.targets) <= 8
        assert all(target.provider.name in table.providers for target in route.targets if table)


@settings(max_examples=150)
@given(
    st.integers(0, len(SHIPPED)),
    st.integers(0, 40),
    st.sampled_from([b"", b"{", b"*", b"\t", b": ", b"- ", b"'", b"\x00"]),
)
def test_the_shipped_table_with_a_slip_of_the_hand_is_a_table_or_findings(
    folder: Path, at: int, removed: int, put: bytes
) -> None:
    """Cut anywhere, with a sign put in: the half-written file of an editor."""
    load_or_tell(folder, SHIPPED[:at] + put + SHIPPED[at + removed :])
    load_or_tell(folder, SHIPPED[:at])
