"""Compare LLM gateways against a mock upstream: CPU per request, added latency, TTFT, memory, cold start.

    compare.py [--set turnpike | --gateways a,b,c] [--workloads n1,n32,...] [--rounds 3] [--out results.json]

Gateways are described in gateways.toml. All run at once; the rounds are interleaved (every gateway in every workload of
every round, in rotated order), and the tables show medians over the rounds. Needs Linux, gcc and the standard library.
README.md says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gateways
import processes
import rig
import table
from gateways import Catalogue, Gateway
from rig import Load, Mock, RigError

SETTLE_S = 2.0
IDLE_S = 6.0
RAMPED_WARMUP_S = 0.3
STREAM = "-s -b 1024"


@dataclass(frozen=True)
class Workload:
    """What the load generator does, and how the mock upstream answers a stream meanwhile."""

    title: str
    load: str
    chunks: int = 0
    delay_us: int = 0
    seconds_min: float = 0.0
    dialect: str = ""
    """What the upstream speaks instead of the client's own; only for gateways that say they translate it."""
    plain: str = ""
    """The same without translation: what a translated one is compared with."""

    @property
    def events(self) -> int:
        """How many events a client must get: who speaks, the content, finish, usage and `[DONE]`."""
        if not self.chunks:
            return 0
        # Gemini has no event for who speaks: that stands in the first piece of content.
        return self.chunks + (3 if self.dialect == "google" else 4)


WORKLOADS = {
    "n1": Workload("JSON 1 KB, c=1", "-c 1 -b 1024"),
    "n32": Workload("JSON 1 KB, c=32", "-c 32 -b 1024"),
    "n256": Workload("JSON 1 KB, c=256", "-c 256 -b 1024"),
    "big": Workload("JSON 100 KB, c=32", "-c 32 -b 102400"),
    "s0": Workload("SSE 100 chunks, no delay, c=32", f"{STREAM} -c 32", 100),
    "chat": Workload("SSE 100 chunks, 20 ms apart, 200 streams", f"{STREAM} -c 200 -r 2000", 100, 20_000, 4.0),
    "chat20": Workload("SSE 100 chunks, 20 ms apart, 20 streams", f"{STREAM} -c 20 -r 2000", 100, 20_000, 4.0),
}
WORKLOADS |= {
    f"{plain}-{dialect}": replace(
        WORKLOADS[plain], title=f"{WORKLOADS[plain].title}, from {maker}", dialect=dialect, plain=plain
    )
    for dialect, maker in (("anthropic", "Anthropic Messages"), ("google", "Gemini"))
    for plain in ("n32", "chat")
}
DEFAULT_WORKLOADS = ["n1", "n32", "n256", "big", "s0", "chat"]

Results = dict[str, dict[str, list[dict[str, Any]]]]


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="peers", help="a set of gateways.toml")
    parser.add_argument("--gateways", help="comma-separated names; 'direct' is always measured")
    parser.add_argument("--workloads", help=f"comma-separated, of {','.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=0.7, help="seconds before each")
    parser.add_argument("--floor", default="nginx", help="gateway the CPU ratio refers to")
    parser.add_argument("--gateway-cpu", help="core of the gateways; the first one if not given")
    parser.add_argument("--load-cpu", help="core of mock upstream and load generator; the second one if not given")
    parser.add_argument("--file", type=Path, default=gateways.FILE)
    parser.add_argument("--var", action="append", default=[], help="NAME=VALUE, replaces {NAME} in gateways.toml")
    parser.add_argument("--base-port", type=int, default=9100, help="free ports are taken from here up")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    return parser.parse_args()


def choose_workloads(arguments: argparse.Namespace, catalogue: Catalogue) -> list[str]:
    """Give the workloads asked for, else the set's, else the usual ones."""
    if arguments.workloads is None:
        return catalogue.workloads.get(arguments.set, DEFAULT_WORKLOADS)
    chosen = arguments.workloads.split(",")
    if unknown := [name for name in chosen if name not in WORKLOADS]:
        raise RigError(f"no workload is called {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return chosen


def measure(
    gateway: Gateway, workload: Workload, rig_parts: tuple[Mock, Load], times_s: tuple[float, float]
) -> dict[str, Any]:
    """Warm a gateway up, load it, and give the generator's figures with the CPU both sides used."""
    mock, load = rig_parts
    warmup_s, seconds = times_s
    arguments = [*gateway.load_arguments(workload.dialect), *workload.load.split()]
    if workload.delay_us:
        load.run([*arguments, "-n", "20"], seconds=RAMPED_WARMUP_S)
    else:
        load.run([*arguments, "-n", "400"], seconds=warmup_s)
    mock_before_us, before_s = mock.counts()["cpu_us"], gateway.cpu_s()
    figures = load.run(arguments, seconds=max(seconds, workload.seconds_min))
    used_s, mock_used_us = gateway.cpu_s() - before_s, mock.counts()["cpu_us"] - mock_before_us
    served = max(figures["ok"], 1)
    figures["cpu_ms"] = used_s * 1000 / served
    figures["core_share"] = used_s / figures["elapsed"]
    figures["upstream_cpu_ms"] = mock_used_us / 1000 / served
    return figures


def run_rounds(
    arguments: argparse.Namespace, running: list[Gateway], workloads: list[str], rig_parts: tuple[Mock, Load]
) -> Results:
    """Measure every gateway in every workload of every round; one that dies is left out from there on."""
    results: Results = {name: {} for name in workloads}
    for number in range(arguments.rounds):
        turn = number % len(running)
        for name in workloads:
            workload = WORKLOADS[name]
            rig_parts[0].set_mode(chunks=workload.chunks, delay_us=workload.delay_us)
            for gateway in [*running[turn:], *running[:turn]]:
                if not gateway.is_alive or not gateway.takes(name, workload.dialect):
                    continue
                figures = measure(gateway, workload, rig_parts, (arguments.warmup, arguments.seconds))
                if not gateway.is_alive:
                    print(f"{gateway.name} ended during {name}, its figures there are left out", file=sys.stderr)
                    continue
                results[name].setdefault(gateway.name, []).append(figures)
                print(f"round {number} {name:14} {gateway.name:20} {table.line(figures)}", file=sys.stderr)
    return results


def idle_cpu_percent(running: list[Gateway]) -> dict[str, float]:
    """Tell how much of a core each gateway uses while nobody asks it anything."""
    time.sleep(SETTLE_S)
    before_s = {gateway.name: gateway.cpu_s() for gateway in running}
    time.sleep(IDLE_S)
    return {gateway.name: (gateway.cpu_s() - before_s[gateway.name]) / IDLE_S * 100 for gateway in running}


def compare(arguments: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Start everything, measure, and give the summary; the stack ends what was started."""
    catalogue = Catalogue.read(arguments.file, arguments.var)
    workloads = choose_workloads(arguments, catalogue)
    names = catalogue.installed(catalogue.choose(arguments.set, arguments.gateways))
    cpus = rig.choose_cpus(arguments.gateway_cpu, arguments.load_cpu)
    scratch = stack.enter_context(rig.workspace())
    mock_port, *ports = processes.free_ports(arguments.base_port, 1 + len(names))
    mock = stack.enter_context(Mock(scratch, mock_port, cpus.load))
    running = []
    for gateway in gateways.place(catalogue, names, mock, ports):
        stack.callback(gateway.stop)
        if gateways.try_start(gateway, scratch, cpus):
            running.append(gateway)
    if names and not running:
        raise RigError("not one of the gateways serves")
    idle = idle_cpu_percent(running)
    everyone = [gateways.direct(mock), *running]
    results = run_rounds(arguments, everyone, workloads, (mock, Load(scratch, cpus.load)))
    return {
        "workloads": {
            name: {"title": WORKLOADS[name].title, "plain": WORKLOADS[name].plain, "events": WORKLOADS[name].events}
            for name in workloads
        },
        "gateways": {gateway.name: standing(gateway, idle[gateway.name]) for gateway in running},
        "raw": results,
    }


def standing(gateway: Gateway, idle_cpu_pct: float) -> dict[str, float | None]:
    """Give what a gateway costs whether or not it is asked."""
    return {
        "cold_s": gateway.cold_s,
        "idle_rss_mb": gateway.idle_rss_mb,
        "peak_rss_mb": gateway.memory_mb("VmHWM"),
        "idle_cpu_pct": idle_cpu_pct,
    }


def main() -> int:
    """Compare and print the tables."""
    arguments = read_arguments()

    def script(stack: ExitStack) -> str:
        summary = compare(arguments, stack)
        if arguments.out:
            arguments.out.write_text(json.dumps(summary, indent=1))
        return table.render(summary, arguments.floor)

    return rig.run_script(script)


if __name__ == "__main__":
    sys.exit(main())
