-- Keys that make keys, tenants and what is theirs, prepaid credits, and who changed what.

-- The key that made it; its limits hold for this one too.
ALTER TABLE keys ADD COLUMN parent TEXT;
ALTER TABLE keys ADD COLUMN may_create_keys INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN max_cost_nano_usd INTEGER;
-- Disabled for good.
ALTER TABLE keys ADD COLUMN is_revoked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN updated_at_s REAL NOT NULL DEFAULT 0;
-- A rotated key's former value, good until then.
ALTER TABLE keys ADD COLUMN former_digest TEXT;
ALTER TABLE keys ADD COLUMN former_until_s REAL;

CREATE INDEX keys_by_parent ON keys (parent) WHERE parent IS NOT NULL;
CREATE INDEX keys_by_former_digest ON keys (former_digest) WHERE former_digest IS NOT NULL;

-- Tenants. Of one in routes.yaml only the name counts; the table in force says the rest.
CREATE TABLE tenants (
  name TEXT PRIMARY KEY,
  models TEXT,
  default_model TEXT,
  params TEXT NOT NULL,
  max_cost_nano_usd INTEGER,
  is_declared INTEGER NOT NULL,
  is_enabled INTEGER NOT NULL,
  is_deleted INTEGER NOT NULL,
  created_at_s REAL NOT NULL,
  updated_at_s REAL NOT NULL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tenants' own credentials at providers, encrypted under TURNPIKE_SECRET_KEY.
CREATE TABLE credentials (
  tenant TEXT NOT NULL,
  provider TEXT NOT NULL,
  sealed TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  created_at_s REAL NOT NULL,
  PRIMARY KEY (tenant, provider)
) STRICT, WITHOUT ROWID;

-- Prepaid credits: lines are added, never changed. Their sum is one more hard budget of the place, for all time.
CREATE TABLE credits (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  place TEXT NOT NULL,
  amount_nano_usd INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind = 'opening' OR kind = 'grant'),
  at_s REAL NOT NULL,
  actor TEXT NOT NULL,
  note TEXT
) STRICT;

CREATE INDEX credits_by_place ON credits (place);

-- That sum, where every admission reads it.
ALTER TABLE limits ADD COLUMN prepaid_nano_usd INTEGER;

-- Who changed what, each line sealed with the hash of the one before it.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at_s REAL NOT NULL,
  actor TEXT NOT NULL,
  address TEXT,
  request_id TEXT,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  before TEXT,
  after TEXT,
  hash TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_action ON audit (action, seq);
