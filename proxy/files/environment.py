"""Variables a routing table may draw in: the process environment over `.env` (part of `files`, floor 2).

Values are secrets: they go into a table and nowhere else. Findings name a variable, never what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.files.document import FILE_BYTES_MAX
from proxy.files.problems import Problems
from proxy.routing.table import Secret

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_BRACED = re.compile(r"\$\{(" + _NAME + r")\}")
_FOREIGN = re.compile(r"os\.environ/(" + _NAME + r")")
_BARE = re.compile(r"\$(" + _NAME + r")")
_LINE = re.compile(r"(?:export\s+)?(" + _NAME + r")\s*=\s*(.*)")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class UnsetVariableError(ValueError):
    """A variable that is asked for and not set; empty counts as not set."""

    def __init__(self, name: str) -> None:
        """Say which one."""
        super().__init__(f"the variable {name} is not set; set it in the environment or in .env beside the file")
        self.name = name


@dataclass(frozen=True, slots=True)
class Credential:
    """A provider's key, or why there is none."""

    secret: Secret | None = None
    missing: str | None = None


class Environment:
    """What `${VAR}` may stand for; remembers which names were drawn in."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Take the variables as they are."""
        self._variables = variables
        self.drawn: set[str] = set()
        self.secrets: set[str] = set()

    def find(self, name: str) -> str | None:
        """Give a variable's value without surrounding blanks, None when it is unset or empty."""
        value = self._variables.get(name, "").strip()
        if not value:
            return None
        self.drawn.add(name)
        self.secrets.add(value)
        return value

    def expand(self, text: str) -> str:
        """Fill in `${VAR}` anywhere and `os.environ/VAR` as a whole; ValueError for what cannot be filled in."""
        foreign = _FOREIGN.fullmatch(text)
        if foreign:
            return self._need(foreign[1])
        bare = _BARE.fullmatch(text)
        if bare:
            raise ValueError(f"a variable is written with braces: ${{{bare[1]}}}")
        if "${" in _BRACED.sub("", text):
            raise ValueError("a variable is written as ${NAME}, letters, digits and _ only, without a default")
        return _BRACED.sub(lambda match: self._need(match[1]), text)

    def credential(self, text: str) -> Credential:
        """Read a provider's `api_key`; an unset variable is no error, the provider is just not ready."""
        try:
            value = self.expand(text).strip()
        except UnsetVariableError as error:
            return Credential(missing=f"{error.name} is not set")
        if not _VISIBLE.fullmatch(value):
            return Credential(missing="its api_key holds characters that no header can carry")
        return Credential(Secret(value))

    def credential_from(self, names: tuple[str, ...]) -> Credential:
        """Take the first of these variables that is set."""
        value = next(filter(None, map(self.find, names)), None)
        if value is None:
            return Credential(missing=f"{' or '.join(names)} is not set")
        if not _VISIBLE.fullmatch(value):
            return Credential(missing=f"{names[0]} holds characters that no header can carry")
        return Credential(Secret(value))

    def _need(self, name: str) -> str:
        value = self.find(name)
        if value is None:
            raise UnsetVariableError(name)
        return value


def mentions_variable(text: str) -> bool:
    """Tell whether a text asks for a variable."""
    return bool(_BRACED.search(text) or _FOREIGN.search(text))


def read_dotenv(path: Path) -> dict[str, str]:
    """Read `NAME=value` lines, {} when there is no such file; raises ConfigError naming lines that are neither."""
    problems = Problems(str(path))
    try:
        if not path.is_file():
            return {}  # some keep a folder of that name
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise problems.fatal(1, 1, f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise problems.fatal(1, 1, f"the file is larger than {FILE_BYTES_MAX // 1024} KiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise problems.fatal(content[: error.start].count(b"\n") + 1, 1, "the file is not UTF-8") from error
    return _parse_dotenv(text, problems)


def _parse_dotenv(text: str, problems: Problems) -> dict[str, str]:
    variables: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.add_at(number, 1, "not a NAME=value line; comments begin with #")
            continue
        variables[match[1]] = _unquote(match[2])
    if problems:
        raise problems.error()
    return variables


def _unquote(value: str) -> str:
    for quote in ('"', "'"):
        if value.startswith(quote) and (end := value.find(quote, 1)) > 0:
            return value[1:end]
    return re.split(r"\s+#", value, maxsplit=1)[0].strip()
