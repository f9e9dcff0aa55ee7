"""Past requests under another routing table (floor 1b, pure): what they would have cost, and what budgets would say.

No prompt is kept, so a request is its token counts: each goes to the first target that is ready, or to the first one
when none is, and is priced there. Answers of another model would be longer or shorter, and fallbacks, rates and limits
of requests at once are not played. Budgets begin empty, and count what the requests before would have cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.errors import RequestError
from proxy.money import Budget
from proxy.policy.calendar import Window, find_window
from proxy.policy.limits import Balance, find_shortfall
from proxy.policy.scopes import PAYER_GATEWAY, PAYER_TENANT, Subject, places_of, rules_of
from proxy.pricing import cost
from proxy.routing.principal import Principal
from proxy.routing.resolve import Facts, resolve
from proxy.routing.table import DeclaredKey, Table, Target, Tenant
from proxy.usage import Usage

CHOICES_KEPT_MAX = 10_000
"""Names asked for by keys whose target is remembered."""


class PastRequest(NamedTuple):
    """A request as the books know it."""

    key: str
    tenant: str | None
    user: str | None
    tags: tuple[tuple[str, str], ...]
    model: str
    """As asked for."""
    at_s: float
    usage: Usage | None
    """Of its answer; None: nobody counted its tokens, or there was no answer."""
    cost_nano_usd: int | None
    """All attempts together; None: some of it is unknown."""
    is_free: bool = False
    """It came out of the response cache, or was never answered: nothing is to be paid for it."""


class _Choice(NamedTuple):
    """Where a name leads."""

    alias: str
    target: Target
    is_ready: bool


@dataclass(slots=True)
class Outcome:
    """What became of the requests of one key for one model, before and now."""

    requests: int = 0
    spent_nano_usd: int = 0
    """As booked, of those that have a cost under the other table or are refused by it."""
    spent_unknown: int = 0
    """Requests of which some cost was not known then."""
    cost_nano_usd: int = 0
    """As the other table prices them, those it lets in."""
    refused: int = 0
    """Requests that some budget has no room for."""
    redirected: int = 0
    """Requests that a spent budget sends to another model."""
    unpriced: int = 0
    """Requests to a target whose price is not known: they are in no sum."""
    uncounted: int = 0
    """Requests whose tokens nobody knows: they are in no sum."""
    unrouted: int = 0
    """Requests for a model that the other table does not have, or that the key may not ask for: they are in no sum."""
    targets: dict[str, bool] = field(default_factory=dict)
    """Where they go, in the order in which they came up, and whether it is ready."""

    def add(self, other: Outcome) -> None:
        """Count another one's requests here too."""
        self.requests += other.requests
        self.spent_nano_usd += other.spent_nano_usd
        self.spent_unknown += other.spent_unknown
        self.cost_nano_usd += other.cost_nano_usd
        self.refused += other.refused
        self.redirected += other.redirected
        self.unpriced += other.unpriced
        self.uncounted += other.uncounted
        self.unrouted += other.unrouted
        self.targets.update(other.targets)


class Hit(NamedTuple):
    """A budget that had no room."""

    scope: str
    budget: Budget


class _Stop(NamedTuple):
    """Why a request may not go on as it is, and where it may go instead."""

    hit: Hit
    when_spent: str | None


class Replay:
    """Takes past requests in the order of their time."""

    def __init__(self, table: Table, facts: Facts) -> None:
        """Play them against this table."""
        self._table = table
        self._facts = facts
        self._keys = {key.name: key for key in table.keys}
        self._choices: dict[tuple[str, str | None, str], _Choice | None] = {}
        self._balances: dict[tuple[str, Budget], tuple[Window, int]] = {}
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        """By key and model."""
        self.hits: dict[Hit, int] = {}
        """How many requests each budget refused or sent elsewhere."""

    def take(self, request: PastRequest) -> None:
        """Play one more."""
        outcome = self.outcomes.setdefault((request.key, request.model), Outcome())
        outcome.requests += 1
        outcome.spent_unknown += request.cost_nano_usd is None
        choice = self._choose(request, request.model)
        if choice is None:
            outcome.unrouted += 1
            return
        # What has no cost now has none then either: the difference is between the same requests.
        if request.is_free or self._charge(request, choice, outcome):
            outcome.spent_nano_usd += request.cost_nano_usd or 0

    def _charge(self, request: PastRequest, choice: _Choice, outcome: Outcome) -> bool:
        """Price a request at a target and count it in its budgets; False, and why, when it has no price."""
        price = self._price(request, choice, outcome)
        if price is None:
            return False
        stop = self._find_stop(request, choice, price, is_redirected=False)
        if stop is not None:
            self.hits[stop.hit] = self.hits.get(stop.hit, 0) + 1
            instead = None if stop.when_spent is None else self._choose(request, stop.when_spent)
            if instead is None:
                outcome.refused += 1
                return True
            outcome.redirected += 1
            choice, price = instead, self._price(request, instead, outcome)
            if price is None:
                return False
            if (stop := self._find_stop(request, choice, price, is_redirected=True)) is not None:
                self.hits[stop.hit] = self.hits.get(stop.hit, 0) + 1
                outcome.refused += 1
                return True
        outcome.cost_nano_usd += price
        for scope, budget in self._list_budgets(request, choice):
            window, taken = self._stand(scope, budget, request.at_s)
            self._balances[scope, budget] = (window, taken + price)
        return True

    def _price(self, request: PastRequest, choice: _Choice, outcome: Outcome) -> int | None:
        outcome.targets.setdefault(choice.target.name, choice.is_ready)
        if request.usage is None:
            outcome.uncounted += 1
            return None
        prices = choice.target.facts.prices
        if prices is None:
            outcome.unpriced += 1
            return None
        return cost(request.usage, prices)

    def _find_stop(self, request: PastRequest, choice: _Choice, price: int, *, is_redirected: bool) -> _Stop | None:
        """Find the budget that speaks, as the ledger does: of walls the one with the least left, else a soft one."""
        walls: list[tuple[int, Hit]] = []
        soft: Hit | None = None
        for scope, budget in self._list_budgets(request, choice):
            if budget.is_soft and (budget.when_spent is None or is_redirected):
                continue
            window, taken = self._stand(scope, budget, request.at_s)
            shortfall = find_shortfall(budget, window, Balance(taken, 0), needed_nano_usd=price)
            if shortfall is not None and budget.is_soft:
                soft = soft or Hit(scope, budget)
            elif shortfall is not None:
                walls.append((shortfall.left_nano_usd, Hit(scope, budget)))
        if not walls:
            return None if soft is None else _Stop(soft, soft.budget.when_spent)
        instead = next((hit.budget.when_spent for _, hit in walls if hit.budget.when_spent is not None), None)
        return _Stop(min(walls, key=lambda wall: wall[0])[1], instead)

    def _list_budgets(self, request: PastRequest, choice: _Choice) -> Iterable[tuple[str, Budget]]:
        """Give every budget that holds, with its scope, each once."""
        subject, limits = self._subject(request, choice), self._table.limits
        found = {place: limits[place] for place in places_of(subject) if place in limits}
        return dict.fromkeys(rules_of(subject, found).budgets)

    def _subject(self, request: PastRequest, choice: _Choice) -> Subject:
        provider, tenant = choice.target.provider, self._tenant_of(request)
        known = self._table.tenants.get(tenant) if tenant is not None else None
        is_theirs = known is not None and provider.name in known.provider_keys
        return Subject(
            request.key,
            tenant,
            request.user,
            request.tags,
            choice.alias,
            provider.name,
            choice.target.model,
            payer=PAYER_TENANT if is_theirs else PAYER_GATEWAY,
            patterns=provider.list_patterns(choice.target.model),
        )

    def _stand(self, scope: str, budget: Budget, at_s: float) -> tuple[Window, int]:
        """Give a budget's window at a moment and what is spent of it."""
        window = find_window(budget.period, at_s, budget.timezone)
        known = self._balances.get((scope, budget))
        return known if known is not None and known[0] == window else (window, 0)

    def _choose(self, request: PastRequest, model: str) -> _Choice | None:
        place = (request.key, request.tenant, model)
        if place not in self._choices:
            if len(self._choices) >= CHOICES_KEPT_MAX:
                self._choices.clear()
            self._choices[place] = self._resolve(request, model)
        return self._choices[place]

    def _resolve(self, request: PastRequest, model: str) -> _Choice | None:
        principal = make_principal(request.key, self._keys.get(request.key), self._tenants(request))
        try:
            resolved = resolve(model, principal=principal, table=self._table, facts=self._facts)
        except RequestError:
            return None
        if not resolved.targets:
            return None
        ready = next((target for target in resolved.targets if target.provider.not_ready is None), None)
        return _Choice(resolved.route.name, ready or resolved.targets[0], ready is not None)

    def _tenant_of(self, request: PastRequest) -> str | None:
        declared = self._keys.get(request.key)
        return request.tenant if declared is None else declared.tenant

    def _tenants(self, request: PastRequest) -> Tenant | None:
        name = self._tenant_of(request)
        return self._table.tenants.get(name) if name is not None else None


def make_principal(name: str, key: DeclaredKey | None, tenant: Tenant | None) -> Principal:
    """Give a key as a request under the table sees it; one that the table does not declare may ask for anything."""
    return Principal(
        name=name,
        tenant=None if tenant is None else tenant.name,
        models=None if key is None else key.models,
        tenant_models=None if tenant is None else tenant.models,
    )


def total_of(outcomes: Mapping[tuple[str, str], Outcome]) -> Outcome:
    """Add all outcomes up."""
    total = Outcome()
    for one in outcomes.values():
        total.add(one)
    return total
