"""What a gateway is made of (part of `app`, floor 6), opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxy.catalogue import REFRESHED_FILE, LiveCatalogue, load_catalogue
from proxy.clock import Clock, SystemClock
from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.google import GoogleCodec
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Codec, Upstream
from proxy.edge.auth import Authenticator
from proxy.edge.guard import Guard
from proxy.edge.tenancy import Tenancy
from proxy.errors import ConfigError, ConfigProblem, LedgerUnavailable
from proxy.files import DEFAULT_PATH, DOTENV, RoutesFile, read_dotenv
from proxy.gateway import Line, Service
from proxy.health import Health
from proxy.ledger.audit import Act
from proxy.ledger.errands import ROUTES
from proxy.ledger.folder import ADMIN_KEY_CHARS_MIN, digest_key_sha256, load_admin_key, load_pepper
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import KeyRecord
from proxy.ledger.sqlite import SqliteLedger
from proxy.ledger.tenant_deeds import declare_tenants
from proxy.pools import Pools
from proxy.replies import Replies
from proxy.routing.table import DeclaredKey, Dialect, Provider, Table
from proxy.simulated import SimulatedUpstream
from proxy.telemetry import Board, FinishedRequest, Meters, Names, Telemetry
from proxy.upstream import HttpUpstream
from proxy.vault import VARIABLE, SecretKeyError, Vault

ADMIN_KEY = "TURNPIKE_ADMIN_KEY"
OPERATOR_KEY = "turnpike-operator"
"""Name of the key under which `turnpike test` books what it spends; nobody can sign in with it."""
LINES_MAX = 4_096
"""Accounts whose codec is kept; beyond it they are made anew."""
DECLARE_AGAIN_S = 1.0
"""Time between two tries to tell the ledger a new table's keys."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How `turnpike serve` was started."""

    config: Path | None
    """None: routes.yaml of the working folder, if there is one."""
    data: Path
    host: str = "127.0.0.1"
    port: int = 4000
    workers: int = 1
    metrics_port: int | None = None
    """Where `/metrics` is shown on loopback without a key; None: nowhere."""
    log_format: str = "json"
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is open: its parts, for the edge and the command line."""

    service: Service
    routes: RoutesFile
    ledger: Ledger
    authenticator: Authenticator
    telemetry: Telemetry
    pepper: bytes
    clock: Clock
    guard: Guard
    vault: Vault
    catalogue: LiveCatalogue
    data: Path
    """The data folder."""
    board: Board
    """The figures of all workers."""
    meters: Meters
    """Those of this one."""


class Lines:
    """Finds how a provider is reached; a codec is made once per provider of a table."""

    def __init__(self, *, http: Upstream[Provider], simulated: Upstream[Provider]) -> None:
        """Call over `http`, or nobody at all."""
        self._http = http
        self._simulated = simulated
        self._lines: dict[str, tuple[Provider, Line]] = {}

    def find(self, provider: Provider) -> Line:
        """Give the upstream and the codec of a provider."""
        known = self._lines.get(provider.account_name)
        if known is not None and known[0] is provider:
            return known[1]
        line = Line(self._simulated if provider.dialect is Dialect.SIMULATED else self._http, make_codec(provider))
        if len(self._lines) >= LINES_MAX:
            self._lines.clear()
        self._lines[provider.account_name] = (provider, line)
        return line


class Named:
    """Knows what the routing table names, for metrics: worked out once for each table."""

    def __init__(self, routes: RoutesFile) -> None:
        """Ask about the table in force."""
        self._routes = routes
        self._table: Table | None = None
        self._names = Names()

    def find(self) -> Names:
        """Give the names of the table in force."""
        table = self._routes.current
        if table is not self._table:
            targets = (target for route in table.routes.values() for target in route.targets)
            models = frozenset((target.provider.name, target.model) for target in targets)
            self._table, self._names = table, Names(frozenset(table.routes), models)
        return self._names


def make_codec(provider: Provider) -> Codec:
    """Make the codec of a provider's dialect."""
    if provider.dialect is Dialect.ANTHROPIC:
        return AnthropicCodec()
    if provider.dialect is Dialect.GOOGLE:
        return GoogleCodec()
    return OpenAICodec(
        is_openrouter=provider.dialect is Dialect.OPENROUTER,
        asks_usage=provider.flags.stream_usage,
        cap_field=provider.flags.max_tokens_field,
        call_id_chars=provider.flags.call_id_chars,
    )


@asynccontextmanager
async def open_gateway(
    settings: Settings, environ: Mapping[str, str] | None = None, *, board: Board | None = None, number: int = 0
) -> AsyncIterator[Gateway]:
    """Open everything a gateway needs, and close it in reverse; `number` says whose page of the board it counts on.

    The ledger's keys stay as they are until `put_in_force`: a command must not take a server's away. Raises
    `ConfigError` for a routes.yaml that cannot be used and `LedgerUnavailable` for a data folder that cannot.
    """
    clock = SystemClock()
    catalogue = load_catalogue(refreshed=settings.data / REFRESHED_FILE, clock=clock)
    environ = os.environ if environ is None else environ
    routes = RoutesFile(settings.config, environ=environ, catalogue=catalogue, clock=clock)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(log_format=settings.log_format, level=settings.log_level)
        telemetry.capture_logging()
        stack.callback(telemetry.close)
        board = board or Board()
        meters = Meters(board.pages[number], names=Named(routes).find)
        ledger = await SqliteLedger.open(settings.data, clock=clock, observer=meters, is_crowded=len(board.pages) > 1)
        stack.push_async_callback(ledger.close)
        replies = await Replies.open(settings.data, clock=clock, warn=telemetry.warn)
        stack.push_async_callback(replies.close)

        service = Service(
            ledger=ledger,
            health=Health(meters.attempt_ended),
            clock=clock,
            facts=catalogue.find,
            line=_open_lines(stack).find,
            jitter=random.random,
            pools=Pools(clock, tell=telemetry.warn, count=meters.keys_refused),
            replies=replies,
            on_drained=_tell_both(meters, telemetry),
        )
        stack.push_async_callback(service.drain)
        pepper = await asyncio.to_thread(load_pepper, settings.data)
        vault = open_vault(settings.config, environ)
        admin_key = await asyncio.to_thread(find_admin_key, settings, environ)
        telemetry.register_secret(admin_key)
        gateway = Gateway(
            service=service,
            routes=routes,
            ledger=ledger,
            authenticator=Authenticator(
                ledger, pepper=pepper, clock=clock, tenancy=Tenancy(vault, telemetry.register_secret)
            ),
            telemetry=telemetry,
            pepper=pepper,
            clock=clock,
            guard=Guard(admin_key, registry=ledger.registry, clock=clock),
            vault=vault,
            catalogue=catalogue,
            data=settings.data,
            board=board,
            meters=meters,
        )
        hide_secrets(telemetry, routes.current)
        yield gateway


def _tell_both(meters: Meters, telemetry: Telemetry) -> Callable[[FinishedRequest], None]:
    """Tell figures and log of a reply that was read to its end for nobody."""

    def tell(record: FinishedRequest) -> None:
        meters.request_drained(record)
        telemetry.request_drained(record)

    return tell


def _open_lines(stack: AsyncExitStack) -> Lines:
    """Make ready to call providers, until the stack is unwound."""
    http, simulated = HttpUpstream(), SimulatedUpstream()
    stack.push_async_callback(http.close)
    stack.push_async_callback(simulated.close)
    return Lines(http=http, simulated=simulated)


async def open_ledger(data: Path) -> Ledger:
    """Open the books alone, for a command that asks them something; the caller closes them."""
    return await SqliteLedger.open(data, clock=SystemClock())


async def put_in_force_at_last(gateway: Gateway) -> None:
    """Put the table in use in force, however long the ledger is busy: nobody but new keys waits for it."""
    while True:
        try:
            return await put_in_force(gateway, gateway.routes.current)
        except LedgerUnavailable as error:
            gateway.telemetry.warn("keys_wait_for_ledger", reason=error.message)
        await asyncio.sleep(DECLARE_AGAIN_S)


async def put_in_force(gateway: Gateway, table: Table) -> None:
    """Make the ledger's declared limits and keys those of a table, and hide its secrets from the log."""
    hide_secrets(gateway.telemetry, table)
    act = Act(ROUTES, gateway.clock.now_s())
    await gateway.ledger.registry.write(
        partial(declare_tenants, names=frozenset(table.tenants), table_id=table.id, act=act)
    )
    await gateway.ledger.declare_limits(
        {place: limits for place, limits in table.limits.items() if not place.startswith("key:")}  # a key has its own
    )
    await gateway.ledger.declare_keys([_record(key, gateway) for key in table.keys])
    gateway.telemetry.info("routes_loaded", config=table.id, notes=list(table.notes))


def open_vault(config: Path | None, environ: Mapping[str, str] | None = None) -> Vault:
    """Open the vault with TURNPIKE_SECRET_KEY of the environment or of `.env`; ConfigError when that holds no key."""
    try:
        return Vault(_variables(config, os.environ if environ is None else environ).get(VARIABLE))
    except SecretKeyError as error:
        raise ConfigError((ConfigProblem("environment", 0, 0, "", str(error)),)) from error


def find_admin_key(settings: Settings, environ: Mapping[str, str]) -> str:
    """Give TURNPIKE_ADMIN_KEY, else the key of the data folder, made at the first start; ConfigError when too short."""
    key = _variables(settings.config, environ).get(ADMIN_KEY, "").strip()
    if not key:
        return load_admin_key(settings.data)
    if len(key) < ADMIN_KEY_CHARS_MIN or not key.isascii() or not key.isprintable() or " " in key:
        said = f"it must have at least {ADMIN_KEY_CHARS_MIN} visible ASCII characters; leave it out to have one made"
        raise ConfigError((ConfigProblem("environment", 0, 0, ADMIN_KEY, said),))
    return key


def _variables(config: Path | None, environ: Mapping[str, str]) -> Mapping[str, str]:
    return {**read_dotenv((config or DEFAULT_PATH).parent / DOTENV), **environ}


def hide_secrets(telemetry: Telemetry, table: Table) -> None:
    """Tell the log which values must never stand in it."""
    of_providers = (secret for provider in table.providers.values() for secret in provider.secrets)
    of_tenants = (secret for tenant in table.tenants.values() for secret in tenant.secrets)
    of_webhooks = (secret for alert in table.alerts if alert.webhook for secret in alert.webhook.secrets)
    for secret in (*of_providers, *of_tenants, *of_webhooks):
        telemetry.register_secret(secret)


def _record(key: DeclaredKey, gateway: Gateway) -> KeyRecord:
    return KeyRecord(
        name=key.name,
        digest=digest_key_sha256(gateway.pepper, key.sha256_hex),
        tenant=key.tenant,
        limits=key.limits,
        models=key.models,
        default_model=key.default_model,
        params=key.params,
        may_create_keys=key.may_create_keys,
        max_cost_nano_usd=key.max_cost_nano_usd,
        is_declared=True,
        created_at_s=gateway.clock.now_s(),
    )
