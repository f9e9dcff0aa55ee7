"""Books of any size, made fast: `python -m tests.ledger.filling DATA_DIR REQUESTS [SCHEMA]`.

What stands in them is what a server would have written: twenty keys with a budget per day and, from an earlier time,
one for all time; every twentieth request fell back once, every fiftieth was voided. With a schema they are books that
an older version would have left behind.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from proxy.ledger import schema
from proxy.ledger.folder import make_data_folder
from proxy.ledger.sql import load_migrations
from proxy.ledger.standing import FOREVER_S
from tests.ledger.entries import DAY_S, NOON_S

KEYS = 20
DAYS = 30
FROM_S = NOON_S - DAYS * DAY_S

_KEYS = """INSERT INTO keys (
  name, digest, tenant, models, default_model, params, is_declared, is_enabled, created_at_s, expires_at_s, revision
)
SELECT 'key-' || value, 'digest-' || value, NULL, NULL, NULL, '{}', 0, 1, 0.0, NULL, 1 FROM json_each(?)"""
_KEYS_OF_1 = """INSERT INTO keys
SELECT 'key-' || value, 'digest-' || value, NULL, 1000000000000, 'day', NULL, NULL, '{}', 0, 1, 0.0, NULL, 1
FROM json_each(?)"""
_LIMITS = """INSERT INTO limits (place, rules, is_hard, is_declared)
SELECT 'key:key-' || value, '{"budgets":[{"limit_nano_usd":1000000000000,"period":"day"}]}', 1, 0
FROM json_each(?)"""
_REQUESTS = """WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :requests),
attempts_of (n, id, number, is_last) AS (
  SELECT n, lower(hex(randomblob(16))), 1, n % 20 <> 7 FROM numbers
)
INSERT INTO attempts (
  request_id, number, is_last, state, owner, at_s, key_name, alias, route, provider, model, is_stream, hold_nano_usd,
  is_priced, ended_at_s, cost_nano_usd, cost_source, status, latency_ms, first_token_ms, generation_id, input_tokens,
  output_tokens
)
SELECT id, number, is_last, CASE WHEN n % 50 THEN 'posted' ELSE 'voided' END, 'a1b2c3d4e5f60718',
  :from_s + n * :every_s, 'key-' || (n * 7919 % :keys), 'chat', 'chat', 'openrouter', 'openai/gpt-4o-mini', n % 2,
  40000 + n % 999, 1, :from_s + n * :every_s + 2.5, CASE WHEN n % 50 THEN 1000 + n % 997 ELSE 0 END,
  CASE WHEN n % 50 THEN 'reported' END, 200, 2500, 300, 'gen-' || lower(hex(randomblob(12))), 200 + n % 100, 100
FROM attempts_of"""
_FALLBACKS = """INSERT INTO attempts (
  request_id, number, is_last, state, owner, at_s, key_name, alias, route, provider, model, is_stream, hold_nano_usd,
  is_priced, ended_at_s, cost_nano_usd, cost_source, status, latency_ms
)
SELECT request_id, 2, 1, 'posted', owner, at_s + 0.5, key_name, alias, route, 'openai', model, is_stream, hold_nano_usd,
  1, ended_at_s, 777, 'computed', 200, 2000
FROM attempts WHERE NOT is_last"""
_BALANCES = """INSERT INTO balances
SELECT 'key:' || key_name, starts_s + length_s, starts_s, sum(coalesce(cost_nano_usd, 0)), 0
FROM (
  SELECT key_name, cost_nano_usd, CASE WHEN value THEN CAST(at_s AS INTEGER) / 86400 * 86400 ELSE 0 END AS starts_s,
    CASE WHEN value THEN 86400 ELSE ? END AS length_s
  FROM attempts, json_each('[0, 1]')
)
GROUP BY key_name, starts_s, length_s"""


def fill(data_dir: Path, requests: int, *, version: int | None = None) -> None:
    """Write so many requests into a new data folder, of the newest schema unless told otherwise."""
    make_data_folder(data_dir)
    path = schema.find_file(data_dir)
    with patch.object(schema, "load_migrations", lambda: load_migrations()[:version]):
        schema.prepare(path, FROM_S)
    with closing(schema.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        if version == 1:
            connection.execute(_KEYS_OF_1, (str(list(range(KEYS))),))
        else:
            connection.execute(_KEYS, (str(list(range(KEYS))),))
            connection.execute(_LIMITS, (str(list(range(KEYS))),))
        every_s = DAYS * DAY_S / requests
        figures = {"requests": requests, "from_s": FROM_S, "every_s": every_s, "keys": KEYS}
        connection.execute(_of_schema(_REQUESTS, version), figures)
        connection.execute(_of_schema(_FALLBACKS, version))
        connection.execute(_BALANCES, (FOREVER_S,))
        connection.execute("COMMIT")


def _of_schema(statement: str, version: int | None) -> str:
    """Leave out what the first schema did not have."""
    if version != 1:
        return statement
    return statement.replace("alias, route", "route").replace("'chat', 'chat'", "'chat'")


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]), version=int(sys.argv[3]) if len(sys.argv) > 3 else None)
