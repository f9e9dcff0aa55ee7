"""The first start (part of `app`, floor 6): a key where there is none, and how to use it."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator

from proxy.app.parts import OPERATOR_KEY, Gateway
from proxy.edge.auth import mint_key
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.routing.table import Table

FIRST_KEY = "first"
"""Name of the key a first start mints; when all keys are revoked, another start mints `first-2`."""
PASSED_THROUGH = "openai/gpt-4o-mini"
"""What a newcomer may ask for where no alias is ready: a table of `*` alone leads to OpenRouter."""


async def mint_first_key(gateway: Gateway) -> str | None:
    """Mint a key when there is none at all, or a newcomer would be locked out; gives it, to be shown once."""
    known = [key for key in await gateway.ledger.list_keys() if key.name != OPERATOR_KEY]
    if any(key.is_enabled for key in known):
        return None
    key, taken = mint_key(), {key.name for key in known}
    name = next(name for name in _names() if name not in taken)
    record = KeyRecord(name, digest_key(gateway.pepper, key), created_at_s=gateway.clock.now_s())
    return key if await gateway.ledger.create_key(record) else None


def introduce(key: str, address: str, table: Table) -> str:
    """Write what a newcomer needs: the first key, and two ways to use it that can be pasted."""
    model = suggest_model(table)
    messages = [{"role": "user", "content": "Hello!"}]
    body = shlex.quote(json.dumps({"model": model, "messages": messages}))
    return (
        f"No client key yet, so here is one. It is shown only this once: {key}\n\n"
        f"  curl {address}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d {body}\n\n"
        f"  from openai import OpenAI\n"
        f'  client = OpenAI(base_url="{address}/v1", api_key="{key}")\n'
        f"  messages = {json.dumps(messages)}\n"
        f"  reply = client.chat.completions.create(model={json.dumps(model)}, messages=messages)\n"
        f"  print(reply.choices[0].message.content)\n"
    )


def suggest_model(table: Table) -> str:
    """Name a model a newcomer can ask for at once: the default one, or the first that has a ready target."""
    ready = (
        route.name
        for route in table.routes.values()
        if any(target.provider.not_ready is None for target in route.targets)
    )
    return table.default_model or next(ready, PASSED_THROUGH)


def _names() -> Iterator[str]:
    yield FIRST_KEY
    yield from (f"{FIRST_KEY}-{number}" for number in itertools.count(2))
