-- Every statement of the SQLite ledger. A block begins with `-- name: NAME`; the comments under it say what it is for.
-- Parameters are positional, in the order in which they stand here.

-- ---------------------------------------------------------------- admission (writer, inside a batch)

-- name: find_key_state
-- What an admission must know of its key, by name, and which limits there are meanwhile.
SELECT is_enabled, expires_at_s, revision, versions.limits
FROM keys CROSS JOIN versions ON versions.id = 1 WHERE name = ?

-- name: find_limits
-- What holds for the places put in for {places}.
SELECT place, rules FROM limits WHERE place IN ({places})

-- name: find_balance
-- One window of one scope.
SELECT posted_nano_usd, held_nano_usd FROM balances WHERE scope = ? AND ends_s = ? AND starts_s = ?

-- name: open_balance
-- First touch: sum what the scope's attempts of the window came to, so that a budget added later counts what was
-- spent before it. Parameters: scope, ends_s, starts_s, starts_s, ends_s, those of {condition}.
INSERT INTO balances (scope, ends_s, starts_s, posted_nano_usd, held_nano_usd)
SELECT ?, ?, ?,
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0)
FROM attempts WHERE at_s >= ? AND at_s < ? AND {condition}

-- name: find_balances_version
-- Whether there are new windows.
SELECT balances FROM versions WHERE id = 1

-- name: is_kept
-- Any window of a scope.
SELECT 1 FROM balances WHERE scope = ? LIMIT 1

-- name: list_windows
-- The windows of a scope that end after a moment.
SELECT starts_s, ends_s, posted_nano_usd, held_nano_usd FROM balances WHERE scope = ? AND ends_s > ?

-- name: write_balance
-- What a window has come to. Nobody else can have moved it since it was read in this transaction.
UPDATE balances SET posted_nano_usd = ?, held_nano_usd = ? WHERE scope = ? AND ends_s = ? AND starts_s = ?

-- name: count_open
-- A scope's attempts under way. Parameters: those of {condition}. Left to itself, SQLite would walk through all a key
-- ever did.
SELECT count(*) FROM attempts INDEXED BY attempts_pending WHERE state = 'pending' AND {condition}

-- name: find_flow
-- What a rate has let through from one piece of time to another.
SELECT coalesce(sum(requests), 0), coalesce(sum(tokens), 0), min(slot) FROM rates
WHERE scope = ? AND window_s = ? AND slot BETWEEN ? AND ?

-- name: charge_rate
-- Count in one piece of time.
INSERT INTO rates (scope, window_s, slot, requests, tokens) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (scope, window_s, slot) DO UPDATE SET requests = requests + excluded.requests, tokens = tokens + excluded.tokens

-- name: correct_rate
-- Tell a piece of time the true count of tokens; gone, it counts no more. Parameters: difference, scope, window_s, slot.
UPDATE rates SET tokens = max(0, tokens + ?) WHERE scope = ? AND window_s = ? AND slot = ?

-- name: prune_rates
-- Pieces of time that no window holds any more. Parameters: now, pieces per window and one more, pieces per window.
DELETE FROM rates WHERE slot < CAST(? * ? / window_s AS INTEGER) - ?

-- name: is_request_taken
-- Any attempt means that the id is in use.
SELECT 1 FROM attempts WHERE request_id = ? LIMIT 1

-- name: begin_attempt
-- The hold, before the first upstream byte. No row is added when the request's id is taken.
INSERT INTO attempts (
  request_id, number, is_last, state, owner, at_s, key_name, tenant, app, route, is_stream,
  provider, model, hold_nano_usd, is_priced, upstream_key, payer, charged, user, tags, alias
) VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (request_id, number) DO NOTHING

-- name: tag_attempt
-- An attempt counts for a tag's scope.
INSERT INTO attempt_tags (scope, at_s, seq) VALUES (?, ?, ?)

-- name: clear_last_attempt
-- The request gets a further attempt: what was its last one is so no longer.
UPDATE attempts SET is_last = 0 WHERE request_id = ? AND is_last = 1

-- name: begin_next_attempt
-- As begin_attempt, the request's own facts taken from an attempt before it.
-- Parameters: number, owner, at_s, provider, model, hold, is_priced, upstream key, payer, what rates were charged with, seq of the
-- attempt before.
INSERT INTO attempts (
  request_id, number, is_last, state, owner, at_s, key_name, tenant, app, route, is_stream, user, tags, alias,
  provider, model, hold_nano_usd, is_priced, upstream_key, payer, charged
)
SELECT request_id, ?, 1, 'pending', ?, ?, key_name, tenant, app, route, is_stream, user, tags, alias, ?, ?, ?, ?, ?, ?, ?
FROM attempts WHERE seq = ?

-- ---------------------------------------------------------------- settlement (writer, inside a batch)

-- name: find_pending
-- The open attempts of a request.
SELECT seq, request_id, number, at_s, hold_nano_usd, is_priced, charged,
  key_name, tenant, user, tags, alias, provider, model, upstream_key, payer
FROM attempts WHERE request_id = ? AND state = 'pending'

-- name: end_attempt
-- Post or void one attempt. The state is asked once more: no hold ends twice, whatever was read before.
UPDATE attempts SET
  state = ?, ended_at_s = ?, cost_nano_usd = ?, cost_source = ?, is_overrun = ?,
  status = ?, error = ?, latency_ms = ?, first_token_ms = ?, generation_id = ?,
  input_tokens = ?, output_tokens = ?, cached_tokens = ?, cache_write_tokens = ?, cache_write_1h_tokens = ?,
  audio_input_tokens = ?, reasoning_tokens = ?, audio_output_tokens = ?,
  reported_nano_usd = ?, is_byok = ?, anomalies = ?, rare_usage = ?, saved_nano_usd = ?
WHERE seq = ? AND state = 'pending'

-- name: post_in_full
-- Nobody can tell what it cost: the whole hold is booked; what had no price is booked as unknown, never as 0.
UPDATE attempts SET
  state = 'posted', ended_at_s = ?, error = ?,
  cost_nano_usd = CASE WHEN is_priced THEN hold_nano_usd END,
  cost_source = CASE WHEN is_priced THEN 'held' ELSE 'unknown' END
WHERE seq = ? AND state = 'pending'

-- name: add_lookup
-- Ask the provider later. Parameters: seq, due_s, estimate, tokens in and out.
INSERT INTO lookups (attempt_seq, due_s, tries, estimate_nano_usd, input_tokens, output_tokens)
VALUES (?, ?, 0, ?, ?, ?)

-- name: void_attempt
-- It never began: its caller left before it was told that it may.
UPDATE attempts SET state = 'voided', ended_at_s = ?, cost_nano_usd = 0, error = ? WHERE seq = ? AND state = 'pending'

-- name: find_pending_of_owner
-- What a dead process left open, a bounded number at a time.
SELECT seq, request_id, number, at_s, hold_nano_usd, is_priced, charged,
  key_name, tenant, user, tags, alias, provider, model, upstream_key, payer
FROM attempts WHERE owner = ? AND state = 'pending' LIMIT ?

-- name: list_pending_owners
-- Whose holds are open.
SELECT DISTINCT owner FROM attempts WHERE state = 'pending'

-- ---------------------------------------------------------------- keys

-- name: find_key_by_digest
-- A key renamed in routes.yaml leaves its digest with a disabled name: the enabled one counts.
SELECT name, digest, tenant, rules, models, default_model, params, keys.is_declared, is_enabled,
  created_at_s, expires_at_s, revision, EXISTS (
    SELECT 1 FROM limits AS over WHERE over.is_hard AND over.place IN ('key:' || name, 'tenant:' || tenant, 'global')
  )
FROM keys LEFT JOIN limits ON place = 'key:' || name WHERE digest = ? ORDER BY is_enabled DESC, name LIMIT 1

-- name: list_keys
SELECT name, digest, tenant, rules, models, default_model, params, keys.is_declared, is_enabled,
  created_at_s, expires_at_s, revision, EXISTS (
    SELECT 1 FROM limits AS over WHERE over.is_hard AND over.place IN ('key:' || name, 'tenant:' || tenant, 'global')
  )
FROM keys LEFT JOIN limits ON place = 'key:' || name ORDER BY name

-- name: find_key_by_name
SELECT name, digest, tenant, rules, models, default_model, params, keys.is_declared, is_enabled,
  created_at_s, expires_at_s, revision, EXISTS (
    SELECT 1 FROM limits AS over WHERE over.is_hard AND over.place IN ('key:' || name, 'tenant:' || tenant, 'global')
  )
FROM keys LEFT JOIN limits ON place = 'key:' || name WHERE name = ?

-- name: insert_key
-- No row changes when the name is taken.
INSERT INTO keys (
  name, digest, tenant, models, default_model, params, is_declared, is_enabled, created_at_s, expires_at_s, revision
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING

-- name: replace_key
-- A declared key changed; the moment it came into being stays.
UPDATE keys SET
  digest = ?, tenant = ?, models = ?, default_model = ?, params = ?,
  is_declared = ?, is_enabled = ?, expires_at_s = ?, revision = revision + 1
WHERE name = ?

-- name: disable_key
UPDATE keys SET is_enabled = 0, revision = revision + 1 WHERE name = ? AND is_enabled

-- name: renew_key
-- Plans made under the key as it was are stale.
UPDATE keys SET revision = revision + 1 WHERE name = ?

-- name: renew_all_keys
UPDATE keys SET revision = revision + 1

-- ---------------------------------------------------------------- limits

-- name: put_limits
-- What holds for a place from now on.
INSERT INTO limits (place, rules, is_hard, is_declared) VALUES (?, ?, ?, ?)
ON CONFLICT (place) DO UPDATE SET rules = excluded.rules, is_hard = excluded.is_hard, is_declared = excluded.is_declared

-- name: drop_limits
DELETE FROM limits WHERE place = ?

-- name: list_limits
-- Every place that has some.
SELECT place, rules, is_declared FROM limits ORDER BY place

-- ---------------------------------------------------------------- conditions of scopes
-- Whose attempts count in a scope. Parameters: the scope's name, behind it its owner, or the scope itself, as said.

-- name: scope_global
payer = 'gateway'
-- name: scope_key
key_name = ?
-- name: scope_tenant
tenant = ?
-- name: scope_model
alias = ?
-- name: scope_provider
provider = ? AND payer = 'gateway'
-- name: scope_target
provider || '/' || model = ? AND payer = 'gateway'
-- name: scope_upstream
provider || '/' || upstream_key = ? AND payer = 'gateway'
-- name: scope_user
-- Parameters: name, owner.
user = ? AND coalesce(tenant, key_name) = ?
-- name: scope_tag
-- Parameter: the scope itself.
seq IN (SELECT attempt_tags.seq FROM attempt_tags WHERE attempt_tags.scope = ?)

-- ---------------------------------------------------------------- reports (readers)

-- name: sum_window
-- A window nobody has kept yet: the same sums as open_balance. Parameters: starts_s, ends_s, those of {condition}.
SELECT
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0)
FROM attempts WHERE at_s >= ? AND at_s < ? AND {condition}

-- name: list_kept_balances
-- Windows that hold a moment. Parameters: at_s, at_s.
SELECT scope, starts_s, ends_s, posted_nano_usd, held_nano_usd FROM balances WHERE starts_s <= ? AND ends_s > ?
ORDER BY scope, ends_s, starts_s

-- name: sum_usage
-- Sums by the dimensions put in for {dimensions}, over what the conditions put in for {conditions} leave, grouped by the
-- dimensions' places in {groups}. How a request ended is asked of its last attempt, which most often is the row itself.
SELECT {dimensions}
  count(DISTINCT request_id),
  count(DISTINCT CASE WHEN
    CASE WHEN is_last THEN error IS NOT NULL ELSE (
      SELECT last.error IS NOT NULL FROM attempts AS last
      WHERE last.request_id = attempts.request_id AND last.is_last
    ) END
  THEN request_id END),
  count(DISTINCT CASE WHEN number > 1 OR NOT is_last THEN request_id END),
  coalesce(sum(input_tokens), 0),
  coalesce(sum(output_tokens), 0),
  coalesce(sum(cached_tokens), 0),
  coalesce(sum(reasoning_tokens), 0),
  coalesce(sum(cost_nano_usd), 0),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0),
  coalesce(sum(is_overrun), 0),
  coalesce(sum(state = 'posted' AND cost_nano_usd IS NULL), 0),
  sum(CASE WHEN cost_source = 'reported' THEN cost_nano_usd END),
  sum(CASE WHEN cost_source = 'computed' THEN cost_nano_usd END),
  sum(CASE WHEN cost_source = 'estimated' THEN cost_nano_usd END),
  sum(CASE WHEN cost_source = 'held' THEN cost_nano_usd END)
FROM attempts {conditions} {groups}

-- name: sum_providers
-- One provider's part since a time, with the median of its first tokens (the lower one of two).
-- Parameters: since, key, key.
WITH recent AS (
  SELECT provider, error, cost_nano_usd, first_token_ms,
    row_number() OVER (PARTITION BY provider ORDER BY first_token_ms IS NULL, first_token_ms) AS place,
    count(first_token_ms) OVER (PARTITION BY provider) AS measured
  FROM attempts WHERE at_s >= ? AND (? IS NULL OR key_name = ?)
)
SELECT provider, count(*), count(error), coalesce(sum(cost_nano_usd), 0),
  max(CASE WHEN place = (measured + 1) / 2 THEN first_token_ms END)
FROM recent GROUP BY provider ORDER BY provider

-- name: export_attempts
-- A page in the order of the books. Parameters: after seq, since, since, how many.
SELECT seq, request_id, number, state, at_s, key_name, tenant, app, route, provider, model, is_stream, status,
  hold_nano_usd, cost_nano_usd, cost_source, latency_ms, first_token_ms, error, generation_id, is_overrun,
  input_tokens, output_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
  audio_input_tokens, reasoning_tokens, audio_output_tokens, reported_nano_usd, is_byok, anomalies, rare_usage,
  user, tags, upstream_key, payer, saved_nano_usd, alias
FROM attempts WHERE seq > ? AND (? IS NULL OR at_s >= ?) ORDER BY seq LIMIT ?

-- name: find_request
-- All attempts of one request, in order.
SELECT seq, request_id, number, state, at_s, key_name, tenant, app, route, provider, model, is_stream, status,
  hold_nano_usd, cost_nano_usd, cost_source, latency_ms, first_token_ms, error, generation_id, is_overrun,
  input_tokens, output_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
  audio_input_tokens, reasoning_tokens, audio_output_tokens, reported_nano_usd, is_byok, anomalies, rare_usage,
  user, tags, upstream_key, payer, saved_nano_usd, alias
FROM attempts WHERE request_id = ? ORDER BY number

-- name: find_generation
-- The newest request of a key to which an upstream gave a reply of this id, among so many of the key's newest attempts:
-- the index gives them in this order, and the first hit ends the search.
-- Parameters: key name, generation id, key name, how many less one.
SELECT request_id FROM attempts
WHERE key_name = ? AND generation_id = ? AND at_s >= coalesce(
  (SELECT oldest.at_s FROM attempts AS oldest WHERE oldest.key_name = ? ORDER BY oldest.at_s DESC LIMIT 1 OFFSET ?), 0
)
ORDER BY at_s DESC, seq DESC LIMIT 1

-- ---------------------------------------------------------------- parts of sum_usage
-- Conditions are left out rather than switched off, so that each question finds the index that answers it.

-- name: condition_from
at_s >= ?
-- name: condition_to
at_s < ?
-- name: condition_key
key_name = ?

-- name: dimension_key
key_name
-- name: dimension_tenant
tenant
-- name: dimension_app
app
-- name: dimension_user
user
-- name: dimension_payer
payer
-- name: dimension_route
route
-- name: dimension_provider
provider
-- name: dimension_model
model
-- name: dimension_hour
-- Whole seconds: SQLite rounds to milliseconds, which would carry the last of them into the next hour.
strftime('%Y-%m-%dT%H:00', CAST(at_s AS INTEGER), 'unixepoch')
-- name: dimension_day
strftime('%Y-%m-%d', CAST(at_s AS INTEGER), 'unixepoch')
-- name: dimension_month
strftime('%Y-%m', CAST(at_s AS INTEGER), 'unixepoch')
