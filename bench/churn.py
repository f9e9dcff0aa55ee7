"""Do HTTP clients lose pool slots when requests are cancelled, as a gateway cancels whenever its client leaves?

    churn.py CLIENT[,CLIENT...] [UPSTREAM]      for example: churn.py aiohttp,httpx

A pool of 5 connections; 400 streaming requests, each cancelled after some turns of the event loop (0 to 39) or after a
few ms; then one plain request must get through within 3 s. Every fifth request gets a second cancel while the first is
being handled; DOUBLE=0 leaves that out. Without UPSTREAM it starts a mock of its own. Run it with a Python that has the
clients and uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import processes
import rig
import table
import uvloop
from proxies import clients
from rig import Mock

SLOTS = 5
REQUESTS = 400
ANSWER_LIMIT_S = 3.0
CANCEL_LIMIT_S = 5.0
BODY = b'{"model":"mock","stream":true,"messages":[{"role":"user","content":"hi"}]}'
PLAIN_BODY = BODY.replace(b'"stream":true,', b"")
DOUBLE = os.environ.get("DOUBLE", "1") == "1"


async def narrow(kind: str, url: str) -> Any:
    """Make a client of the stack benchmark and give it a pool of five."""
    client = clients.make(kind, url)
    if kind in {"httpx", "httpx2"}:
        library = import_module(kind)
        limits = library.Limits(max_connections=SLOTS, max_keepalive_connections=SLOTS)
        client.client = library.AsyncClient(limits=limits, timeout=library.Timeout(60), trust_env=False)
    elif kind.endswith("aiohttp"):
        aiohttp = import_module("aiohttp")
        await client.session.close()
        client.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=SLOTS), timeout=aiohttp.ClientTimeout(total=60)
        )
    elif kind == "httpcore":
        pool = import_module("httpcore").AsyncConnectionPool
        client.pool = pool(max_connections=SLOTS, max_keepalive_connections=SLOTS)
    return client


async def read_stream(client: Any) -> None:
    """Read one stream to its end."""
    reply = await client.open(BODY)
    try:
        async for _ in reply.chunks():
            pass
    finally:
        await reply.close()


async def cancel_one(client: Any, number: int) -> None:
    """Start a stream and cancel it at a moment of its own."""
    task = asyncio.create_task(read_stream(client))
    if number % 2:
        for _ in range(number // 2 % 40):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep((number % 20) / 4000)
    task.cancel()
    if number % 5 == 4 and DOUBLE:
        await asyncio.sleep(0)
        task.cancel()
    # Whatever a client raises when it is cancelled is its own affair: what counts is whether it serves afterwards.
    _, hanging = await asyncio.wait([task], timeout=CANCEL_LIMIT_S)
    if hanging:
        task.cancel()
    elif not task.cancelled():
        task.exception()


async def verdict(kind: str, url: str) -> str:
    """Cancel many, then ask plainly."""
    client = await narrow(kind, f"{url}/v1/chat/completions")
    for number in range(REQUESTS):
        await cancel_one(client, number)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reply = await client.open(PLAIN_BODY)
            await reply.read()
    except Exception as error:  # noqa: BLE001 - each client raises its own
        return f"**stuck**: {error!r:.100}"
    finally:
        if getattr(client, "session", None):
            await client.session.close()
    return f"ok, still serves after {REQUESTS} cancelled requests"


def churn(arguments: argparse.Namespace, stack: ExitStack) -> str:
    """Try each client and give the table."""
    url = arguments.upstream
    if url is None:
        cpus = rig.choose_cpus(None, None)
        scratch = stack.enter_context(rig.workspace())
        [port] = processes.free_ports(arguments.base_port, 1)
        url = stack.enter_context(Mock(scratch, port, cpus.load)).url
    rows = []
    for kind in arguments.clients.split(","):
        try:
            rows.append([kind, uvloop.run(verdict(kind, url))])
        except (ImportError, KeyError):
            rows.append([kind, "not installed"])
    return table.markdown(["client", "after cancellations"], rows)


def main() -> int:
    """Print what became of each client."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", help="comma-separated kinds of proxies/clients.py")
    parser.add_argument("upstream", nargs="?", help="base URL of a running mock; one is started if not given")
    parser.add_argument("--base-port", type=int, default=9800, help="a free port is taken from here up")
    arguments = parser.parse_args()
    return rig.run_script(lambda stack: churn(arguments, stack))


if __name__ == "__main__":
    sys.exit(main())
