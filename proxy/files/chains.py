"""Models of a table: aliases and globs flattened to ordered chains of concrete targets (part of `files`, floor 2).

An alias may name other aliases. They are taken in an order that puts every alias after those it names (Kahn), so a
long chain of names costs no recursion and whatever is left over stands in, or leads to, a cycle.

On the way down options add up: timeouts and ceilings only ever tighten, an outer alias's params win over an inner
one's, the price nearest to the concrete target counts, and of transforms and direct backups the outermost word does.
"""

from __future__ import annotations

import contextlib
import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from proxy.files.caching import build_cache
from proxy.files.document import Node
from proxy.files.prices import build_prices
from proxy.files.problems import Problems
from proxy.files.providers import STATIC, build_static
from proxy.files.schema import ModelOptions, StaticOptions, TargetOptions, TimeoutOptions
from proxy.pricing import Prices
from proxy.routing.caching import CacheRule
from proxy.routing.table import Provider, Timeouts

TARGETS_MAX = 8
"""Concrete targets of one alias once names are followed."""
REFERENCES_DEEP_MAX = 8

Limit = TypeVar("Limit", int, float)

BUILT_IN = "simulated"
"""The known provider that may share its name with an alias: without a slash the name is the alias."""
_FORMS = "`target: PROVIDER/MODEL`, `model: NAME` and `static: {content: TEXT}`"


@dataclass(frozen=True, slots=True)
class Leg:
    """One concrete target on its way up, and where the file says it."""

    place: Node
    provider: Provider
    model: str
    prices: Prices | None
    context_tokens: int | None
    timeouts: Timeouts
    params: Mapping[str, Any]
    direct_backup: bool | None = None
    """What the outermost alias that speaks of it says."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """What an alias says of `transforms`."""

    words: tuple[str, ...]
    depth: int = 0
    """References between it and who said so."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One alias, flattened."""

    legs: tuple[Leg, ...] = ()
    max_cost_nano_usd: int | None = None
    transforms: Transforms | None = None
    prefers_larger: bool = False
    cache: CacheRule | None = None
    """Of the alias itself: what those it names say of their own answers is theirs."""
    depth: int = 0
    """References followed below it."""
    is_broken: bool = False
    """Something in it was noted already; do not complain about what follows from that."""


@dataclass(frozen=True, slots=True)
class Paced:
    """One mention of a target that limits it."""

    name: str
    """PROVIDER/MODEL."""
    options: TargetOptions
    node: Node


@dataclass(frozen=True, slots=True)
class Names:
    """What the file declares, members with findings included: a name is known even when its entry is not."""

    providers: frozenset[str]
    models: frozenset[str]
    tenants: frozenset[str] = frozenset()


class ChainBuilder:
    """Flattens the `models` of one file; one use per file."""

    def __init__(
        self, models: Mapping[str, ModelOptions], providers: Mapping[str, Provider], names: Names, *, node: Node,
        problems: Problems,
    ) -> None:  # fmt: skip
        """Take what one file says; `node` is its `models`."""
        self._models = models
        self._providers = providers
        self._names = names
        self._node = node
        self._problems = problems
        self._chains: dict[str, Chain] = {}
        self.paced: list[Paced] = []
        """Targets with limits of their own, in the order met."""

    def build(self) -> dict[str, Chain]:
        """Give every alias its chain, in the order of the file; findings are noted."""
        for name in self._models:
            self._check_name(name)
        for name in self._inner_first():
            self._chains[name] = self._flatten(name)
        self._note_cycles([name for name in self._models if name not in self._chains])
        return {name: self._chains.get(name, Chain(is_broken=True)) for name in self._models}

    def _inner_first(self) -> Iterator[str]:
        """Give every alias after those it names; aliases in a cycle, or leading to one, are left out."""
        sorter = graphlib.TopologicalSorter({name: self._references(name) for name in self._models})
        with contextlib.suppress(graphlib.CycleError):
            sorter.prepare()  # with a cycle it still gives what can be ordered
        while ready := sorter.get_ready():
            yield from ready
            sorter.done(*ready)

    def _check_name(self, name: str) -> None:
        if name in self._names.providers and name != BUILT_IN:
            message = f"`{name}` is the name of a provider too; call the model something else"
            self._problems.add(self._node.at(name), message)

    def _references(self, name: str) -> set[str]:
        return {named for named in self._named_by(name) if named is not None and named in self._models}

    def _reference(self, entry: TargetOptions) -> str | None:
        """Give the alias an entry names, None when it names a provider's model."""
        if entry.model is not None:
            return entry.model
        target = entry.target or ""
        provider, slash, _ = target.partition("/")
        return None if provider in self._names.providers and (slash or target not in self._names.models) else target

    def _flatten(self, name: str) -> Chain:
        options, node = self._models[name], self._node.at(name)
        if not options.targets:
            if not (node.is_wounded or node.at("targets").is_wounded):
                self._problems.add(node, f"`{name}` has no target; name at least one, such as openrouter/openai/gpt-4o")
            return Chain(is_broken=True)
        parts = [self._flatten_entry(name, index) for index in range(min(len(options.targets), TARGETS_MAX + 1))]
        legs = [self._under(leg, options) for part in parts for leg in part.legs]
        depth = max(part.depth for part in parts)
        is_broken = any(part.is_broken for part in parts)
        if len(legs) > TARGETS_MAX and not is_broken:
            message = f"`{name}` comes to more than {TARGETS_MAX} targets once names are followed; shorten the list"
            self._problems.add(node, message)
            is_broken = True
        if depth > REFERENCES_DEEP_MAX and not is_broken:
            message = f"`{name}` names models more than {REFERENCES_DEEP_MAX} deep; name the targets themselves"
            self._problems.add(node, message)
            is_broken = True
        return Chain(
            legs=tuple(legs[:TARGETS_MAX]),
            max_cost_nano_usd=_lowest([part.max_cost_nano_usd for part in parts] + [options.max_cost]),
            transforms=_outermost(options, parts),
            prefers_larger=options.prefer is not None or any(part.prefers_larger for part in parts),
            cache=build_cache(options.cache),
            depth=depth,
            is_broken=is_broken,
        )

    def _flatten_entry(self, name: str, index: int) -> Chain:
        entry, place = self._models[name].targets[index], self._node.at(name, "targets", index)
        if [entry.target, entry.model, entry.static].count(None) != 2:
            if not place.is_wounded:
                self._problems.add(place, f"a target names one of {_FORMS}")
            return Chain(is_broken=True)
        if entry.static is not None:
            return self._static(entry, entry.static, place)
        reference = self._reference(entry)
        inner = self._concrete(name, entry, place) if reference is None else self._named(reference, place)
        if not inner.is_broken and (entry.rate or entry.parallel):
            self._note_pace(entry, reference, place)
        legs = tuple(_with_entry(leg, entry) for leg in inner.legs)
        return replace(inner, legs=legs)

    def _note_pace(self, entry: TargetOptions, reference: str | None, place: Node) -> None:
        """Keep the limits of a concrete target; those of a name or a glob would be nobody's."""
        word = place.at("rate" if entry.rate else "parallel")
        if reference is not None:
            self._problems.add(word, f"limits of the model `{reference}` stand there; put it beside its targets")
        elif "*" in (entry.target or ""):
            self._problems.add(word, "the target of a glob has no limits; use `model_rates` of its provider")
        else:
            self.paced.append(Paced(entry.target or "", entry, place))

    def _static(self, entry: TargetOptions, static: StaticOptions, place: Node) -> Chain:
        """Give a fixed answer its provider; nothing else can be said of it."""
        idle = sorted(entry.model_fields_set - {"static"})
        for member in idle:
            self._problems.add(place.at(member), f"`{member}` means nothing to a fixed answer; leave it out")
        leg = Leg(place, build_static(static.content), STATIC, None, None, Timeouts(), {})
        return Chain((leg,), is_broken=bool(idle))

    def _named(self, reference: str, place: Node) -> Chain:
        """Follow a name to another alias."""
        if reference in self._models and "*" not in reference:
            inner = self._chains[reference]
            said = inner.transforms and replace(inner.transforms, depth=inner.transforms.depth + 1)
            return replace(inner, depth=inner.depth + 1, transforms=said)
        if reference not in self._names.models:
            self._problems.add(place, self._say_unknown(reference))
        elif "*" in reference:
            self._problems.add(place, f"`{reference}` is a glob and cannot be named; name its targets instead")
        return Chain(is_broken=True)

    def _say_unknown(self, reference: str) -> str:
        provider, slash, _ = reference.partition("/")
        if provider == STATIC:
            return f"there is no model `{reference}`; a fixed answer is written {{static: {{content: TEXT}}}}"
        if not slash:
            near = self._problems.suggest(reference, (name for name in self._names.models if "*" not in name))
            return (
                f"there is no model `{reference}`{near or '; write PROVIDER/MODEL or the name of a model of this file'}"
            )
        near = self._problems.suggest(provider, self._names.providers)
        near = near or self._problems.suggest(reference, self._names.models)
        remedy = near or f"; put a provider first (openrouter/{reference}) or declare it under `providers`"
        return f"there is no provider `{provider}` and no model `{reference}`{remedy}"

    def _concrete(self, name: str, entry: TargetOptions, place: Node) -> Chain:
        provider_name, _, model = (entry.target or "").partition("/")
        provider = self._providers.get(provider_name)
        if not model:
            self._problems.add(
                place, f"`{provider_name}` is a provider; a target also says the model: {provider_name}/MODEL"
            )
        elif "*" in model and "*" not in name:
            self._problems.add(
                place, f'a * in a target repeats the * of a glob, and `{name}` has none; write "*" or name a model'
            )
        elif provider is not None:
            return Chain((Leg(place, provider, model, None, None, Timeouts(), {}),))
        return Chain(is_broken=True)

    def _under(self, leg: Leg, options: ModelOptions) -> Leg:
        return replace(
            leg,
            prices=leg.prices or build_prices(options.price),
            timeouts=tighten(leg.timeouts, build_timeouts(options.timeouts)),
            params={**leg.params, **(options.params or {})},
            direct_backup=leg.direct_backup if options.direct_backup is None else options.direct_backup,
        )

    def _note_cycles(self, waiting: list[str]) -> None:
        """Name each cycle once, where it closes; what only leads to one is left alone."""
        seen: set[str] = set()
        for start in waiting:
            way: list[str] = []
            name = start
            while name not in seen:
                seen.add(name)
                way.append(name)
                name = next(inner for inner in self._named_by(name) if inner in waiting)
            if name in way:
                self._note_cycle(way[way.index(name) :])

    def _note_cycle(self, cycle: list[str]) -> None:
        last = cycle[-1]
        place = self._node.at(last, "targets", self._named_by(last).index(cycle[0]))
        shown = [*cycle[:REFERENCES_DEEP_MAX], *(["..."] if len(cycle) > REFERENCES_DEEP_MAX else []), cycle[0]]
        self._problems.add(place, f"models name each other in a circle: {' -> '.join(shown)}; take one of them out")

    def _named_by(self, name: str) -> list[str | None]:
        return [self._reference(entry) for entry in self._models[name].targets]


def build_timeouts(options: TimeoutOptions | None) -> Timeouts:
    """Turn a `timeouts:` into clocks."""
    if options is None:
        return Timeouts()
    return Timeouts(options.connect, options.first_token, options.idle, options.total)


def tighten(inner: Timeouts, outer: Timeouts) -> Timeouts:
    """Take the shorter of each clock."""
    return Timeouts(
        connect_s=_lowest([inner.connect_s, outer.connect_s]),
        first_token_s=_lowest([inner.first_token_s, outer.first_token_s]),
        idle_s=_lowest([inner.idle_s, outer.idle_s]),
        total_s=_lowest([inner.total_s, outer.total_s]),
    )


def _lowest(limits: list[Limit | None]) -> Limit | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _outermost(options: ModelOptions, parts: list[Chain]) -> Transforms | None:
    """Give the word on transforms said nearest to the client: the alias's own, else of those it names the first."""
    if options.transforms is not None:
        return Transforms(tuple(dict.fromkeys(options.transforms)))
    said = [part.transforms for part in parts if part.transforms is not None]
    return min(said, key=lambda transforms: transforms.depth, default=None)


def _with_entry(leg: Leg, entry: TargetOptions) -> Leg:
    return replace(
        leg,
        prices=leg.prices or build_prices(entry.price),
        context_tokens=leg.context_tokens or entry.context,
        timeouts=tighten(leg.timeouts, build_timeouts(entry.timeouts)),
    )
