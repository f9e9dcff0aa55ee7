"""Limits of a file by the place they are written at (part of `files`, floor 2)."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

from proxy.files.chains import Paced
from proxy.files.document import Node
from proxy.files.limit_options import BudgetOptions, EachOptions, HolderOptions, MoneyOptions, PaceOptions
from proxy.files.names import check_askable
from proxy.files.pools import label_places
from proxy.files.problems import Problems
from proxy.files.schema import ModelOptions, RoutesOptions
from proxy.money import UTC_NAME, Budget
from proxy.policy.limits import NO_LIMITS, Limits
from proxy.policy.scopes import GLOBAL
from proxy.routing.table import Provider


class LimitsBuilder:
    """Builds the limits of one file; one use per file."""

    def __init__(self, models: frozenset[str], problems: Problems) -> None:
        """Take the names of the file's models."""
        self._models = models
        self._problems = problems
        self._found: dict[str, Limits] = {}

    def build(
        self, options: RoutesOptions, root: Node, providers: Mapping[str, Provider], paced: Iterable[Paced]
    ) -> Mapping[str, Limits]:
        """Give the limits of every place that has some; findings are noted."""
        self._add_callers(options, root)
        self._add_upstreams(options, root, providers)
        for target in paced:
            self._add_target(target)
        return self._found

    def _add_callers(self, options: RoutesOptions, root: Node) -> None:
        here = self._zone(options.timezone, root.at("timezone")) or UTC_NAME
        self._add(GLOBAL, options, root, here)
        zones = {
            name: self._zone(tenant.timezone, root.at("tenants", name, "timezone"))
            for name, tenant in (options.tenants or {}).items()
            if tenant is not None
        }
        for name, tenant in (options.tenants or {}).items():
            self._add(f"tenant:{name}", tenant, root.at("tenants", name), zones.get(name) or here)
        for index, key in enumerate(options.keys or ()):
            node = root.at("keys", index)
            zone = self._zone(key.timezone, node.at("timezone")) or zones.get(key.tenant or "") or here
            self._add(f"key:{key.name}", key, node, zone)
        for name, model in options.models.items():
            self._add(f"model:{name}", model, root.at("models", name), here)
            self._check_way_out(name, model, root.at("models", name))

    def _add_upstreams(self, options: RoutesOptions, root: Node, providers: Mapping[str, Provider]) -> None:
        for name, provider in (options.providers or {}).items():
            node = root.at("providers", name)
            zone = options.timezone if options.timezone in list_zones() else None
            self._add(f"provider:{name}", provider, node, zone or UTC_NAME)
            for place, key in label_places(name, (provider and provider.api_keys) or ()):
                self._add(place, key, node, UTC_NAME)
        for built in providers.values():
            for pattern, rates in built.model_rates.items():
                self._found[f"target:{built.name}/{pattern}"] = Limits(rates=rates)

    def _add_target(self, paced: Paced) -> None:
        """Add what one mention of a target says; where several speak of it, all of it holds."""
        place = f"target:{paced.name}"
        limits, known = self._limits(paced.options, paced.node, UTC_NAME), self._found.get(place, NO_LIMITS)
        lowest = min((each.parallel for each in (limits, known) if each.parallel is not None), default=None)
        rates = tuple(dict.fromkeys([*known.rates, *limits.rates]))
        self._found[place] = replace(limits, rates=rates, parallel=lowest)

    def _add(self, place: str, options: PaceOptions | None, node: Node, zone: str) -> None:
        limits = NO_LIMITS if options is None else self._limits(options, node, zone)
        if limits != NO_LIMITS:
            self._found[place] = limits

    def _limits(self, options: PaceOptions, node: Node, zone: str) -> Limits:
        limits = Limits(rates=tuple(dict.fromkeys(options.rate or ())), parallel=options.parallel)
        if isinstance(options, MoneyOptions):
            limits = replace(limits, budgets=self._budgets(options, node, zone))
        if isinstance(options, EachOptions):
            limits = replace(limits, wait_s=options.wait or 0.0)
            self._check_wait(options, node)
        if not isinstance(options, HolderOptions):
            return limits
        tags = {name: self._limits(tag, node.at("tags", name), zone) for name, tag in (options.tags or {}).items()}
        users = NO_LIMITS if options.users is None else self._limits(options.users, node.at("users"), zone)
        return replace(
            limits,
            users=None if users == NO_LIMITS else users,
            tags=tuple((name, each) for name, each in tags.items() if each != NO_LIMITS),
        )

    def _budgets(self, options: MoneyOptions, node: Node, zone: str) -> tuple[Budget, ...]:
        place = node.at("when_spent")
        check_askable(options.when_spent, self._models, node=place, problems=self._problems)
        if options.when_spent is not None and not options.budget and not _is_wounded(node, "budget"):
            self._problems.add(place, "`when_spent` says what follows a spent budget; put a `budget` beside it")
        budgets: dict[Budget, None] = {}
        for index, entry in enumerate(options.budget or ()):
            here = node.at("budget", index)
            budget = self._budget(entry, here, zone, options.when_spent)
            if any(replace(budget, limit_nano_usd=other.limit_nano_usd) == other for other in budgets):
                self._problems.add(here, f"two budgets of one kind per {budget.period}; keep the lower")
            budgets[budget] = None
        return tuple(budgets)

    def _budget(self, entry: BudgetOptions, node: Node, zone: str, when_spent: str | None) -> Budget:
        check_askable(entry.when_spent, self._models, node=node.at("when_spent"), problems=self._problems)
        return replace(
            entry.limit,
            timezone=self._zone(entry.timezone, node.at("timezone")) or zone,
            is_soft=entry.soft,
            when_spent=entry.when_spent or when_spent,
        )

    def _check_way_out(self, name: str, model: ModelOptions, node: Node) -> None:
        own = [node.at("when_spent")] if model.when_spent == name else []
        inner = [node.at("budget", at) for at, budget in enumerate(model.budget or ()) if budget.when_spent == name]
        for place in (*own, *(budget.at("when_spent") for budget in inner)):
            self._problems.add(place, f"`when_spent` of `{name}` leads back to itself; name another model")

    def _check_wait(self, options: EachOptions, node: Node) -> None:
        is_idle = options.wait and not options.rate and options.parallel is None
        if is_idle and not _is_wounded(node, "rate"):
            message = "`wait` is the queue of a `rate` or of `parallel`; put one of them beside it"
            self._problems.add(node.at("wait"), message)

    def _zone(self, name: str | None, node: Node) -> str | None:
        """Give a time zone of the database, None when none is named; one that is not in it is noted."""
        if name is None or name in list_zones():
            return name
        near = self._hint(name)
        self._problems.add(node, f"there is no time zone `{name}`{near or '; write it as Europe/Berlin or UTC'}")
        return None

    def _hint(self, name: str) -> str:
        """Give the zone meant: a city alone or in other letters, else what is spelt nearly so."""
        lowered = name.strip().lower().replace(" ", "_")
        meant = [zone for zone in list_zones() if lowered in {zone.lower(), zone.lower().rpartition("/")[2]}]
        if meant:
            return f"; did you mean `{min(meant, key=len)}`?"
        return self._problems.suggest(name, (zone for zone in list_zones() if zone[:1].lower() == lowered[:1]))


def _is_wounded(node: Node, member: str) -> bool:
    """Tell whether a member is missing, or empty, because of a finding in it."""
    return node.is_wounded or node.at(member).is_wounded


@cache
def list_zones() -> frozenset[str]:
    """Give the names of the time zone database, the system's or that of the package tzdata."""
    return frozenset(zoneinfo.available_timezones())
