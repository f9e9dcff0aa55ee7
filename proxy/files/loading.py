"""One routes.yaml to one table, or to all that is wrong with it (part of `files`, floor 2).

`load_table` reads the file, `.env` beside it and config/providers.yaml; nothing is kept between two calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.files.alerts import build_alerts, note_undeclared
from proxy.files.caching import build_caching, note_idle
from proxy.files.chains import ChainBuilder, Names, build_timeouts
from proxy.files.document import FILE_BYTES_MAX, Node, compose, decode
from proxy.files.environment import Environment, read_dotenv
from proxy.files.keys import build_keys, build_tenants
from proxy.files.known import KnownProvider, KnownProviders
from proxy.files.limits import LimitsBuilder
from proxy.files.names import check_askable
from proxy.files.problems import Problems
from proxy.files.providers import build_providers
from proxy.files.routes import (
    Setting,
    build_routes,
    find_unreached,
    find_without_maker,
    find_without_openrouter,
)
from proxy.files.schema import DefaultOptions, RoutesOptions
from proxy.files.validation import check
from proxy.files.values import Surroundings
from proxy.files.walls import check_prices
from proxy.money import UTC_NAME
from proxy.routing.table import Catalogue, Provider, Retry, Route, Table, Tenant

DEFAULT_PATH = Path("routes.yaml")
DOTENV = ".env"
ID_HEX_DIGITS = 12
_BY_TARGET = ("model:", "provider:")
"""Places that only some of the models meet."""
NAMES_SHOWN_MAX = 10
"""Models listed in one note."""

_SECRET_MEMBERS = frozenset({"key", "api_key", "api_keys", "headers", "provider_keys", "webhook", "secret"})
_THROUGH = 'models: {"*": openrouter/*}\n'
_PRETENDED = 'models: {simulated: simulated/simulated, "*": simulated/*}\n'


@dataclass(frozen=True, slots=True)
class _Source:
    """The text a table is made from."""

    content: bytes
    file: str
    notes: tuple[str, ...] = ()


def config_folder() -> Path:
    """Find config/: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "config"
    return inside if inside.is_dir() else package.parent / "config"


def load_table(path: Path | None, *, environ: Mapping[str, str], catalogue: Catalogue) -> Table:
    """Read a routing table.

    Without a path it is routes.yaml of the working folder, and when there is none everything passes through to
    OpenRouter, or to the simulated provider while OPENROUTER_API_KEY is not set; the table's notes say so.
    Raises ConfigError with every finding of the file.
    """
    wanted = path or DEFAULT_PATH
    environment = Environment({**read_dotenv(wanted.parent / DOTENV), **environ})
    source = _built_in(environment) if path is None and not wanted.exists() else _read(wanted)
    problems = Problems(source.file)
    root = _compose(source, problems)
    draft = _draft(root, environment, problems)
    table = _freeze(draft, catalogue, table_id=_identify(source, environment), notes=source.notes)
    if problems:
        raise problems.error()
    return table


def _identify(source: _Source, environment: Environment) -> str:
    drawn = "\0".join(["", *sorted(environment.drawn)])
    return hashlib.sha256(source.content + drawn.encode()).hexdigest()[:ID_HEX_DIGITS]


def _built_in(environment: Environment) -> _Source:
    if environment.find("OPENROUTER_API_KEY"):
        note = "no routes.yaml: every model passes through to OpenRouter"
        return _Source(_THROUGH.encode(), "(no routes.yaml)", (note,))
    note = "no routes.yaml and no OPENROUTER_API_KEY: every answer is simulated"
    return _Source(_PRETENDED.encode(), "(no routes.yaml)", (note,))


def _read(path: Path) -> _Source:
    try:
        if path.is_file():
            with path.open("rb") as file:
                return _Source(file.read(FILE_BYTES_MAX + 1), str(path))
        what = "is no file" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or 'bad path'})"
        raise Problems(str(path)).fatal(1, 1, f"the file {what}") from error
    raise Problems(str(path)).fatal(1, 1, f"the file {what}; name another with --config")


def _compose(source: _Source, problems: Problems) -> Node:
    root = compose(decode(source.content, problems), problems)
    _hide_secrets(root, problems)
    if isinstance(root.value, dict) and root.value:
        return root
    if root.value is None or root.value == {}:
        raise problems.fatal(1, 1, "the file is empty; it needs at least `models:`")
    raise problems.fatal(root.line, root.column, "a mapping is wanted: `providers:`, `models:` and so on")


def _hide_secrets(node: Node, problems: Problems) -> None:
    """Have the text under every member that holds secrets struck out of findings."""
    for member in node.members():
        is_secret = isinstance(node.value, dict) and member.path.rpartition(".")[2] in _SECRET_MEMBERS
        _hide_texts(member, problems) if is_secret else _hide_secrets(member, problems)


def _hide_texts(node: Node, problems: Problems) -> None:
    for member in node.members():
        is_pooled = isinstance(member.value, dict) and isinstance(node.value, list)  # its name and rates are no secrets
        _hide_secrets(member, problems) if is_pooled else _hide_texts(member, problems)
    if isinstance(node.value, str) and "${" not in node.value:
        problems.hide(node.value)


def _load_known(environment: Environment) -> dict[str, KnownProvider]:
    path = config_folder() / "providers.yaml"
    source = _read(path)
    problems = Problems(source.file)
    root = _compose(source, problems)
    known = check(KnownProviders, root, Surroundings(environment), problems)
    if problems:
        raise problems.error()
    return known.providers


@dataclass(frozen=True, slots=True)
class _Draft:
    """One file half read: what its parts share."""

    options: RoutesOptions
    root: Node
    names: Names
    providers: Mapping[str, Provider]
    problems: Problems


def _draft(root: Node, environment: Environment, problems: Problems) -> _Draft:
    known = _load_known(environment)
    # Taken before anything is cut out: an entry with a finding is still a name that others may use.
    names = Names(
        frozenset([*known, *_section(root, "providers").names()]), frozenset(_section(root, "models").names())
    )
    tenants = frozenset(_section(root, "tenants").names())
    options = check(RoutesOptions, root, Surroundings(environment), problems)
    for secret in environment.secrets:
        problems.hide(secret)
    entries, node = options.providers or {}, _section(root, "providers")
    providers = build_providers(entries, known, environment, node=node, problems=problems)
    return _Draft(options, root, replace(names, tenants=tenants), providers, problems)


def _section(root: Node, name: str) -> Node:
    """Give a section of the file, an empty one in its place when it is not there."""
    return root.member(name) or Node(root.line, root.column, name, None)


def _freeze(draft: _Draft, catalogue: Catalogue, *, table_id: str, notes: tuple[str, ...]) -> Table:
    options, problems, root = draft.options, draft.problems, draft.root
    defaults = options.defaults or DefaultOptions()
    builder = ChainBuilder(
        options.models, draft.providers, draft.names, node=_section(root, "models"), problems=problems
    )
    chains = builder.build()
    refresh_s = options.prices.refresh if options.prices else None
    renewed = catalogue.renew(is_live=refresh_s is not None)
    setting = Setting(catalogue, draft.providers, defaults)
    routes, globs = build_routes(chains, setting, node=_section(root, "models"), problems=problems)
    tenants = build_tenants(options.tenants or {}, draft.names, node=_section(root, "tenants"), problems=problems)
    limits = LimitsBuilder(draft.names.models, problems).build(options, root, draft.providers, builder.paced)
    keys = build_keys(options.keys or [], draft.names, limits, node=_section(root, "keys"), problems=problems)
    timezone = options.timezone or UTC_NAME
    alerts = build_alerts(options.alerts or [], tenants, timezone, node=_section(root, "alerts"), problems=problems)
    place = _section(root, "defaults").at("default_model")
    check_askable(defaults.default_model, draft.names.models, node=place, problems=problems)
    every = [*routes.values(), *globs]
    notes = (*notes, *note_undeclared(alerts, keys))
    wanting = [name for name, model in options.models.items() if model.direct_backup]
    caching = build_caching(
        options.cache, defaults.cache, [*(route.cache for route in every), *(key.cache for key in keys)]
    )
    table = Table(
        id=table_id,
        providers=draft.providers,
        routes=routes,
        globs=globs,
        tenants=tenants,
        keys=keys,
        default_model=defaults.default_model,
        retry=Retry(defaults.retry.attempts) if defaults.retry else Retry(),
        timeouts=build_timeouts(defaults.timeouts),
        caching=caching,
        alerts=alerts,
        limits=limits,
        retention_s=options.retention,
        walls=frozenset(place for place, one in limits.items() if one.has_hard_budget and place.startswith(_BY_TARGET)),
        notes=(
            *notes,
            *renewed,
            *_note_not_ready(every),
            *_note_keys(draft.providers, tenants),
            *_note_backups(every, wanting),
            *_note_unreached(every),
            *note_idle(caching, is_said=options.cache is not None),
        ),
        price_refresh_s=refresh_s,
    )
    check_prices(table, chains, problems)
    return table


def _note_not_ready(routes: Sequence[Route]) -> list[str]:
    """Say which providers are skipped and why, and which models have nothing left."""
    skipped: dict[str, list[str]] = {}
    for route in routes:
        for target in route.targets:
            if target.provider.not_ready:
                reason = f"{target.provider.name} is not ready, {target.provider.not_ready}"
                skipped.setdefault(reason, []).append(route.name)
    notes = [f"{reason}: skipped in {_list(names)}" for reason, names in skipped.items()]
    silent = [route.name for route in routes if all(target.provider.not_ready for target in route.targets)]
    return [*notes, *([f"no target is ready for {_list(silent)}"] if silent else [])]


def _note_keys(providers: Mapping[str, Provider], tenants: Mapping[str, Tenant]) -> list[str]:
    """Say which keys of pools are left out, and which tenants have no credential of their own where they should."""
    pools = [
        f"{provider.name}: key {missing}, the others are used"
        for provider in providers.values()
        if provider.pool
        for missing in provider.pool_missing
    ]
    own = [
        f"{provider} is not ready for the tenant {tenant.name}, {why}"
        for tenant in tenants.values()
        for provider, why in tenant.not_ready.items()
    ]
    return [*pools, *own]


def _note_backups(routes: Sequence[Route], wanting: Sequence[str]) -> list[str]:
    """Say for which targets and models `direct_backup` can do nothing."""
    notes = []
    if names := find_without_maker(routes):
        notes.append(f"direct_backup: no maker's name is known for {_list(names)}; write the target yourself")
    if names := find_without_openrouter(routes, wanting):
        notes.append(f"direct_backup does nothing for {_list(names)}: only targets at OpenRouter get one")
    return notes


def _note_unreached(routes: Sequence[Route]) -> list[str]:
    """Say which targets are never asked, because a fixed answer before them always answers."""
    return [
        f"never reached in {name}: {_list(targets)}; a fixed answer (static) stands before, put that last"
        for name, targets in find_unreached(routes).items()
    ]


def _list(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - NAMES_SHOWN_MAX} more" if len(unique) > NAMES_SHOWN_MAX else ""
    return ", ".join(unique[:NAMES_SHOWN_MAX]) + more
