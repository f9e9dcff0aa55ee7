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

-- The books as a journal in double entry. Every entry, the first one of an attempt or a correction of it, has two legs
-- that sum to zero: whose spending it is, and whom it is owed to. Derived, so that nothing is written twice.
CREATE VIEW attempt_postings (seq, at_s, account, amount_nano_usd) AS
SELECT attempts.seq, ended_at_s,
  CASE sign WHEN 1 THEN 'key:' || key_name ELSE
    'upstream:' || provider || CASE payer WHEN 'gateway' THEN '' ELSE '@' || coalesce(tenant, key_name) END
  END,
  -- What it was first booked at: its cost, unless that was corrected since.
  sign * CASE
    WHEN EXISTS (SELECT 1 FROM corrections WHERE attempt_seq = attempts.seq)
    THEN (SELECT was_nano_usd FROM corrections WHERE attempt_seq = attempts.seq ORDER BY corrections.seq LIMIT 1)
    ELSE cost_nano_usd
  END
FROM attempts CROSS JOIN (SELECT 1 AS sign UNION ALL SELECT -1) WHERE state = 'posted' OR state = 'voided';

CREATE VIEW correction_postings (seq, attempt_seq, at_s, account, amount_nano_usd) AS
SELECT corrections.seq, attempt_seq, corrections.at_s,
  CASE sign WHEN 1 THEN 'key:' || key_name ELSE
    'upstream:' || provider || CASE payer WHEN 'gateway' THEN '' ELSE '@' || coalesce(tenant, key_name) END
  END,
  sign * delta_nano_usd
FROM corrections CROSS JOIN (SELECT 1 AS sign UNION ALL SELECT -1) JOIN attempts ON attempts.seq = attempt_seq;

CREATE VIEW postings (kind, seq, attempt_seq, at_s, account, amount_nano_usd) AS
SELECT 'attempt', seq, seq, at_s, account, amount_nano_usd FROM attempt_postings WHERE amount_nano_usd <> 0
UNION ALL
SELECT 'correction', seq, attempt_seq, at_s, account, amount_nano_usd FROM correction_postings
WHERE amount_nano_usd <> 0;
