"""The first start (part of `app`, floor 6): a key where there is none, and how to use it."""

from __future__ import annotations

from proxy.app.parts import OPERATOR_KEY, Gateway
from proxy.edge.auth import mint_key
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.routing.table import Table

FIRST_KEY = "first"
"""Name of the key a first start mints."""


async def mint_first_key(gateway: Gateway) -> str | None:
    """Mint a key when there is none at all, or a newcomer would be locked out; gives it, to be shown once."""
    known = [key for key in await gateway.ledger.list_keys() if key.name != OPERATOR_KEY]
    if any(key.is_enabled for key in known):
        return None
    key = mint_key()
    name = FIRST_KEY if not known else f"{FIRST_KEY}-{len(known) + 1}"
    record = KeyRecord(name, digest_key(gateway.pepper, key), created_at_s=gateway.clock.now_s())
    return key if await gateway.ledger.create_key(record) else None


def introduce(key: str, address: str, table: Table) -> str:
    """Write what a newcomer needs: the first key, and two ways to use it that can be pasted."""
    model = table.default_model or next(iter(table.routes), "simulated")
    messages = '[{"role": "user", "content": "Hello!"}]'
    return (
        f"No client key yet, so here is one. It is shown only this once: {key}\n\n"
        f"  curl {address}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'\n\n'
        f"  from openai import OpenAI\n"
        f'  client = OpenAI(base_url="{address}/v1", api_key="{key}")\n'
        f'  reply = client.chat.completions.create(model="{model}", messages={messages})\n'
        f"  print(reply.choices[0].message.content)\n"
    )
