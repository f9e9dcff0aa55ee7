-- The first schema. Amounts are nano-USD, times seconds since the epoch (UTC), names those of records.py.
-- Forward only: a later change is a later file, this one never changes again.

-- Which of these files have been applied.
CREATE TABLE schema_versions (
  version INTEGER PRIMARY KEY,
  applied_at_s REAL NOT NULL
) STRICT;

-- Client keys. A digest may stand twice: a key renamed in routes.yaml leaves its old name behind, disabled.
CREATE TABLE keys (
  name TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  tenant TEXT,
  limit_nano_usd INTEGER,
  period TEXT,
  models TEXT,
  default_model TEXT,
  params TEXT NOT NULL,
  is_declared INTEGER NOT NULL,
  is_enabled INTEGER NOT NULL,
  created_at_s REAL NOT NULL,
  expires_at_s REAL,
  revision INTEGER NOT NULL,
  CHECK ((limit_nano_usd IS NULL) = (period IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_by_digest ON keys (digest);

-- The books: one row per upstream call, written before its first byte. Rows are never deleted by a request.
-- AUTOINCREMENT: `seq` is the cursor of an export, so a number must not come back after old rows are pruned.
CREATE TABLE attempts (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  request_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  is_last INTEGER NOT NULL,
  -- Not `IN (...)`: SQLite would build a table of four rows for every row it checks.
  state TEXT NOT NULL CHECK (state = 'pending' OR state = 'posted' OR state = 'voided' OR state = 'unresolved'),
  owner TEXT NOT NULL,
  at_s REAL NOT NULL,
  key_name TEXT NOT NULL,
  tenant TEXT,
  app TEXT,
  route TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  is_stream INTEGER NOT NULL,
  hold_nano_usd INTEGER NOT NULL CHECK (hold_nano_usd >= 0),
  is_priced INTEGER NOT NULL,
  ended_at_s REAL,
  cost_nano_usd INTEGER CHECK (cost_nano_usd >= 0),
  cost_source TEXT,
  is_overrun INTEGER NOT NULL DEFAULT 0,
  status INTEGER,
  error TEXT,
  latency_ms INTEGER,
  first_token_ms INTEGER,
  generation_id TEXT,
  input_tokens INTEGER NOT NULL DEFAULT 0,
  output_tokens INTEGER NOT NULL DEFAULT 0,
  cached_tokens INTEGER NOT NULL DEFAULT 0,
  cache_write_tokens INTEGER NOT NULL DEFAULT 0,
  cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0,
  audio_input_tokens INTEGER NOT NULL DEFAULT 0,
  reasoning_tokens INTEGER NOT NULL DEFAULT 0,
  audio_output_tokens INTEGER NOT NULL DEFAULT 0,
  reported_nano_usd INTEGER,
  is_byok INTEGER NOT NULL DEFAULT 0,
  anomalies TEXT
) STRICT;

CREATE UNIQUE INDEX attempts_by_request ON attempts (request_id, number);
CREATE INDEX attempts_by_key ON attempts (key_name, at_s);
CREATE INDEX attempts_by_time ON attempts (at_s);
-- Small: it holds only what is in flight, so looking for a dead owner's holds costs nothing when there are none.
CREATE INDEX attempts_pending ON attempts (owner) WHERE state = 'pending';

-- What a window of a scope (`key:NAME`) holds, kept only where a budget asked for it. Always equal to the sums over
-- the scope's attempts whose `at_s` lies in [starts_s, ends_s), so it can be thrown away and made again.
CREATE TABLE balances (
  scope TEXT NOT NULL,
  ends_s INTEGER NOT NULL,
  starts_s INTEGER NOT NULL,
  posted_nano_usd INTEGER NOT NULL CHECK (posted_nano_usd >= 0),
  held_nano_usd INTEGER NOT NULL CHECK (held_nano_usd >= 0),
  PRIMARY KEY (scope, ends_s, starts_s)
) STRICT, WITHOUT ROWID;
