"""What tokens cost (floor 1a, pure): a price row, and the two sums made from it.

`cost` is what an attempt is booked at; `worst_case` is what it can cost at most and therefore what is held.
"""

from __future__ import annotations

from proxy.pricing.buckets import Buckets, contradictions, decompose
from proxy.pricing.rows import PER_PIECE, PER_TOKEN, ROUTES, ModelFacts, Origin, Prices, PriceTier, ServiceTier
from proxy.pricing.sums import OUTPUT_TOKENS_UNBOUNDED, Bounds, cost, output_tokens_for, unpriced, worst_case

__all__ = [
    "OUTPUT_TOKENS_UNBOUNDED",
    "PER_PIECE",
    "PER_TOKEN",
    "ROUTES",
    "Bounds",
    "Buckets",
    "ModelFacts",
    "Origin",
    "PriceTier",
    "Prices",
    "ServiceTier",
    "contradictions",
    "cost",
    "decompose",
    "output_tokens_for",
    "unpriced",
    "worst_case",
]
