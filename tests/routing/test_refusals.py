"""A plan that has no candidate, in the words that fit."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import NotFound, RequestError, UpstreamUnusable
from proxy.pricing import ModelFacts
from proxy.routing.plan import make_plan
from proxy.routing.refusals import require_candidate
from proxy.routing.table import Catalogue, Table
from tests.routing.made import ANYONE, prices, static, table, target

UNREADY = "OPENAI_API_KEY is not set"
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}]
BLIND = ModelFacts(prices(1, 1), capabilities={"input": ("text",), "tools": False})


def refuse(made: Table, *, model: str = "chat", **fields: Any) -> RequestError:
    """Plan a request that nobody can serve."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    plan = make_plan(body, principal=ANYONE, table=made, facts=Catalogue().find)
    with pytest.raises(RequestError) as caught:
        require_candidate(plan, principal=ANYONE, table=made)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"provider": {"zdr": True}}, "No endpoints found matching your data policy."),
        ({"provider": {"data_collection": "deny"}}, "No endpoints found matching your data policy."),
        ({"messages": PICTURE}, "No endpoints found that support image input."),
        ({"tools": [{"type": "function"}]}, "No endpoints found that support tool use."),
        ({"provider": {"only": ["groq"]}}, "No allowed providers are available for the selected model."),
        ({"provider": {"max_price": {"prompt": 0}}}, "No allowed providers are available for the selected model."),
        ({"preset": "mine"}, "No endpoints found: this request asks for what exists only at OpenRouter."),
        ({"plugins": [{"id": "web"}]}, "No endpoints found: this request asks for what exists only at OpenRouter."),
    ],
)
def test_what_the_client_asked_for_beside_the_model_is_named(fields: dict[str, Any], phrase: str) -> None:
    """In OpenRouter's first phrases, which clients look for; then each target and its reason."""
    error = refuse(table({"chat": [target("openai/m", facts=BLIND)]}), **fields)
    assert isinstance(error, NotFound)
    assert (error.status, error.code, error.param) == (404, "no_endpoints", "model")
    assert error.message.startswith(f"{phrase} (openai/m: ")
    assert error.metadata == {"error_type": "not_found"}


def test_privacy_comes_first_then_ability_then_the_rest() -> None:
    """One phrase for several reasons, and all the reasons behind it."""
    blind, plain = target("openai/m", facts=BLIND), target("groq/m")
    both = refuse(table({"chat": [blind, plain]}), messages=PICTURE, provider={"zdr": True})
    assert both.message.startswith("No endpoints found matching your data policy.")
    assert "openai/m: it does not support image input; groq/m: `provider.zdr`" in both.message
    mixed = refuse(table({"chat": [blind, plain]}), messages=PICTURE, provider={"only": ["openai"]})
    assert mixed.message.startswith("No endpoints found that support image input.")
    other = refuse(table({"chat": [plain, target("xai/m")]}), plugins=[{"id": "web"}], provider={"only": ["openai"]})
    assert other.message.startswith("No endpoints found: this request asks for what exists only at OpenRouter.")


def test_what_the_client_asked_for_comes_before_what_the_operator_owes() -> None:
    """Even with every provider ready it would have been left out."""
    unready = target("xai/m", not_ready=UNREADY)
    error = refuse(table({"chat": [unready, "openai/m"]}), provider={"zdr": True})
    assert error.code == "no_endpoints"


def test_a_model_of_the_operators_own_is_theirs_to_mend() -> None:
    """503 with what is missing."""
    error = refuse(table({"chat": [target("openai/m", not_ready=UNREADY)]}))
    assert isinstance(error, UpstreamUnusable)
    assert error.message.startswith(f"No target of the model 'chat' is ready: openai/m: {UNREADY}.")


def test_a_suffix_nobody_serves_is_a_slip() -> None:
    """404 with the nearest names."""
    error = refuse(table({"chat": ["openai/m"]}), model="chat:free")
    assert isinstance(error, NotFound)
    assert (error.code, error.metadata) == ("model_not_found", {"near": ["chat"]})
    assert "'chat:free' cannot be served: openai/m: `:free` exists only at OpenRouter" in error.message


def test_a_name_only_a_glob_let_through_is_a_slip() -> None:
    """As if it did not exist, and why the glob did not help."""
    error = refuse(table({"chat": ["or/m"], "*": [target("openai/*", not_ready=UNREADY)]}), model="chad")
    assert (error.status, error.metadata) == (404, {"near": ["chat"]})
    assert UNREADY in error.message


def test_a_candidate_is_enough() -> None:
    """A last resort as well, whatever was asked for."""
    made = table({"chat": [target("openai/m", facts=BLIND), static()]})
    body = {"model": "chat", "messages": PICTURE, "provider": {"zdr": True}, "preset": "mine"}
    plan = make_plan(body, principal=ANYONE, table=made, facts=Catalogue().find)
    require_candidate(plan, principal=ANYONE, table=made)
    with pytest.raises(NotFound):
        require_candidate(plan._replace(candidates=()), principal=ANYONE, table=made)
