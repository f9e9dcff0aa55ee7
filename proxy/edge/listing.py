"""The query parameters of OpenRouter's model list (floor 5, no I/O): which models, in which order, which page.

Honoured is what the table and the catalogue can answer. A filter for a promise nobody here can give (`region`,
`distillable`) finds nothing rather than everything; popularity, categories and benchmarks are not known and change
nothing. A model whose context or price is not known passes no filter for it, and comes last in that order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from proxy.edge.entries import list_parameters, modalities, tokenizer_name
from proxy.edge.offers import Offer
from proxy.errors import ClientError
from proxy.pricing import Prices

PAGE_DEFAULT = 500
PAGE_MAX = 1_000
OUTPUT_DEFAULT = "text"
"""`output_modalities` unless it is sent; `all` is every model."""

Test = Callable[[Offer], bool]

_COUNT = re.compile(r"[0-9]{1,9}")
_USD = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,12})?")


def select(offers: Iterable[Offer], asked: QueryParams) -> list[Offer]:
    """Filter and sort as asked; raises `ClientError` that names a parameter that cannot be read."""
    wanted = {"output_modalities": OUTPUT_DEFAULT, **{name: value for name, value in asked.items() if value}}
    tests = [make(wanted[name], name) for name, make in _FILTERS.items() if name in wanted]
    found = [offer for offer in offers if all(test(offer) for test in tests)]
    order = _ORDERS.get(wanted.get("sort", ""))
    return found if order is None else sorted(found, key=order)


def cut_page(offers: Sequence[Offer], asked: QueryParams, path: str) -> tuple[Sequence[Offer], str | None]:
    """Cut a page when one is asked for, and give the link to the next one; otherwise the list is whole.

    Raises `ClientError` for an `offset` or a `limit` that is no number.
    """
    if not {"offset", "limit"} & asked.keys():
        return offers, None
    offset = _read_count(asked.get("offset") or "0", "offset")
    limit = min(_read_count(asked.get("limit") or str(PAGE_DEFAULT), "limit"), PAGE_MAX)
    if limit == 0:
        raise ClientError("`limit` must be at least 1.", param="limit")
    ends = offset + limit
    if ends >= len(offers):
        return offers[offset:ends], None
    kept = {name: value for name, value in asked.items() if name not in {"offset", "limit"}}
    return offers[offset:ends], f"{path}?{urlencode({'offset': ends, 'limit': limit, **kept})}"


# ---------------------------------------------------------------- filters


def _by_text(value: str, _name: str) -> Test:
    text = value.casefold()
    return lambda offer: text in offer.name.casefold()


def _by_parameters(value: str, _name: str) -> Test:
    wanted = _split(value)
    return lambda offer: wanted <= set(list_parameters(offer.first))


def _by_input(value: str, _name: str) -> Test:
    wanted = _split(value)
    return lambda offer: wanted <= set(modalities(offer.facts, "input"))


def _by_output(value: str, _name: str) -> Test:
    wanted = _split(value)
    return lambda offer: "all" in wanted or bool(wanted & set(modalities(offer.facts, "output")))


def _by_context(value: str, name: str) -> Test:
    tokens = _read_count(value, name)
    return lambda offer: offer.facts.context_tokens is not None and offer.facts.context_tokens >= tokens


def _by_provider(value: str, _name: str) -> Test:
    wanted = {word.casefold() for word in _split(value)}
    return lambda offer: any(target.provider.name.casefold() in wanted for target in offer.targets)


def _by_author(value: str, _name: str) -> Test:
    wanted = _split(value)
    return lambda offer: "/" in offer.name and offer.name.partition("/")[0] in wanted


def _by_family(value: str, _name: str) -> Test:
    family = value.casefold()
    return lambda offer: tokenizer_name(offer).casefold().startswith(family)


def _by_price(value: str, name: str) -> Test:
    """Compare in USD per million tokens, both ends included; `min_` or `max_`, `output` or the prompt's."""
    if not _USD.fullmatch(value):
        raise ClientError(f"`{name}` must be an amount in USD per million tokens, such as 0.5.", param=name)
    limit, is_least, is_output = Decimal(value), name.startswith("min_"), "output" in name

    def passes(offer: Offer) -> bool:
        prices = offer.facts.prices
        if prices is None:
            return False
        price = prices.output if is_output else prices.input
        return price >= limit if is_least else price <= limit

    return passes


def _by_retention(value: str, _name: str) -> Test:
    """Let pass what a provider serves of which routes.yaml says `zdr: true`. `false` asks for none."""
    return lambda offer: value == "false" or any(target.provider.zdr for target in offer.targets)


def _by_promise(value: str, _name: str) -> Test:
    """Let nothing pass: no provider here is known to keep such a promise. `false` asks for none."""
    return lambda _offer: value == "false"


_FILTERS: dict[str, Callable[[str, str], Test]] = {
    "q": _by_text,
    "supported_parameters": _by_parameters,
    "input_modalities": _by_input,
    "output_modalities": _by_output,
    "context": _by_context,
    "providers": _by_provider,
    "model_authors": _by_author,
    "arch": _by_family,
    "min_price": _by_price,
    "max_price": _by_price,
    "min_output_price": _by_price,
    "max_output_price": _by_price,
    "zdr": _by_retention,
    "region": _by_promise,
    "distillable": _by_promise,
}


# ---------------------------------------------------------------- orders


def _mean(prices: Prices) -> Decimal:
    return prices.input + prices.output


def _cheapest_first(offer: Offer) -> tuple[bool, Decimal]:
    prices = offer.facts.prices
    return prices is None, Decimal(0) if prices is None else _mean(prices)


def _dearest_first(offer: Offer) -> tuple[bool, Decimal]:
    is_unknown, price = _cheapest_first(offer)
    return is_unknown, -price


def _longest_first(offer: Offer) -> tuple[bool, Decimal]:
    tokens = offer.facts.context_tokens
    return tokens is None, -Decimal(tokens or 0)


_ORDERS = {
    "pricing-low-to-high": _cheapest_first,
    "pricing-high-to-low": _dearest_first,
    "context-high-to-low": _longest_first,
}


def _split(value: str) -> set[str]:
    return {word.strip() for word in value.split(",") if word.strip()}


def _read_count(text: str, name: str) -> int:
    if not _COUNT.fullmatch(text):
        raise ClientError(f"`{name}` must be a whole number of at most nine digits.", param=name)
    return int(text)
