"""Requests to count, and a reader of what is shown of them."""

from __future__ import annotations

import re
from typing import Any, Final

from proxy.telemetry import FinishedRequest, Meters, Names, Page
from proxy.usage import CostSource

NAMES: Final = Names(frozenset({"chat"}), frozenset({("sim", "echo")}))

_SAMPLE = re.compile(r"^turnpike_(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_COMMENT = re.compile(r"^# (?:HELP turnpike_\w+ .+|TYPE turnpike_\w+ (?:counter|gauge|histogram))$")


def finished(**changes: Any) -> FinishedRequest:
    """Make the record of a request."""
    made = FinishedRequest(
        request_id="req_1",
        key="mobile",
        tenant="acme",
        route="chat",
        provider="sim",
        model="echo",
        status=200,
        attempts=1,
        input_tokens=10,
        output_tokens=20,
        cost_nano_usd=1_500,
        cost_source=CostSource.COMPUTED,
        latency_ms=400,
        first_token_ms=120,
        error=None,
        overhead_us=900,
    )
    return made._replace(**changes)


def meters(page: Page) -> Meters:
    """Count on a page where the table names one alias and one target."""
    return Meters(page, names=lambda: NAMES)


def samples(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Read Prometheus' text format strictly: every line is a comment or a sample."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        assert match or _COMMENT.match(line), line
        if match:
            float(match[3])
            found.append((match[1], dict(_LABEL.findall(match[2] or "")), match[3]))
    return found


def values(text: str, name: str, **labels: str) -> list[str]:
    """Give the values of a metric's samples that have these labels."""
    return [value for seen, has, value in samples(text) if seen == name and labels.items() <= has.items()]
