"""The Dockerfile says what the image promises, and each promise is shown failing when the file breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Final

import pytest

from tests.container.dockerfile import Stage, is_ignored, parse
from tests.faults.serving import ROOT

TEXT: Final = (ROOT / "Dockerfile").read_text()
IGNORE: Final = (ROOT / ".dockerignore").read_text()
PINNED: Final = re.compile(r"python:3\.\d+\.\d+-slim-[a-z]+")
USER: Final = "10001:10001"
SHELLS: Final = frozenset({"sh", "bash", "curl", "wget"})

Promise = Callable[[Sequence[Stage]], bool]


def has_two_stages(stages: Sequence[Stage]) -> bool:
    """What builds stays behind; the last stage installs nothing."""
    build, final = stages
    return build.name == "build" and not any("pip" in run.text for run in final.every("RUN"))


def has_a_pinned_slim_base(stages: Sequence[Stage]) -> bool:
    """Both stages stand on the same full version of the slim image, or the environment would not run."""
    return len({stage.base for stage in stages}) == 1 and PINNED.fullmatch(stages[0].base) is not None


def installs_hashed_locks_only(stages: Sequence[Stage]) -> bool:
    """Pip takes packages from the locks with their hashes, or nothing from an index at all."""
    commands = [command for run in stages[0].every("RUN") for command in run.text.split("&&") if " pip " in command]
    sealed = ["--require-hashes" in command or "--no-index" in command for command in commands]
    named = {word for command in commands for word in command.split() if word.endswith(".lock")}
    return all(sealed) and named == {"requirements.lock", "requirements-build.lock"}


def copies_only_what_was_built(stages: Sequence[Stage]) -> bool:
    """The last stage takes nothing from the checkout, and its program belongs to root."""
    copies = stages[-1].every("COPY")
    return bool(copies) and all(copy.flags == {"from": "build"} for copy in copies)


def runs_as_nobody(stages: Sequence[Stage]) -> bool:
    """The user is a number, so that an orchestrator can see that it is not root; nothing runs as root after it."""
    final = stages[-1].instructions
    after = final[final.index(stages[-1].last("USER")) :]
    return stages[-1].last("USER").text == USER and not {"RUN", "COPY"} & {each.keyword for each in after}


def keeps_data_in_a_volume(stages: Sequence[Stage]) -> bool:
    """Only the data folder belongs to that user, and it is private."""
    owned = [run.text for run in stages[-1].every("RUN")]
    volume, data = stages[-1].last("VOLUME").text, stages[-1].variables["TURNPIKE_DATA"]
    return volume == data == "/data" and owned == ["install -d -m 0700 -o 10001 -g 10001 /data"]


def listens_to_the_outside(stages: Sequence[Stage]) -> bool:
    """A container's loopback is nobody's."""
    variables = stages[-1].variables
    port = stages[-1].last("EXPOSE").text
    return variables["TURNPIKE_HOST"] == "0.0.0.0" and variables["TURNPIKE_PORT"] == port == "4000"  # noqa: S104  # it is a container


def writes_no_bytecode(stages: Sequence[Stage]) -> bool:
    """Packages are compiled when they are installed, because nothing can be written later."""
    installs = [run.text.count("--compile") for run in stages[0].every("RUN")]
    return sum(installs) == 2 and stages[-1].variables["PYTHONDONTWRITEBYTECODE"] == "1"


def checks_its_health(stages: Sequence[Stage]) -> bool:
    """Python asks /health without a shell; the slim image has no curl."""
    check = stages[-1].last("HEALTHCHECK")
    is_exec = check.text.startswith("CMD [") and not SHELLS & set(check.words)
    return (
        is_exec and "/health" in check.text and {"interval", "timeout", "start-period", "retries"} == set(check.flags)
    )


def starts_without_a_shell(stages: Sequence[Stage]) -> bool:
    """The server itself gets the signals."""
    entry, command = stages[-1].last("ENTRYPOINT"), stages[-1].last("CMD")
    return (entry.text, command.text) == ('["turnpike"]', '["serve"]')


def finds_the_table_beside_it(stages: Sequence[Stage]) -> bool:
    """A table mounted into the working folder is found; without one the built-in table serves."""
    return stages[-1].last("WORKDIR").text == "/etc/turnpike" and "TURNPIKE_CONFIG" not in stages[-1].variables


PROMISES: Final[list[tuple[Promise, str, str]]] = [
    (has_two_stages, "RUN install -d", "RUN pip install uvicorn\nRUN install -d"),
    (has_a_pinned_slim_base, "-slim-bookworm AS build", "-bookworm AS build"),
    (has_a_pinned_slim_base, "python:3.13.14-", "python:3.13-"),
    (installs_hashed_locks_only, "--no-compile --require-hashes", "--no-compile"),
    (installs_hashed_locks_only, "--no-index --wheel-dir", "--wheel-dir"),
    (copies_only_what_was_built, "COPY --from=build /opt", "COPY ."),
    (copies_only_what_was_built, "COPY --from=build /opt", "COPY --from=build --chown=10001 /opt"),
    (runs_as_nobody, "USER 10001:10001", "USER 0"),
    (runs_as_nobody, "VOLUME /data", "RUN id"),
    (keeps_data_in_a_volume, "VOLUME /data", "VOLUME /var"),
    (keeps_data_in_a_volume, "-m 0700", "-m 0777"),
    (listens_to_the_outside, "TURNPIKE_HOST=0.0.0.0", "TURNPIKE_HOST=127.0.0.1"),
    (listens_to_the_outside, "EXPOSE 4000", "EXPOSE 80"),
    (writes_no_bytecode, "--no-deps --compile --no-index", "--no-deps --no-index"),
    (writes_no_bytecode, "PYTHONDONTWRITEBYTECODE=1", "PYTHONDONTWRITEBYTECODE=0"),
    (checks_its_health, 'CMD ["python", "-c",', 'CMD ["sh", "-c",'),
    (checks_its_health, "'/health'", "'/'"),
    (starts_without_a_shell, 'ENTRYPOINT ["turnpike"]', "ENTRYPOINT turnpike"),
    (finds_the_table_beside_it, "WORKDIR /etc/turnpike", "WORKDIR /data"),
]


@pytest.mark.parametrize(("promise", "kept", "broken"), PROMISES)
def test_each_promise_is_kept_and_would_be_missed(promise: Promise, kept: str, broken: str) -> None:
    """The file keeps it; with one thing changed it does not."""
    assert TEXT.count(kept) >= 1
    assert promise(parse(TEXT))
    assert not promise(parse(TEXT.replace(kept, broken)))


def test_the_build_sees_only_what_it_copies() -> None:
    """Everything the image is made of is let in; secrets, books and tools are not."""
    copied = [word for copy in parse(TEXT)[0].every("COPY") for word in copy.words[:-1]]
    assert [path for path in copied if is_ignored(PurePosixPath(path), IGNORE)] == []
    assert not is_ignored(PurePosixPath("proxy/cli/main.py"), IGNORE)
    kept_out = (".env", ".git/config", ".venv/bin/python", "data/ledger.db", "tests/tidy.py", "routes.yaml", "x.pem")
    made = ("proxy/__pycache__/a.pyc", "proxy/cli/__pycache__/b.txt", "proxy/cli/b.pyc", "config/c.pyo")
    assert [path for path in (*kept_out, *made) if not is_ignored(PurePosixPath(path), IGNORE)] == []


def test_an_instruction_out_of_place_is_not_read_over() -> None:
    """What the parser does not know it does not pass."""
    for text in ("FROM a\nADD x y\n", "RUN true\n"):
        with pytest.raises(AssertionError, match=r"no instruction we know: ADD|before the first FROM"):
            parse(text)
