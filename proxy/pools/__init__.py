"""Pools of upstream keys at work (floor 2): which one is called, and what replies say of its quota.

`records` remembers, in this process; `policy.pools` decides by it; `front` stands in front of the provider's upstream
for one attempt, puts the chosen key on the call and reads what the reply says of quotas.
"""

from proxy.pools.front import KeyedUpstream
from proxy.pools.records import Pools, RefusedKey, Turn

__all__ = ["KeyedUpstream", "Pools", "RefusedKey", "Turn"]
