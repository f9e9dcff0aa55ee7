"""The JSON library itself, where a release of it was dangerous."""

from __future__ import annotations

import os
import subprocess
import sys

from proxy.edge.body import DEPTH_MAX

WRITE_NESTED = """
import orjson
value = None
for _ in range({depth}):
    value = [value] + [None] * 100
assert orjson.loads(orjson.dumps(value)) == value
"""


def test_writing_the_deepest_body_let_in_harms_no_memory() -> None:
    """Releases 3.12.0 and 3.13.0 wrote past their buffer here; under the debug allocator that ends the process."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE_NESTED.format(depth=DEPTH_MAX)],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
