"""A key made by a key may do no more than that one (floor 2, pure; reliability.md S20).

The maker's limits hold for its keys too, in every admission; what is compared here is said a second time so that nobody
is promised what he cannot have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.ledger.records import KeyRecord
from proxy.money import Budget
from proxy.policy.limits import Limits
from proxy.routing.principal import covers


def find_excess(key: KeyRecord, maker: KeyRecord) -> str | None:
    """Tell what a key would have beyond its maker, None when it is a subset."""
    return next(_list_excess(key, maker), None)


def _list_excess(key: KeyRecord, maker: KeyRecord) -> Iterator[str]:
    if key.tenant != maker.tenant:
        yield "its tenant is another one"
    if key.may_create_keys:
        yield "only a key of the operator's may make keys"
    if key.params != maker.params:
        yield "its `params` are its maker's; leave them out"
    yield from _list_models(key, maker)
    if maker.expires_at_s is not None and (key.expires_at_s is None or key.expires_at_s > maker.expires_at_s):
        yield "it would outlive its maker; give it an earlier end"
    if (maker.max_cost_nano_usd or key.max_cost_nano_usd or 0) < (key.max_cost_nano_usd or 0):
        yield "its `max_cost` is higher than its maker's"
    yield from _list_limits(key.limits, maker.limits)


def _list_models(key: KeyRecord, maker: KeyRecord) -> Iterator[str]:
    if maker.models is not None:
        if key.models is None:
            yield "it may ask for every model, its maker may not; name some"
        for model in key.models or ():
            if not _is_covered(model, maker.models):
                yield f"its maker may not ask for {model}"
    default = key.default_model
    if default is not None and default != maker.default_model and not _is_covered(default, key.models or ("*",)):
        yield "its `default_model` is not among its models"


def _is_covered(model: str, patterns: Iterable[str]) -> bool:
    return any(covers(pattern, model) for pattern in patterns)


def _list_limits(limits: Limits, maker: Limits) -> Iterator[str]:
    if any(budget.when_spent is not None for budget in _all_budgets(limits)):
        yield "`when_spent` leads to a model whatever its list says; only the operator may name one"
    for wall in (budget for budget in maker.budgets if not budget.is_soft):
        if any(own.period is wall.period and own.limit_nano_usd > wall.limit_nano_usd for own in limits.budgets):
            yield f"its budget per {wall.period} is larger than its maker's"
    for rate in maker.rates:
        same = (own for own in limits.rates if (own.measure, own.window_s) == (rate.measure, rate.window_s))
        if any(own.limit > rate.limit for own in same):
            yield f"its rate of {rate.measure} is higher than its maker's"
    if maker.parallel is not None and (limits.parallel or 0) > maker.parallel:
        yield "it may have more requests at once than its maker"


def _all_budgets(limits: Limits) -> Iterator[Budget]:
    yield from limits.budgets
    inner = [*(() if limits.users is None else (limits.users,)), *(each for _, each in limits.tags)]
    for each in inner:
        yield from _all_budgets(each)
