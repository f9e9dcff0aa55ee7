"""Variables: the process environment over `.env`."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.files.document import FILE_BYTES_MAX
from proxy.files.environment import Environment, read_dotenv
from proxy.routing.table import Secret
from tests.files.tables import load

DOTENV = """
# a comment
PLAIN=one
export SPACED =  two words   # and a comment
DOUBLE="three # four"
SINGLE='five'
HASH=a#b
EMPTY=
OPEN="six
"""


def test_dotenv_lines_are_read(tmp_path: Path) -> None:
    """Names, quotes, `export` and comments; nothing is filled in."""
    path = tmp_path / ".env"
    path.write_text(DOTENV)
    assert read_dotenv(path) == {
        "PLAIN": "one",
        "SPACED": "two words",
        "DOUBLE": "three # four",
        "SINGLE": "five",
        "HASH": "a#b",
        "EMPTY": "",
        "OPEN": '"six',
    }


def test_no_dotenv_is_no_variables(tmp_path: Path) -> None:
    """Neither a missing file nor a folder of that name is a finding."""
    assert read_dotenv(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    assert read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize(
    ("content", "where"),
    [(b"A=1\nsecret words\n", ":2:1: "), (b"A=1\n\xff\n", ":2:1: "), (b"#" * (FILE_BYTES_MAX + 1), ":1:1: ")],
)
def test_a_bad_dotenv_is_told_by_line_and_not_shown(tmp_path: Path, content: bytes, where: str) -> None:
    """A line that is no NAME=value may be half a secret."""
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "models: {c: openai/gpt-4o}")
    assert f".env{where}" in str(caught.value)
    assert "secret words" not in str(caught.value)


def test_an_unreadable_dotenv_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses becomes a finding."""
    (tmp_path / ".env").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read_dotenv(tmp_path / ".env")


def test_the_process_environment_wins_over_dotenv(tmp_path: Path) -> None:
    """And both count for known providers and for references."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file\nXAI_API_KEY=from-file\n")
    table = load(tmp_path, "models: {c: openai/gpt-4o}", {"OPENAI_API_KEY": "from-process"})
    assert table.providers["openai"].api_key == Secret("from-process")
    assert table.providers["xai"].api_key == Secret("from-file")


def test_variables_are_filled_in_where_they_may_stand(tmp_path: Path) -> None:
    """Credentials, URLs, headers and client keys, in our form and in LiteLLM's."""
    text = """
providers:
  local: {dialect: openai, base_url: "http://${HOST}:8000/v1", api_key: os.environ/KEY, headers: {X-A: "a ${HOST} b"}}
  openrouter: {api_key: "${KEY}", site_url: "https://${HOST}", site_name: My app}
models: {c: openai/gpt-4o}
keys: [{name: x, key: "${KEY}"}]
"""
    table = load(tmp_path, text, {"HOST": "h.example", "KEY": "  0123456789\n"})
    local, openrouter = table.providers["local"], table.providers["openrouter"]
    assert (local.base_url, local.api_key, local.headers) == (
        "http://h.example:8000/v1",
        Secret("0123456789"),
        {"X-A": "a h.example b"},
    )
    assert openrouter.headers == {"HTTP-Referer": "https://h.example", "X-Title": "My app"}
    assert table.keys[0].sha256_hex == "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "GEMINI_API_KEY or GOOGLE_API_KEY is not set"),
        ({"GEMINI_API_KEY": " "}, "GEMINI_API_KEY or GOOGLE_API_KEY is not set"),
        ({"GOOGLE_API_KEY": "a\x00b"}, "GEMINI_API_KEY holds characters that no header can carry"),
    ],
)
def test_a_known_key_is_found_or_its_variables_are_named(environ: dict[str, str], reason: str) -> None:
    """The first variable that is set counts; empty is not set."""
    credential = Environment(environ).credential_from(("GEMINI_API_KEY", "GOOGLE_API_KEY"))
    assert credential.missing == reason
    assert Environment({"GOOGLE_API_KEY": "k"}).credential_from(("GEMINI_API_KEY", "GOOGLE_API_KEY")).secret == Secret(
        "k"
    )


def test_a_credential_no_header_can_carry_leaves_the_provider_not_ready(tmp_path: Path) -> None:
    """Its value is not shown."""
    text = 'providers: {openai: {api_key: "${KEY}"}}\nmodels: {c: openai/gpt-4o}\n'
    table = load(tmp_path, text, {"KEY": "h\u00e4h 3"})
    assert table.providers["openai"].not_ready == "its api_key holds characters that no header can carry"
