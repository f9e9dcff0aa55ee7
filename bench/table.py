"""The tables of a comparison, in Markdown: medians of the rounds, ratios to the floor, latencies over direct."""

from __future__ import annotations

import statistics
from typing import Any

DIRECT = "direct"
NONE = "-"
LATENCIES = {"p50": "added p50 ms", "p99": "added p99 ms"}
FIRSTS = {
    "ttft50": "added TTFT p50",
    "ttft99": "added TTFT p99",
    "token50": "added token p50",
    "token99": "added token p99",
}

Rounds = list[dict[str, Any]]


def render(summary: dict[str, Any], floor: str) -> str:
    """Give all tables: CPU of everything at a glance, what running costs, then each workload by itself."""
    parts = [_glance(summary, floor), _running(summary)]
    for name, workload in summary["workloads"].items():
        parts.append(f"**{workload['title']}**\n\n{_workload(name, summary, floor)}")
    return "\n\n".join(parts)


def line(figures: dict[str, Any]) -> str:
    """Give one measurement in one line, for who watches."""
    token = f"token {figures['token50']:8.2f}/{figures['token99']:8.2f} " if figures["ev_max"] > 0 else ""
    return (
        f"{figures['rps']:9.1f} rps cpu {figures['cpu_ms']:8.4f} ms p50 {figures['p50']:8.2f} "
        f"ttft {figures['ttft50']:8.2f}/{figures['ttft99']:8.2f} "
        f"{token}ok {figures['ok']} bad {figures['bad']} err {figures['errors']} "
        f"ev {figures['ev_min']}..{figures['ev_max']} {figures['bad_sample'][:120]}"
    )


def _glance(summary: dict[str, Any], floor: str) -> str:
    rows = []
    for name in summary["gateways"]:
        cells = [_cpu_and_ratio(workload, summary, name, floor) for workload in summary["workloads"]]
        rows.append([name, *cells])
    titles = [workload["title"] for workload in summary["workloads"].values()]
    return markdown([f"CPU ms per request (x {floor})", *titles], rows)


def _cpu_and_ratio(workload: str, summary: dict[str, Any], name: str, floor: str) -> str:
    own, reference = _median(summary["raw"][workload], name, "cpu_ms"), _reference(workload, summary, name, floor)
    if own is None:
        return NONE
    plain = summary["workloads"][workload]["plain"]
    return f"{own:.3f}" if not reference else f"{own:.3f} ({own / reference:.{2 if plain else 1}f}x{_own(plain)})"


def _own(plain: str) -> str:
    return f" own {plain}" if plain else ""


def _reference(workload: str, summary: dict[str, Any], name: str, floor: str) -> float | None:
    """Give the CPU a ratio refers to: the floor's, or for a translated workload the gateway's own without that."""
    plain = summary["workloads"][workload]["plain"]
    measured = summary["raw"].get(plain or workload, {})
    return _median(measured, name if plain else floor, "cpu_ms")


def _running(summary: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{gateway['cold_s']:.2f}",
            f"{gateway['idle_rss_mb']:.0f} / {gateway['peak_rss_mb']:.0f}",
            f"{gateway['idle_cpu_pct']:.1f}",
        ]
        for name, gateway in summary["gateways"].items()
    ]
    return markdown(["gateway", "cold start s", "RSS idle / peak MB", "idle CPU %"], rows)


def _workload(workload: str, summary: dict[str, Any], floor: str) -> str:
    measured, plain = summary["raw"][workload], summary["workloads"][workload]["plain"]
    straight = summary["raw"].get(plain or workload, {})
    expected = summary["workloads"][workload]["events"]
    streams = any(figures["ev_max"] > 0 for rounds in measured.values() for figures in rounds)
    added = LATENCIES | (FIRSTS if streams else {})
    head = ["gateway", "req/s", "CPU ms/req", "spread", f"x{_own(plain)}" if plain else f"x {floor}", *added.values()]
    head += [*([f"events of {expected}"] if streams else []), "core %", "failed"]
    rows = []
    for name, rounds in measured.items():
        is_direct = name == DIRECT
        cells = [f"{name} (absolute)" if is_direct else name, _figure(_median(measured, name, "rps"), 0)]
        cells += [NONE] * 3 if is_direct else _cpu(measured, name, _reference(workload, summary, name, floor))
        cells += [_figure(_added(measured, straight, name, key), 2) for key in added]
        cells += [_events(rounds)] if streams else []
        share = _median(measured, name, "core_share")
        cells.append(NONE if is_direct or share is None else f"{share * 100:.0f}")
        cells.append(str(sum(figures["bad"] + figures["errors"] for figures in rounds)))
        rows.append(cells)
    return markdown(head, rows)


def _cpu(measured: dict[str, Rounds], name: str, reference: float | None) -> list[str]:
    own = _median(measured, name, "cpu_ms")
    if own is None:
        return [NONE] * 3
    spread = [figures["cpu_ms"] for figures in _served(measured, name)]
    ratio = f"{own / reference:.2f}" if reference else NONE
    return [f"{own:.3f}", f"{min(spread):.3f}-{max(spread):.3f}", ratio]


def _added(measured: dict[str, Rounds], straight: dict[str, Rounds], name: str, key: str) -> float | None:
    """Give a latency over that of the direct line, which is not measured anew where a gateway translates."""
    own, reference = _median(measured, name, key), _median(straight, DIRECT, key)
    if name == DIRECT or own is None or reference is None:
        return own if name == DIRECT else None
    return own - reference


def _events(rounds: Rounds) -> str:
    low = min(figures["ev_min"] for figures in rounds)
    high = max(figures["ev_max"] for figures in rounds)
    return str(low) if low == high else f"{low}..{high}"


def _served(measured: dict[str, Rounds], name: str) -> Rounds:
    return [figures for figures in measured.get(name, []) if figures["ok"]]


def _median(measured: dict[str, Rounds], name: str, key: str) -> float | None:
    """Give the median over the rounds in which anything was served."""
    values = [figures[key] for figures in _served(measured, name)]
    return statistics.median(values) if values else None


def _figure(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
