"""Money as its vendors tell it: a golden table of bills, and the bugs that other gateways shipped.

`golden/*.yaml` holds one bill a row: what a vendor sends, what it costs, and the arithmetic. `peer_bugs.txt` names each
money bug of other gateways with the test that would find it here.
"""
