"""Behaviour of a gateway, beside its speed: what its upstream sees when a client leaves or stops reading.

    behave.py [--set turnpike | --gateways a,b]

One row for each gateway:
- disconnect: a client leaves after 3 events of a slow stream. Time until the upstream connection closes.
- silent: a client leaves while the upstream says nothing (30 s between its pieces). The same time.
- stalled: a client stops reading a stream of 63 MB. How much the gateway pulls from the upstream meanwhile (about 8 MB
  fit into socket buffers, more is its own), how far its memory grows, and how soon it lets go once the client leaves.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from contextlib import ExitStack

import gateways
import processes
import rig
import table
from gateways import Catalogue, Gateway
from rig import Mock

HEAD = [
    "gateway",
    "disconnect reaches upstream",
    "client leaves while upstream is silent",
    "stalled client: MB pulled of 63",
    "memory growth MB",
    "upstream released after it leaves",
]
RECEIVE_TIMEOUT_S = 20.0
RECEIVE_BUFFER_BYTES = 65_536
SLOW_US = 50_000
SILENT_US = 30_000_000
SILENCE_S = 0.5  # how long a client waits for an opening event that some gateways hold back
ENDLESS_CHUNKS = 240_000
STALL_S = 6.0
LEAVE_LIMIT_S = 10.0
SILENT_LIMIT_S = 5.0
POLL_S = 0.005


def open_stream(gateway: Gateway, *, receive_buffer_bytes: int | None = None) -> socket.socket:
    """Ask a gateway for a stream, as a client whose socket we hold."""
    body = json.dumps({"model": gateway.model, "stream": True, **gateways.FIRST_BODY}).encode()
    client = socket.socket()
    if receive_buffer_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.settimeout(RECEIVE_TIMEOUT_S)
    client.connect(("127.0.0.1", gateway.port))
    lines = [
        f"POST {gateway.path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *gateway.headers,
    ]
    client.sendall("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body)
    return client


def read_events(client: socket.socket, count: int) -> None:
    """Read until so many events are in, or the stream ends."""
    received = b""
    while received.count(b"data:") < count:
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError(f"the stream ended before event {count}: {received[:200]!r}")
        received += piece


def leave(client: socket.socket, mock: Mock, limit_s: float) -> str:
    """Close the client's socket and tell how long the upstream connection lives on."""
    aborted_before = mock.counts()["aborted"]
    left_s = time.monotonic()
    client.close()
    while time.monotonic() - left_s < limit_s:
        counts = mock.counts()
        if counts["aborted"] > aborted_before:
            # The upstream reads the same clock, so its own note is exact where our polling is not.
            return f"{max(0.0, counts['last_abort_us'] / 1000 - left_s * 1000):.1f} ms"
        time.sleep(POLL_S)
    return f"not within {limit_s:.0f} s"


def leave_mid_stream(gateway: Gateway, mock: Mock) -> str:
    """Leave after three events."""
    mock.set_mode(chunks=300, delay_us=SLOW_US)
    with open_stream(gateway) as client:
        read_events(client, 3)
        return leave(client, mock, LEAVE_LIMIT_S)


def leave_in_silence(gateway: Gateway, mock: Mock) -> str:
    """Leave while the upstream has said no more than who speaks."""
    mock.set_mode(chunks=300, delay_us=SILENT_US)
    streams_before = mock.counts()["streams"]
    with open_stream(gateway) as client:
        until_s = time.monotonic() + RECEIVE_TIMEOUT_S
        while mock.counts()["streams"] == streams_before:
            if time.monotonic() > until_s:
                raise TimeoutError("the request never reached the upstream")
            time.sleep(POLL_S)
        time.sleep(SILENCE_S)
        return leave(client, mock, SILENT_LIMIT_S)


def stall(gateway: Gateway, mock: Mock) -> list[str]:
    """Stop reading for a while, then leave."""
    mock.set_mode(chunks=ENDLESS_CHUNKS, delay_us=0)
    memory_before_mb, bytes_before = gateway.memory_mb("VmRSS"), mock.counts()["bytes"]
    with open_stream(gateway, receive_buffer_bytes=RECEIVE_BUFFER_BYTES) as client:
        client.recv(1000)
        time.sleep(STALL_S)
        counts = mock.counts()
        pulled_mb = (counts["bytes"] - bytes_before) / 1e6
        growth_mb = gateway.memory_mb("VmRSS") - memory_before_mb
        released = leave(client, mock, SILENT_LIMIT_S) if counts["active"] else "was over before"
    return [f"{pulled_mb:.1f}", f"{growth_mb:.0f}", released]


def row_of(gateway: Gateway, mock: Mock) -> list[str]:
    """Try all of it on one gateway; what goes wrong stands in its row."""
    cells = [gateway.name]
    try:
        cells += [leave_mid_stream(gateway, mock), leave_in_silence(gateway, mock), *stall(gateway, mock)]
    except OSError as error:
        cells.append(f"failed: {error}")
    finally:
        mock.set_mode(chunks=100, delay_us=0)
    return cells + ["-"] * (len(HEAD) - len(cells))


def behave(arguments: argparse.Namespace, stack: ExitStack) -> str:
    """Start one gateway after another and give the table."""
    catalogue = Catalogue.read(gateways.FILE, arguments.var)
    names = catalogue.installed(catalogue.choose(arguments.set, arguments.gateways))
    cpus = rig.choose_cpus(arguments.gateway_cpu, arguments.load_cpu)
    scratch = stack.enter_context(rig.workspace())
    mock_port, *ports = processes.free_ports(arguments.base_port, 1 + len(names))
    mock = stack.enter_context(Mock(scratch, mock_port, cpus.load))
    rows = []
    for gateway in gateways.place(catalogue, names, mock, ports):
        stack.callback(gateway.stop)
        if gateways.try_start(gateway, scratch, cpus):
            rows.append(row_of(gateway, mock))
            gateway.stop()
    return table.markdown(HEAD, rows)


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="peers", help="a set of gateways.toml")
    parser.add_argument("--gateways", help="comma-separated names")
    parser.add_argument("--base-port", type=int, default=9700, help="free ports are taken from here up")
    parser.add_argument("--var", action="append", default=[], help="NAME=VALUE, replaces {NAME} in gateways.toml")
    parser.add_argument("--gateway-cpu")
    parser.add_argument("--load-cpu")
    return parser.parse_args()


def main() -> int:
    """Try every gateway and print the table."""
    arguments = read_arguments()
    return rig.run_script(lambda stack: behave(arguments, stack))


if __name__ == "__main__":
    sys.exit(main())
