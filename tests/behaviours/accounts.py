"""An upstream with accounts: what a call meets depends on the key it comes with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tests.faults.records import Exchange
from tests.faults.replies import good, plain
from tests.faults.steps import Ask, Step
from tests.faults.upstream import FaultUpstream

Plan = Callable[[Ask], Iterable[Step]]


class AccountUpstream(FaultUpstream):
    """Plays a plan for each key; a key without one gets a good answer."""

    def __init__(self, plans: Mapping[str, Plan] | None = None) -> None:
        """Begin with these plans, by key."""
        super().__init__()
        self.plans = dict(plans or {})

    @property
    def calls(self) -> Counter[str]:
        """Count the calls by key."""
        return Counter(key_of(exchange) for exchange in self.exchanges)

    def _choose(self, exchange: Exchange) -> Iterable[Step]:
        body = exchange.body
        ask = Ask(model=str(body["model"]), is_stream=body.get("stream") is True, wants_usage=True, path=exchange.path)
        exchange.mode = "account"
        return self.plans.get(key_of(exchange), good)(ask)


def key_of(exchange: Exchange) -> str:
    """Give the credential of a call."""
    bearer = exchange.headers.get("authorization", "").removeprefix("Bearer ")
    return exchange.headers.get("x-api-key") or bearer


def limited(retry_after: str | None = None, **headers: str) -> Plan:
    """Refuse as a provider whose limit is used up."""
    told = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if retry_after is not None:
        told.append(("retry-after", retry_after))
    body = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
    return lambda _ask: plain(body, status=429, headers=told)


def out_of_free_requests(reset_ms: int, *, per: str = "day", limit: int = 50) -> Plan:
    """Refuse as OpenRouter whose account has used up what is free (openrouter.md 4.4)."""
    headers = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(reset_ms),
    }
    message = f"Rate limit exceeded: free-models-per-{per}. Add 10 credits to unlock 1000 free model requests per day"
    error = {"message": message, "code": 429, "metadata": {"headers": headers, "provider_name": None}}
    return lambda ask: plain({"error": error}, status=429) if ask.model.endswith(":free") else good(ask)


def limited_elsewhere() -> Plan:
    """Refuse as OpenRouter whose own provider of the model is limited, whoever asks."""
    metadata = {"provider_name": "Made Up", "raw": "temporarily rate-limited upstream"}
    error = {"message": "Provider returned error", "code": 429, "metadata": metadata}
    return lambda _ask: plain({"error": error}, status=429)


def refusing(status: int, message: str = "No auth credentials found") -> Plan:
    """Refuse the key itself."""
    return lambda _ask: plain({"error": {"message": message, "code": status}}, status=status)


def with_quota(left: int, limit: int, *, reset: str = "60s") -> Plan:
    """Answer well and say what is left, as OpenAI does."""
    headers = [
        ("x-ratelimit-limit-requests", str(limit)),
        ("x-ratelimit-remaining-requests", str(left)),
        ("x-ratelimit-reset-requests", reset),
    ]
    return lambda ask: good(ask, headers=headers)
