-- What alerts have told and have still to tell. Times are seconds since the epoch (UTC).

-- One row per incident. At most one of a rule, subject and window is open, whichever process sees it first.
CREATE TABLE incidents (
  id TEXT PRIMARY KEY,
  rule TEXT NOT NULL,
  subject TEXT NOT NULL,
  turn INTEGER NOT NULL,
  figure TEXT NOT NULL,
  what TEXT NOT NULL,
  advice TEXT NOT NULL,
  opened_at_s REAL NOT NULL,
  ended_at_s REAL,
  ending TEXT,
  CHECK ((ended_at_s IS NULL) = (ending IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX incidents_open ON incidents (rule, subject, turn) WHERE ended_at_s IS NULL;
CREATE INDEX incidents_by_end ON incidents (ended_at_s) WHERE ended_at_s IS NOT NULL;

-- Who is to be told of it: written in the transaction that opens or ends the incident, so neither exists without the
-- other. `webhook` is a digest of its address.
CREATE TABLE deliveries (
  incident_id TEXT NOT NULL,
  event TEXT NOT NULL CHECK (event = 'opened' OR event = 'ended'),
  webhook TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state = 'pending' OR state = 'delivered' OR state = 'given_up'),
  tries INTEGER NOT NULL,
  due_at_s REAL NOT NULL,
  tried_at_s REAL,
  status INTEGER,
  problem TEXT,
  PRIMARY KEY (incident_id, event, webhook)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_due ON deliveries (due_at_s) WHERE state = 'pending';
