"""Providers, targets, tables and plans, made in one line for the tests of routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from proxy.policy.timeouts import Clocks
from proxy.pricing import ModelFacts, Prices
from proxy.routing.plan import Candidate, Plan
from proxy.routing.principal import Principal
from proxy.routing.table import Dialect, Provider, Route, Simulation, Table, Target

CLOCKS = Clocks(connect_s=3, first_token_s=60, idle_s=60, total_s=900)
ANYONE = Principal("app")


def prices(per_input: int | str = 1, per_output: int | str = 2, *, source: str = "routes.yaml") -> Prices:
    """Make a price in USD per million tokens."""
    return Prices(Decimal(per_input), Decimal(per_output), source=source)


def provider(name: str, *, dialect: Dialect | None = None, **more: Any) -> Provider:
    """Make a provider; one whose name begins with `or` speaks OpenRouter's dialect unless told."""
    spoken = dialect or (Dialect.OPENROUTER if name.startswith("or") else Dialect.OPENAI)
    return Provider(name, spoken, base_url="https://up.example/v1", **more)


def static(name: str = "static") -> Target:
    """Make a fixed answer, as a last resort."""
    return Target(Provider(name, Dialect.SIMULATED, simulation=Simulation(content="Later.")), "fixed")


def target(
    name: str,
    *,
    facts: ModelFacts | None = None,
    not_ready: str | None = None,
    owner: Mapping[str, Any] | None = None,
    **more: Any,
) -> Target:
    """Make the target `provider/model`; `owner` says more of the provider."""
    whose, _, model = name.partition("/")
    return Target(provider(whose, not_ready=not_ready, **(owner or {})), model, facts=facts or ModelFacts(), **more)


def table(routes: Mapping[str, Sequence[str | Target]], **more: Any) -> Table:
    """Make a table of chains; names with a `*` become globs, in the order given."""
    made = [
        Route(name, tuple(target(part) if isinstance(part, str) else part for part in parts))
        for name, parts in routes.items()
    ]
    return Table(
        id="t",
        providers={},
        routes={route.name: route for route in made if not route.is_glob},
        globs=tuple(route for route in made if route.is_glob),
        **more,
    )


def plan_of(*targets: str | Target, body: Mapping[str, Any] | None = None, retries: int = 3, **more: Any) -> Plan:
    """Make a plan of these targets, all with the same body."""
    made = [target(part) if isinstance(part, str) else part for part in targets]
    fields: dict[str, Any] = {"max_cost_nano_usd": None, "has_budget": False, **more}
    return Plan(
        alias="chat",
        route=Route("chat", tuple(made)),
        candidates=tuple(Candidate(part, body or {}, CLOCKS) for part in made),
        skipped=(),
        retries=retries,
        total_s=900,
        **fields,
    )
