"""From a client's request to one upstream call."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson
import pytest

from proxy.app.parts import make_codec
from proxy.codecs.wire import Surface
from proxy.gateway.errands import Asked, write_errand
from proxy.policy.timeouts import Clocks
from proxy.pricing import ModelFacts
from proxy.relay import Errand
from proxy.routing.plan import Candidate
from proxy.routing.principal import Principal
from proxy.routing.table import Dialect
from tests.gateway.stage import a_provider, a_table, a_target

CLOCKS = Clocks(connect_s=1.0, first_token_s=5.0, idle_s=5.0, total_s=5.0)
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


def write(
    dialect: Dialect = Dialect.OPENAI,
    *,
    surface: Surface = Surface.OPENAI,
    forwarded: dict[str, str] | None = None,
    capabilities: dict[str, object] | None = None,
    cap: int | None = None,
    **fields: Any,
) -> Errand:
    """Write the call of a candidate of this dialect."""
    facts = ModelFacts(capabilities=capabilities or {})
    target = replace(a_target("one/m", facts=facts), provider=a_provider("one", dialect=dialect))
    body = {**BODY, **fields}
    candidate = Candidate(target, body, CLOCKS, output_tokens_max=cap)
    asked = Asked(body, 10, surface, Principal("app"), a_table(), "req", None, 0.0, forwarded=forwarded or {})
    return write_errand(candidate, asked, make_codec(target.provider), created_s=17)


def test_an_errand_is_the_candidates_call() -> None:
    """Its model, its cap, its clocks, when it was asked."""
    errand = write(cap=5)
    assert (errand.provider.name, errand.clocks, errand.created_s, errand.choices) == ("one", CLOCKS, 17, 1)
    assert orjson.loads(errand.call.body) == {**BODY, "model": "m", "max_tokens": 5}
    assert not errand.call.is_stream


@pytest.mark.parametrize(
    ("given", "user"),
    [
        ("alice", "alice"),
        ("u" * 256, "u" * 256),
        ("u" * 257, f"sha256:{sha256(b'u' * 257).hexdigest()}"),
        ("a\nb", f"sha256:{sha256(b'a' + bytes([10]) + b'b').hexdigest()}"),
        ("", None),
        (5, None),
        (None, None),
    ],
)
def test_a_user_that_cannot_be_shown_is_somebody_too(given: object, user: str | None) -> None:
    """Else the limits of each user would not hold for him."""
    asked = Asked({**BODY, "user": given}, 10, Surface.OPENAI, Principal("app"), a_table(), "req", None, 0.0)
    assert asked.user == user


@pytest.mark.parametrize(("n", "choices"), [(1, 1), (3, 3), (None, 1)])
def test_a_whole_answer_has_so_many_choices(n: int | None, choices: int) -> None:
    """The client's `n`."""
    assert write(n=n).choices == choices


@pytest.mark.parametrize(
    ("surface", "dialect", "parse_all"),
    [
        (Surface.OPENAI, Dialect.OPENAI, False),
        (Surface.OPENAI, Dialect.OPENROUTER, False),
        (Surface.OPENROUTER, Dialect.OPENROUTER, False),
        (Surface.OPENROUTER, Dialect.OPENAI, True),
        (Surface.OPENROUTER, Dialect.ANTHROPIC, True),
    ],
)
def test_every_chunk_is_parsed_only_where_each_must_change(
    surface: Surface, dialect: Dialect, *, parse_all: bool
) -> None:
    """OpenRouter's SDKs demand keys others leave out."""
    assert write(dialect, surface=surface).parse_all is parse_all


def test_the_clients_headers_go_to_who_understands_them() -> None:
    """Of the provider's dialect."""
    sent = {"x-session-id": "s", "x-anthropic-beta": "b"}
    assert write(Dialect.OPENROUTER, forwarded=sent).call.headers == sent
    assert write(Dialect.OPENAI, forwarded=sent).call.headers == {}
    assert write(Dialect.ANTHROPIC, forwarded=sent).call.headers["anthropic-beta"] == "b"


def test_the_codec_knows_what_the_model_can_do() -> None:
    """What it cannot say is named."""
    asked: dict[str, Any] = {"reasoning": {"effort": "high"}}
    assert write(**asked).call.dropped == ("reasoning",)
    known = write(capabilities={"efforts": ("low", "high")}, **asked)
    assert known.call.dropped == ()
    assert orjson.loads(known.call.body)["reasoning_effort"] == "high"
