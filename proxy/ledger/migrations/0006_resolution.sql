-- What is learnt late: about attempts whose owner died, and amounts that a provider tells only afterwards.

-- What a later truth changed, beside the change itself and in its transaction. Rows are only ever added: an attempt's
-- present cost is what its first row found and all differences since.
CREATE TABLE corrections (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  attempt_seq INTEGER NOT NULL,
  at_s REAL NOT NULL,
  -- NULL: nobody knew.
  was_nano_usd INTEGER,
  was_source TEXT,
  delta_nano_usd INTEGER NOT NULL,
  cost_source TEXT,
  reason TEXT NOT NULL
) STRICT;

-- One truth is told once, however often it comes.
CREATE UNIQUE INDEX corrections_by_attempt ON corrections (attempt_seq, reason);

-- What a provider is still to be asked. An unresolved attempt always has a row here; what is known without an answer
-- stands beside it.
CREATE TABLE lookups (
  attempt_seq INTEGER PRIMARY KEY,
  due_s REAL NOT NULL,
  tries INTEGER NOT NULL,
  estimate_nano_usd INTEGER CHECK (estimate_nano_usd >= 0),
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL
) STRICT;

CREATE INDEX lookups_by_due ON lookups (due_s);

-- The books as a journal in double entry. Every entry, the first one of a posted attempt or a correction, has two legs
-- that sum to zero: what we owe upstream, and whose spending it is. Derived, so that nothing is written twice.
CREATE VIEW postings (kind, seq, attempt_seq, at_s, account, amount_nano_usd) AS
WITH entries AS (
  SELECT 'attempt' AS kind, attempts.seq AS seq, attempts.seq AS attempt_seq, ended_at_s AS at_s,
    CASE WHEN first.seq IS NULL THEN cost_nano_usd ELSE first.was_nano_usd END AS amount_nano_usd,
    key_name, tenant, provider, payer
  FROM attempts LEFT JOIN corrections AS first ON first.seq = (
    SELECT min(corrections.seq) FROM corrections WHERE corrections.attempt_seq = attempts.seq
  )
  WHERE state = 'posted' OR first.seq IS NOT NULL
  UNION ALL
  SELECT 'correction', corrections.seq, attempt_seq, corrections.at_s, delta_nano_usd, key_name, tenant, provider, payer
  FROM corrections JOIN attempts ON attempts.seq = attempt_seq
)
SELECT kind, seq, attempt_seq, at_s,
  'upstream:' || provider || CASE payer WHEN 'gateway' THEN '' ELSE '@' || coalesce(tenant, key_name) END,
  -amount_nano_usd
FROM entries WHERE amount_nano_usd IS NOT NULL
UNION ALL
SELECT kind, seq, attempt_seq, at_s, 'key:' || key_name, amount_nano_usd FROM entries WHERE amount_nano_usd IS NOT NULL;
