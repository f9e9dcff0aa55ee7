-- What is kept of attempts once their detail has gone, and what providers say of their own accounts.

-- Requests summed by UTC day. All requests of a batch went the same way: the same key, labels and targets, attempt by
-- attempt on the same days. A batch has one row for each of its attempts, so every question that counts a request once
-- in each group it touched has the same answer as before. Columns named as in `attempts` mean the same.
CREATE TABLE days (
  seq INTEGER PRIMARY KEY,
  -- Hex digest of everything that the requests have in common.
  batch TEXT NOT NULL,
  number INTEGER NOT NULL,
  is_last INTEGER NOT NULL,
  -- When the attempts' day began, seconds since the epoch.
  day_s INTEGER NOT NULL,
  key_name TEXT NOT NULL,
  tenant TEXT,
  app TEXT,
  user TEXT,
  tags TEXT,
  route TEXT NOT NULL,
  alias TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  upstream_key TEXT,
  payer TEXT NOT NULL,
  -- How many requests, and how many of them failed in the end: the same in every row of a batch.
  requests INTEGER NOT NULL CHECK (requests > 0),
  failed INTEGER NOT NULL CHECK (failed >= 0 AND failed <= requests),
  unknown_cost INTEGER NOT NULL,
  overruns INTEGER NOT NULL,
  cache_hits INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL,
  audio_input_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  audio_output_tokens INTEGER NOT NULL,
  saved_nano_usd INTEGER NOT NULL,
  cost_nano_usd INTEGER NOT NULL CHECK (cost_nano_usd >= 0),
  -- The same by source; NULL: nothing was booked from it.
  cost_reported_nano_usd INTEGER,
  cost_computed_nano_usd INTEGER,
  cost_estimated_nano_usd INTEGER,
  cost_held_nano_usd INTEGER,
  UNIQUE (batch, number)
) STRICT;

CREATE INDEX days_by_day ON days (day_s);
CREATE INDEX days_by_key ON days (key_name, day_s);
CREATE INDEX days_by_tenant ON days (tenant, day_s) WHERE tenant IS NOT NULL;
CREATE INDEX days_by_user ON days (user, day_s) WHERE user IS NOT NULL;

-- Which of them a tag's scope has.
CREATE TABLE day_tags (
  scope TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (scope, seq)
) STRICT, WITHOUT ROWID;

-- Attempts of requests that had several: few, and a report counts them apart from the rest.
CREATE INDEX attempts_of_several ON attempts (at_s) WHERE number > 1 OR is_last = 0;

-- What a provider said of the account behind a credential, beside what was booked for it until then.
CREATE TABLE bills (
  provider TEXT NOT NULL,
  -- The credential's name in its provider's pool; '' for the only one.
  upstream_key TEXT NOT NULL,
  at_s REAL NOT NULL,
  -- Tells two credentials apart, and nothing else about them.
  fingerprint TEXT NOT NULL,
  -- Since the account began, by its word.
  billed_nano_usd INTEGER NOT NULL,
  -- Since the books began.
  booked_nano_usd INTEGER NOT NULL,
  -- What may still be spent; NULL: it does not say.
  left_nano_usd INTEGER,
  PRIMARY KEY (provider, upstream_key, at_s)
) STRICT, WITHOUT ROWID;
