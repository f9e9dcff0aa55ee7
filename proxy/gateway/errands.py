"""From a client's request to one upstream call (part of the gateway, floor 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from proxy.codecs.wire import Codec, JsonObject, Surface
from proxy.gateway.forwarding import forward
from proxy.policy.scopes import Subject, accounts_of
from proxy.relay import Errand
from proxy.routing.plan import Candidate
from proxy.routing.principal import Principal
from proxy.routing.table import Dialect, Table

USER_CHARS_MAX = 256
Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One client request, parsed at the door."""

    body: JsonObject
    body_bytes: int
    surface: Surface
    principal: Principal
    table: Table
    request_id: str
    """As wished by the client, or ours."""
    app: str | None
    received_s: float
    """Monotonic."""
    forwarded: Mapping[str, str] = field(default_factory=dict)
    """The client's headers that some providers are told too, names in lower case (`forwarding`)."""
    tags: Tags = ()
    """Names and values, sorted by name."""

    @property
    def user(self) -> str | None:
        """Give the request's `user`, None when there is none; by a digest where it is too long or cannot be shown.

        Whatever it looks like, the limits of each user hold for it.
        """
        user = self.body.get("user")
        if not isinstance(user, str) or not user:
            return None
        if len(user) <= USER_CHARS_MAX and user.isprintable():
            return user
        return f"sha256:{sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def list_scopes(self, alias: str) -> tuple[str, ...]:
        """Name what the request counts in under a model of ours, whichever target answers it."""
        who = self.principal
        return accounts_of(Subject(who.name, who.tenant, self.user, self.tags, alias, provider="", model=""))


def write_errand(candidate: Candidate, asked: Asked, codec: Codec, *, created_s: int) -> Errand:
    """Write the call of one candidate, and what the relay must know to read the reply."""
    target = candidate.target
    call = codec.encode(
        dict(candidate.body),
        model=target.model,
        output_tokens_max=candidate.output_tokens_max,
        abilities=target.abilities,
    )
    if asked.forwarded:
        call = forward(call, asked.forwarded, target.provider.dialect)
    n = candidate.body.get("n")
    return Errand(
        provider=target.provider,
        call=call,
        clocks=candidate.clocks,
        choices=n if isinstance(n, int) else 1,
        parse_all=asked.surface is Surface.OPENROUTER and target.provider.dialect is not Dialect.OPENROUTER,
        created_s=created_s,
    )
