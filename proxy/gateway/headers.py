"""The reply headers that explain an answer (part of the gateway, floor 4; design.md section 6)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from proxy.codecs.surface import Cost
from proxy.gateway.attempt import Attempt
from proxy.money import format_usd
from proxy.policy.limits import Quota


def reply_headers(request_id: str, alias: str, attempt: Attempt, *, overhead_s: float) -> dict[str, str]:
    """Say which target answered, at which try, and what we did to the request; `overhead_s` is the time spent here."""
    target = attempt.candidate.target
    headers = {
        "x-request-id": request_id,
        "x-generation-id": f"gen-{request_id}",
        "x-turnpike-route": header_text(alias),
        "x-turnpike-provider": header_text(target.provider.name),
        "x-turnpike-model": header_text(target.model),
        "x-turnpike-attempts": str(attempt.number),
        "x-turnpike-overhead-ms": f"{max(0.0, overhead_s * 1000):.1f}",
    }
    if attempt.candidate.output_tokens_max is not None:
        headers["x-turnpike-clamped"] = f"max_tokens={attempt.candidate.output_tokens_max}"
    if attempt.candidate.transforms is not None:
        headers["x-turnpike-transforms"] = attempt.candidate.transforms
    if attempt.dropped:
        headers["x-turnpike-dropped"] = header_text(", ".join(dict.fromkeys(attempt.dropped)))
    return headers


def cost_headers(cost: Cost, spent_nano_usd: int | None) -> dict[str, str]:
    """Say what the request cost, all attempts together, and where the last attempt's figure comes from."""
    headers = {"x-turnpike-cost-source": cost.source.value}
    if spent_nano_usd is not None:
        headers["x-turnpike-cost"] = format_usd(spent_nano_usd)
    return headers


def tried_headers(alias: str, attempts: int, spent_nano_usd: int | None) -> dict[str, str]:
    """Say on an error what was tried in vain and what that cost; an unknown cost is left out, never 0."""
    headers = {"x-turnpike-route": header_text(alias), "x-turnpike-attempts": str(attempts)}
    if spent_nano_usd is not None:
        headers["x-turnpike-cost"] = format_usd(spent_nano_usd)
    return headers


def quota_headers(quotas: Iterable[Quota]) -> dict[str, str]:
    """Say how the rates stand that hold for this request, in the names OpenAI uses."""
    headers: dict[str, str] = {}
    for quota in quotas:
        word = quota.measure.value
        headers[f"x-ratelimit-limit-{word}"] = str(quota.limit)
        headers[f"x-ratelimit-remaining-{word}"] = str(quota.remaining)
        headers[f"x-ratelimit-reset-{word}"] = f"{quota.resets_in_s:.3f}s"
    return headers


def header_text(text: str) -> str:
    """Make a name safe for a header: printable ASCII as it is, the rest percent-encoded, never a line end."""
    return text if text.isascii() and text.isprintable() else quote(text, safe="!#$&'()*+,/:;=?@[]~^|{}<> ")
