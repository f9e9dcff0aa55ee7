"""The house rules of `tidy.py`, held against the checkout, and each shown failing on planted text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.catalogue import load_catalogue
from proxy.files import config_folder, load_table, routes_schema
from tests import tidy

ROOT = Path(__file__).parent.parent
FOLDERS = ("proxy", "config", "tests", "bench", "scripts", "docs", ".ci")
SKIPPED = frozenset({"__pycache__", "node_modules"})
TEXTS = frozenset({".md", ".py", ".sh", ".sql", ".toml", ".yaml", ".yml", ".c", ".mjs", ""})
MONEY = ("proxy/money*", "proxy/pricing*", "proxy/usage*", "proxy/metering*", "proxy/ledger/**/*")
TARGETS = frozenset({"setup", "run", "test", "coverage", "check", "bench", "torture", "mutants", "prices"})

# The last resorts: where a bug of ours must not take the process or another request with it. Two at most.
BROAD_EXCEPTS_ALLOWED = frozenset({"proxy/cli/main.py", "proxy/edge/chat.py"})


def checkout(*patterns: str) -> Iterator[Path]:
    """Every file of the checkout that one of the patterns names, made and fetched ones left out."""
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and not SKIPPED & set(path.parts):
                yield path


def breaches(rule: tidy.Rule, paths: Iterator[Path]) -> list[str]:
    """Hold a rule against files and name each breach by its place."""
    return [f"{path.relative_to(ROOT)}:{finding}" for path in paths for finding in rule(path.read_text())]


def modules() -> Iterator[Path]:
    """Every Python file of ours."""
    return checkout("proxy/**/*.py", "tests/**/*.py", "bench/**/*.py", "scripts/**/*.py")


def texts() -> Iterator[Path]:
    """Every file a person wrote."""
    return (path for path in checkout("*", *(f"{folder}/**/*" for folder in FOLDERS)) if path.suffix in TEXTS)


@pytest.mark.parametrize("rule", [tidy.long_files, tidy.long_functions, tidy.wide_functions])
def test_files_and_functions_stay_small(rule: tidy.Rule) -> None:
    """No file, function or parameter list outgrows its limit."""
    assert breaches(rule, modules()) == []


def test_money_modules_know_no_float() -> None:
    """Money is counted in whole nano-dollars and exact decimals."""
    assert breaches(tidy.floats, (path for path in checkout(*MONEY) if path.suffix == ".py")) == []


def test_exceptions_are_caught_by_name() -> None:
    """A broad except stands in the listed places only, and the list stays short."""
    found = breaches(tidy.broad_excepts, checkout("proxy/**/*.py"))
    assert len(BROAD_EXCEPTS_ALLOWED) <= 2
    assert [place for place in found if place.split(":")[0] not in BROAD_EXCEPTS_ALLOWED] == []


def test_every_test_has_a_docstring() -> None:
    """The suite reads as a list of behaviours."""
    assert breaches(tidy.undescribed_tests, checkout("tests/**/test_*.py")) == []


@pytest.mark.parametrize("rule", [tidy.unfinished, tidy.machine_paths])
def test_texts_are_finished_and_portable(rule: tidy.Rule) -> None:
    """Nothing is left for later without an issue, and nothing names somebody's machine."""
    assert breaches(rule, texts()) == []


def test_modules_have_telling_names() -> None:
    """No module or folder is called after nothing."""
    stems = {part for path in modules() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert [finding for stem in sorted(stems) for finding in tidy.banned_name(stem)] == []


def test_locks_name_no_address() -> None:
    """A lock can be installed from any index; npm's lock keeps no download address."""
    assert breaches(tidy.addresses, checkout("requirements*.lock", "tests/**/requirements*.lock")) == []
    for path in checkout("tests/**/package-lock.json"):
        packages = json.loads(path.read_text())["packages"].values()
        assert [package["resolved"] for package in packages if "resolved" in package] == [], path


def test_locks_hash_every_package() -> None:
    """Each pinned package is followed by its hashes."""
    for path in checkout("requirements*.lock", "tests/**/requirements*.lock"):
        bare = re.findall(r"^[\w.-]+==\S+(?: ;.*[^\\])?$", path.read_text(), re.MULTILINE)
        assert bare == [], path


def test_makefile_has_the_targets_it_is_said_to_have() -> None:
    """The Makefile offers what its documents say and nothing else."""
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == TARGETS


def test_readme_names_two_targets() -> None:
    """A newcomer meets `make run` and `make test`; the others are for developers."""
    assert tidy.make_targets((ROOT / "README.md").read_text(), TARGETS) == {"run", "test"}


def test_promises_name_tests_that_exist() -> None:
    """A promise is kept by a test one can run, not by a name."""
    named = set(re.findall(r"`(?:[\w/.]+::)?(test_\w+)`", (ROOT / "docs/promises.md").read_text()))
    written = {
        function.name for path in checkout("tests/**/test_*.py") for function in tidy.functions(path.read_text())
    }
    assert named - written == set()


PLANTED: list[tuple[Callable[[str], object], str, str]] = [
    (tidy.long_files, "x = 1\n" * 500, "x = 1\n" * 501),
    (tidy.long_functions, "def f():\n" + "    x = 1\n" * 59, "def f():\n" + "    x = 1\n" * 60),
    (tidy.wide_functions, "def f(self, a, b, c, *, d, e, f): ...", "def f(a, b, c, *, d, e, f, **g): ..."),
    (tidy.wide_functions, "async def f(a, b, c, d, e, *f): ...", "async def f(a, b, c, d, e, f, *g): ..."),
    (tidy.wide_functions, "@app.command()\ndef f(a, b, c, d, e, f, g): ...", "@cache\ndef f(a, b, c, d, e, f, g): ..."),
    (tidy.floats, "x = 1", "x = 1.0"),
    (tidy.floats, "x: float = y()", "x = float(y)"),
    (tidy.floats, "WAIT_S_MAX = 0.5", "COST_USD_MAX = 0.5"),
    (tidy.floats, "at_s: float = 0.0", "costs: float = 0.0"),
    (tidy.floats, "f(timeout_s=0.5, wait_ms=-2.5)", "f(timeout_s=1, cost=0.5)"),
    (tidy.floats, "def f(*, a, wait_s=0.5): ...", "def f(*, wait_s, a=0.5): ..."),
    (tidy.floats, "x = a // b", "x = a / b"),
    (tidy.floats, "x = folder / 'name'", "x /= 2"),
    (tidy.floats, "x = self.data_dir / FILE / y", "x = total / FILE"),
    (tidy.floats, "x = folder / f'{name}.db'", "x = Decimal(1) / 3"),
    (tidy.broad_excepts, "try: f()\nexcept OSError: pass", "try: f()\nexcept: pass"),
    (tidy.broad_excepts, "try: f()\nexcept (OSError, KeyError): pass", "try: f()\nexcept (OSError, Exception): pass"),
    (
        tidy.broad_excepts,
        "try: f()\nexcept BaseException:\n    g()\n    raise",
        "try: f()\nexcept Exception as e: raise X from e",
    ),
    (tidy.broad_excepts, "with suppress(OSError): f()", "with contextlib.suppress(BaseException): f()"),
    (tidy.undescribed_tests, 'def test_x():\n    """It holds."""', "class TestX:\n    def test_x(self): ..."),
    (tidy.unfinished, "# T" + "ODO(#12): later", "# T" + "ODO: later"),
    (tidy.machine_paths, "see ./work/x, https://h.example/root/x, /home/canary/x", "see /r" + "oot/x"),
    (tidy.machine_paths, "a /homeless/path", "'/h" + "ome/somebody/x'"),
    (tidy.addresses, "a==1 \\\n    --hash=sha256:00", "a @ https://host.example/a.whl"),
    (tidy.addresses, "# via -r pyproject.toml", "# via -r /somewhere/pyproject.toml"),
    (tidy.banned_name, "basement", "Utils"),
]


@pytest.mark.parametrize(("rule", "clean", "planted"), PLANTED)
def test_each_rule_finds_what_is_planted(rule: Callable[[str], object], clean: str, planted: str) -> None:
    """A rule passes the neighbour of a breach and finds the breach itself."""
    assert not rule(clean)
    assert rule(planted)


def test_make_targets_are_told_from_prose() -> None:
    """Only words that are targets count as targets."""
    text = "make sure to `make run` first; make no check of it, but make bench"
    assert tidy.make_targets(text, TARGETS) == {"run", "bench"}


def test_schema_is_fresh() -> None:
    """The schema that editors read is the one the loader checks by."""
    written = json.loads((ROOT / "config/routes.schema.json").read_text())
    assert written == routes_schema(), "stale: .venv/bin/python scripts/write_schema.py"


@pytest.mark.parametrize(
    "path", sorted([ROOT / "routes.yaml", *ROOT.glob("config/examples/*.yaml")]), ids=lambda p: p.stem
)
def test_shipped_tables_load(path: Path) -> None:
    """The routing table in use and every example are whole, and answer for at least one model."""
    variables = set(re.findall(r"\$\{(\w+)\}", path.read_text()))
    environ = {name: f"https://{name.lower().replace('_', '-')}.example" for name in variables}
    catalogue = load_catalogue(config_folder())
    assert load_table(path, environ=environ, catalogue=catalogue).routes
