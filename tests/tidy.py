"""House rules that no linter knows, as pure functions from a file's text to findings.

Each rule takes text and gives back one line per breach, so that it can be shown failing on planted text;
`test_tidy.py` holds them against the whole checkout. Rules that ruff, mypy or import-linter can state live there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
BANNED_NAMES = frozenset({"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"})
BROAD = frozenset({"Exception", "BaseException"})

# Written so that these lines do not find themselves.
LEFT_FOR_LATER = re.compile(r"\b(?:T[O]DO|F[I]XME|X[X]X|H[A]CK)\b(?!.*#\d)")
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:w[o]rk|r[o]ot|Us[e]rs/\w+|h[o]me/(?!canary/)\w+)/")
PATH_NAME = re.compile(r"(?:^|_)(?:dir|file|folder|path|root)$", re.IGNORECASE)
TIME_NAME = re.compile(r"_m?s(?:_max|_min)?$", re.IGNORECASE)
MAKE_TARGET = re.compile(r"\bmake ([a-z]+)\b")
ADDRESS = re.compile(r"://|(?:^|[\s\"'=])/[\w.-]+/|--find-links|--(?:extra-)?index-url")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str], list[str]]


def long_files(text: str) -> list[str]:
    """A file is one idea: more than `FILE_LINES_MAX` lines are two."""
    count = len(text.splitlines())
    return [f"{count}: the file has {count} lines, {FILE_LINES_MAX} at most"] if count > FILE_LINES_MAX else []


def long_functions(text: str) -> list[str]:
    """A function fits on a screen."""
    return [
        f"{function.lineno}: {function.name} has {size} lines, {FUNCTION_LINES_MAX} at most"
        for function in functions(text)
        if (size := (function.end_lineno or function.lineno) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]


def wide_functions(text: str) -> list[str]:
    """A function takes `PARAMETERS_MAX` things at most, its own object not counted; a typer command has its flags."""
    return [
        f"{function.lineno}: {function.name} takes {count} parameters, {PARAMETERS_MAX} at most"
        for function in functions(text)
        if (count := parameter_count(function.args)) > PARAMETERS_MAX and not is_command(function)
    ]


def floats(text: str) -> list[str]:
    """Money knows no float: no float literal, no `float(...)`, no true division.

    A time may be one (`timeout_s = 0.5`: the name says so), and a path's `/ "name"` divides nothing.
    """
    findings = []
    tree = ast.parse(text)
    times = {id(part) for node in ast.walk(tree) for value in timed_values(node) for part in ast.walk(value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex) and id(node) not in times:
            findings.append(f"{node.lineno}: the float {node.value!r}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            findings.append(f"{node.lineno}: a call of float()")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div) and not joins_path(node):
            findings.append(f"{node.lineno}: a true division")
    return findings


def broad_excepts(text: str) -> list[str]:
    """A foreign exception is caught by its name, where it is mapped to ours; to tidy up and raise it again is fine."""
    findings = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or BROAD & names(node.type)):
            last = node.body[-1]
            if isinstance(last, ast.Raise) and last.exc is None:
                continue
            findings.append(f"{node.lineno}: a broad except")
        elif isinstance(node, ast.Call) and "suppress" in names(node.func) and any(BROAD & names(a) for a in node.args):
            findings.append(f"{node.lineno}: a broad suppress")
    return findings


def undescribed_tests(text: str) -> list[str]:
    """A test says in one line which behaviour it holds."""
    return [
        f"{function.lineno}: {function.name} has no docstring"
        for function in functions(text)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]


def unfinished(text: str) -> list[str]:
    """What is left for later has the number of its issue."""
    return by_line(LEFT_FOR_LATER, text, "left for later without an issue's number")


def machine_paths(text: str) -> list[str]:
    """Nothing names a folder of somebody's machine."""
    return by_line(MACHINE_PATH, text, "a path of somebody's machine")


def addresses(text: str) -> list[str]:
    """A lock names packages and hashes: no index, no host, no path."""
    return by_line(ADDRESS, text, "an address in a lock")


def banned_name(stem: str) -> list[str]:
    """A module's name says what it is about; these words say nothing."""
    return [f"0: {stem} is no name for a module"] if stem.lower() in BANNED_NAMES else []


def make_targets(text: str, known: frozenset[str]) -> set[str]:
    """The targets of the Makefile that `text` tells its reader to make."""
    return set(MAKE_TARGET.findall(text)) & known


def functions(text: str) -> Iterator[Function]:
    """Every function and method of a module, nested ones too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_command(function: Function) -> bool:
    """Whether typer makes a command of it: its parameters are the command's flags."""
    return any("command" in names(decorator) for decorator in function.decorator_list)


def parameter_count(parameters: ast.arguments) -> int:
    """Count all kinds of parameters but a leading self or cls."""
    positional = [*parameters.posonlyargs, *parameters.args]
    own = bool(positional) and positional[0].arg in {"self", "cls"}
    rest = [parameter for parameter in (parameters.vararg, parameters.kwarg) if parameter]
    return len(positional) - own + len(parameters.kwonlyargs) + len(rest)


def timed_values(node: ast.AST) -> list[ast.expr]:
    """The value a node gives to a name that ends in seconds or milliseconds, if it gives one."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if TIME_NAME.search(name):
            return [value]
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if TIME_NAME.search(name):
            return [value]
        case ast.keyword(arg=str(name), value=value) if TIME_NAME.search(name):
            return [value]
        case ast.arguments(kwonlyargs=parameters, kw_defaults=defaults):
            pairs = zip(parameters, defaults, strict=True)
            return [default for parameter, default in pairs if default and TIME_NAME.search(parameter.arg)]
        case _:
            return []


def joins_path(node: ast.BinOp | ast.AugAssign) -> bool:
    """Whether a division is a path joined with a name: `folder / "name"`, `data_dir / FILE`."""
    left, right = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
    if any(isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str) for side in (left, right)):
        return True
    return any(PATH_NAME.search(name) for name in names(left))


def names(node: ast.expr) -> set[str]:
    """Every plain and dotted name within an expression, by its last part."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def by_line(pattern: re.Pattern[str], text: str, finding: str) -> list[str]:
    """One finding for each line that holds `pattern`."""
    return [f"{number}: {finding}" for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
