-- Every statement on cache.db. Times are seconds since the epoch.

-- name: create_replies
-- One answer, or the claim of who is about to make it: `owner` is the process then, and there is no content.
CREATE TABLE replies (
  slot BLOB NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('cache', 'idempotency')),
  fingerprint BLOB NOT NULL,
  owner TEXT,
  at_s REAL NOT NULL,
  expires_at_s REAL NOT NULL,
  size_bytes INTEGER NOT NULL,
  facts TEXT,
  content BLOB
)

-- name: create_expiry
-- What is to go first, by time.
CREATE INDEX replies_expiry ON replies (expires_at_s)

-- name: create_age
-- What is to go first when there is too much; holds the sizes, so that they are summed without reading answers.
CREATE INDEX replies_age ON replies (kind, at_s, size_bytes)

-- name: find
-- The answer or the claim in a slot.
SELECT fingerprint, owner, expires_at_s, facts, content, at_s FROM replies WHERE slot = ?

-- name: claim
-- Nobody answers for the slot, or who did is dead, or what was there is out of date.
INSERT OR REPLACE INTO replies (slot, kind, fingerprint, owner, at_s, expires_at_s, size_bytes)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: keep
-- The answer in place of its claim, also when that has gone meanwhile.
INSERT OR REPLACE INTO replies (slot, kind, fingerprint, at_s, expires_at_s, size_bytes, facts, content)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: release
-- No answer came of a claim.
DELETE FROM replies WHERE slot = ? AND owner = ?

-- name: drop_expired
-- Out of date, a bounded number at a time.
DELETE FROM replies WHERE rowid IN (SELECT rowid FROM replies WHERE expires_at_s <= ? LIMIT ?)

-- name: measure
-- How much there is.
SELECT count(*), coalesce(sum(size_bytes), 0) FROM replies INDEXED BY replies_age

-- name: list_oldest
-- What goes when there is too much: of the cache first, the oldest first. Claims stay.
SELECT rowid, kind, size_bytes FROM replies WHERE owner IS NULL ORDER BY kind, at_s LIMIT ?

-- name: drop
DELETE FROM replies WHERE rowid = ?
