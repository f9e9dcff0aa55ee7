-- Statements of the registry: keys, tenants, credentials, credits, the audit log. The form is that of queries.sql.

-- name: find_tenant
SELECT name, models, default_model, params, max_cost_nano_usd, is_declared, is_enabled, is_deleted,
  created_at_s, updated_at_s, revision
FROM tenants WHERE name = ?

-- name: list_tenants
SELECT name, models, default_model, params, max_cost_nano_usd, is_declared, is_enabled, is_deleted,
  created_at_s, updated_at_s, revision
FROM tenants ORDER BY name

-- name: put_tenant
-- The moment it came into being stays.
INSERT INTO tenants (
  name, models, default_model, params, max_cost_nano_usd, is_declared, is_enabled, is_deleted,
  created_at_s, updated_at_s, revision
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
  models = excluded.models, default_model = excluded.default_model, params = excluded.params,
  max_cost_nano_usd = excluded.max_cost_nano_usd, is_declared = excluded.is_declared, is_enabled = excluded.is_enabled,
  is_deleted = excluded.is_deleted, updated_at_s = excluded.updated_at_s, revision = excluded.revision

-- name: list_credentials
-- Of one tenant, or of all. Parameters: tenant, tenant.
SELECT tenant, provider, sealed, fingerprint, created_at_s FROM credentials
WHERE ? IS NULL OR tenant = ? ORDER BY tenant, provider

-- name: put_credential
INSERT INTO credentials (tenant, provider, sealed, fingerprint, created_at_s) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, provider) DO UPDATE SET
  sealed = excluded.sealed, fingerprint = excluded.fingerprint, created_at_s = excluded.created_at_s

-- name: drop_credential
DELETE FROM credentials WHERE tenant = ? AND provider = ?

-- name: find_rules
-- What is written for a place, without what was prepaid for it.
SELECT rules, is_declared FROM limits WHERE place = ?

-- name: put_prepaid
-- What was prepaid for a place in all, beside whatever is written for it.
INSERT INTO limits (place, rules, is_hard, is_declared, prepaid_nano_usd) VALUES (?, '{}', 0, 0, ?)
ON CONFLICT (place) DO UPDATE SET prepaid_nano_usd = excluded.prepaid_nano_usd

-- name: add_grant
INSERT INTO credits (place, amount_nano_usd, kind, at_s, actor, note) VALUES (?, ?, ?, ?, ?, ?)

-- name: list_grants
-- Of one place, or of all. Parameters: place, place.
SELECT seq, place, amount_nano_usd, kind, at_s, actor, note FROM credits WHERE ? IS NULL OR place = ? ORDER BY seq

-- name: add_entry
INSERT INTO audit (seq, at_s, actor, address, request_id, action, target, before, after, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: find_head
-- The newest line of the audit log.
SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1

-- name: find_last_of
-- What the newest line of an action is about.
SELECT target FROM audit WHERE action = ? ORDER BY seq DESC LIMIT 1

-- name: list_entries
-- A page in order. Parameters: after seq, how many.
SELECT seq, at_s, actor, address, request_id, action, target, before, after, hash FROM audit
WHERE seq > ? ORDER BY seq LIMIT ?

-- name: list_newest_entries
-- The page that ends before a line, newest first. Parameters: before seq, how many.
SELECT seq, at_s, actor, address, request_id, action, target, before, after, hash FROM audit
WHERE seq < ? ORDER BY seq DESC LIMIT ?
