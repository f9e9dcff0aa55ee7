-- Limits of every place, and what an attempt is counted by beside its key.

-- Who else is asked: the request's `user`, its tags, the credential of a pool, whose money it is.
ALTER TABLE attempts ADD COLUMN user TEXT;
-- The key of `models` that answered to what was asked for, a glob perhaps; `route` is the name as asked.
ALTER TABLE attempts ADD COLUMN alias TEXT;
UPDATE attempts SET alias = route;
-- A JSON array of [name, value], sorted.
ALTER TABLE attempts ADD COLUMN tags TEXT;
ALTER TABLE attempts ADD COLUMN upstream_key TEXT;
ALTER TABLE attempts ADD COLUMN payer TEXT NOT NULL DEFAULT 'gateway';
-- What rates of tokens were charged with at the admission, to be corrected at the end: a JSON array of the tokens and of
-- each [scope, window_s, slot]; NULL when no such rate held.
ALTER TABLE attempts ADD COLUMN charged TEXT;
-- What an answer out of the response cache would have cost.
ALTER TABLE attempts ADD COLUMN saved_nano_usd INTEGER;

CREATE INDEX attempts_by_tenant ON attempts (tenant, at_s) WHERE tenant IS NOT NULL;
CREATE INDEX attempts_by_user ON attempts (user, at_s) WHERE user IS NOT NULL;

-- What is in flight, by all that `parallel` may be asked of: counted there, so no counter can drift.
DROP INDEX attempts_pending;
CREATE INDEX attempts_pending ON attempts (key_name, alias, tenant, user, owner) WHERE state = 'pending';

-- Which attempts a tag's scope has, so that its windows can be summed.
CREATE TABLE attempt_tags (
  scope TEXT NOT NULL,
  at_s REAL NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (scope, at_s, seq)
) STRICT, WITHOUT ROWID;

-- What holds for a place: `key:NAME`, `tenant:NAME`, `model:ALIAS`, `provider:NAME`, `target:NAME`, `upstream:NAME` or
-- `global`. Read in every admission.
CREATE TABLE limits (
  place TEXT PRIMARY KEY,
  rules TEXT NOT NULL,
  -- Some budget of it is a wall.
  is_hard INTEGER NOT NULL,
  -- It stands in routes.yaml.
  is_declared INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Two numbers that are others after every change of `limits`, and after every new row of `balances`, never to come back:
-- what a process remembers of those tables holds as long as these do.
CREATE TABLE versions (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  limits INTEGER NOT NULL,
  balances INTEGER NOT NULL
) STRICT;
INSERT INTO versions (id, limits, balances) VALUES (1, 0, 0);
CREATE TRIGGER limits_inserted AFTER INSERT ON limits BEGIN UPDATE versions SET limits = random(); END;
CREATE TRIGGER limits_updated AFTER UPDATE ON limits BEGIN UPDATE versions SET limits = random(); END;
CREATE TRIGGER limits_deleted AFTER DELETE ON limits BEGIN UPDATE versions SET limits = random(); END;
CREATE TRIGGER balances_inserted AFTER INSERT ON balances BEGIN UPDATE versions SET balances = random(); END;

-- Sliding windows of rates, in pieces of a sixtieth of the window.
CREATE TABLE rates (
  scope TEXT NOT NULL,
  window_s INTEGER NOT NULL,
  slot INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  PRIMARY KEY (scope, window_s, slot)
) STRICT, WITHOUT ROWID;

-- A key's budget moves to where the limits of all places stand.
INSERT INTO limits (place, rules, is_hard, is_declared)
SELECT 'key:' || name,
  json_object('budgets', json_array(json_object('limit_nano_usd', limit_nano_usd, 'period', period))), 1, is_declared
FROM keys WHERE limit_nano_usd IS NOT NULL;

CREATE TABLE keys_without_budget (
  name TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  tenant TEXT,
  models TEXT,
  default_model TEXT,
  params TEXT NOT NULL,
  is_declared INTEGER NOT NULL,
  is_enabled INTEGER NOT NULL,
  created_at_s REAL NOT NULL,
  expires_at_s REAL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO keys_without_budget
SELECT name, digest, tenant, models, default_model, params, is_declared, is_enabled, created_at_s, expires_at_s, revision
FROM keys;
DROP TABLE keys;
ALTER TABLE keys_without_budget RENAME TO keys;
CREATE INDEX keys_by_digest ON keys (digest);
