"""Broken files say where and what, and no file is missed in silence."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.catalogue import find_config_dir, load_catalogue
from proxy.catalogue import shipped as shipping
from proxy.errors import ConfigError
from proxy.routing.table import Catalogue
from tests.catalogue.made import ROOT, input_price, write


@pytest.mark.parametrize("model", ["broken", "float", "endless"])
def test_a_figure_that_is_no_price_is_named(small: Catalogue, model: str) -> None:
    """A float has already lost the exact price, so it is refused like a word."""
    with pytest.raises(ConfigError, match=rf"prices\.json:1:1: providers\.maker\.models\.{model}: .*make prices"):
        small.find("maker", model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"prices\.json:1:2: .*`make prices` writes it anew"),
        (b"[]", "not a table of prices"),
        (b'{"providers": {}}', "not a table of prices"),
        (b'{"source": "", "as_of": "", "providers": []}', "not a table of prices"),
        (b'{"source": "", "as_of": "", "providers": {"a": {"fallbacks": ["b"]}}}', "fallback 'b' has no section"),
        (b"\xff", r"cannot be read \(not UTF-8\); `make prices` writes it"),
    ],
)
def test_a_broken_price_file_says_what_and_the_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    """Not a traceback: file, place, remedy."""
    with pytest.raises(ConfigError, match=message):
        load_catalogue(write(tmp_path, shipped=content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("providers: [", r"models\.yaml:\d+:\d+: "),
        ("\t", r"models\.yaml:1:1: "),
        ("[]\n", "must be a mapping"),
        ("providers: 5\n", "providers: providers must be a mapping"),
        ("providers: {maker: 5}\n", "maker must be a mapping"),
        ("providers: {maker: {models: {one: 5}}}\n", r"providers\.maker\.models\.one: a row is a mapping"),
        ("providers: {maker: {models: {one: {contxt: 5}}}}\n", "unknown field 'contxt'; there are .*context"),
        ("providers: {maker: {models: {one: {context: many}}}}\n", "context is a whole number of tokens above 0"),
        ("providers: {maker: {models: {one: {output_max: 0}}}}\n", "output_max is a whole number"),
        ("direct: {models: 5}\n", "models must be a mapping"),
        ("providers: {maker: {familes: []}}\n", "providers.maker: unknown field 'familes'; there are as_of, families"),
        ("providers: {maker: {families: 5}}\n", "providers.maker.families: families must be a list of mappings"),
        ("providers: {maker: {families: [{mach: [a]}]}}\n", "families.0: unknown field 'mach'"),
        ("providers: {maker: {families: [{capabilities: {}}]}}\n", "match is missing; list the ids"),
        ("providers: {maker: {families: [{match: ['*a*']}]}}\n", "match is a list of ids, each with at most one"),
        ("providers: {maker: {families: [{match: [a]}]}}\n", "families.0: capabilities are a mapping"),
        *(
            (f"providers: {{maker: {{models: {{one: {{capabilities: {{{given}}}}}}}}}}}\n", message)
            for given, message in (
                ("vision: true", "models.one: unknown capability 'vision'; there are efforts, forced_tools"),
                ("sampling: 0", "sampling is true or false"),
                ("thinking: much", "thinking is one of none, budget, adaptive, level"),
                ("input: [smell]", "input is a list of some of text, image, pdf"),
                ("output: []", "output is a list of some of text, image"),
                ("efforts: high", "efforts is a list of some of none, minimal"),
                ("unsupported: [5]", "unsupported is a list of request fields"),
                ("renamed: {seed: 5}", "renamed is a mapping of request fields"),
            )
        ),
        ("direct: {model: {}}\n", "direct: unknown field 'model'"),
        ("direct: {rules: [{match: a, maker: b}]}\n", "direct.rules.0: match and maker are ids with one"),
        ("direct: {rules: [{match: 'a*', maker: 'b*', dots: stars}]}\n", "dots is `dashes`, or left out"),
        ("direct: {rules: [{match: 'a*', maker: 'b*', except: x}]}\n", "except is a list of ids"),
        (
            "direct: {rules: [{match: 'a*', maker: 'b*', unless: x}]}\n",
            "unknown field 'unless'; there are dots, except",
        ),
        ("direct: {hosts: {a: b}}\n", "direct.hosts.a: a list is wanted"),
    ],
)
def test_a_broken_corrections_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    """People edit this one, so every field is checked at the start."""
    with pytest.raises(ConfigError, match=message):
        load_catalogue(write(tmp_path, corrections=text))


def test_a_corrections_file_may_be_empty(tmp_path: Path) -> None:
    """Then the prices stand as they are."""
    assert input_price(load_catalogue(write(tmp_path, corrections="")).find("maker", "one")) == Decimal(3)


@pytest.mark.parametrize("name", ["prices.json", "models.yaml"])
def test_a_missing_file_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    """Half a catalogue would be a gateway without prices."""
    (write(tmp_path) / name).unlink()
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}.*cannot be read \(No such file or directory\); "):
        load_catalogue(tmp_path)


def test_the_config_folder_is_found_in_a_checkout_and_in_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wheel it lies inside the package; beside it lie other people's folders."""
    assert find_config_dir() == ROOT / "config"
    package = tmp_path / "proxy"
    (package / "config").mkdir(parents=True)
    (tmp_path / "config").mkdir()
    monkeypatch.setattr(shipping, "__file__", str(package / "catalogue" / "shipped.py"))
    assert find_config_dir() == package / "config"
