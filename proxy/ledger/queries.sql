-- Every statement of the SQLite ledger. A block begins with `-- name: NAME`; the comments under it say what it is for.
-- Parameters are positional, in the order in which they stand here.

-- ---------------------------------------------------------------- admission (writer, inside a batch)

-- name: find_key_state
-- What an admission must know of its key, by name: its maker's and its tenant's state included, and which limits there
-- are meanwhile.
SELECT
  keys.is_enabled AND coalesce(makers.is_enabled, 1) AND coalesce(tenants.is_enabled, 1),
  CASE WHEN makers.expires_at_s < coalesce(keys.expires_at_s, makers.expires_at_s + 1)
    THEN makers.expires_at_s ELSE keys.expires_at_s END,
  keys.revision + coalesce(makers.revision, 0) + coalesce(tenants.revision, 0),
  versions.limits
FROM keys CROSS JOIN versions ON versions.id = 1
LEFT JOIN keys AS makers ON makers.name = keys.parent
LEFT JOIN tenants ON tenants.name = keys.tenant
WHERE keys.name = ?

-- name: find_limits
-- What holds for the places put in for {places}.
SELECT place, rules, prepaid_nano_usd FROM limits WHERE place IN ({places})

-- name: find_balance
-- One window of one scope.
SELECT posted_nano_usd, held_nano_usd FROM balances WHERE scope = ? AND ends_s = ? AND starts_s = ?

-- name: open_balance
-- First touch: sum what the scope's attempts of the window came to, so that a budget added later counts what was
-- spent before it, in days that have been rolled up too. Parameters: scope, ends_s, starts_s, then starts_s, ends_s and
-- those of {day_condition}, then starts_s, ends_s and those of {condition}.
INSERT INTO balances (scope, ends_s, starts_s, posted_nano_usd, held_nano_usd)
SELECT ?, ?, ?,
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0) + (
    SELECT coalesce(sum(cost_nano_usd), 0) FROM days WHERE day_s >= ? AND day_s < ? AND {day_condition}
  ),
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
-- Parameters: number, owner, at_s, alias (NULL: as before), provider, model, hold, is_priced, upstream key, payer, what rates were charged with, seq of the
-- attempt before.
INSERT INTO attempts (
  request_id, number, is_last, state, owner, at_s, key_name, tenant, app, route, is_stream, user, tags, alias,
  provider, model, hold_nano_usd, is_priced, upstream_key, payer, charged
)
SELECT request_id, ?, 1, 'pending', ?, ?, key_name, tenant, app, route, is_stream, user, tags, coalesce(?, alias), ?, ?, ?, ?, ?, ?, ?
FROM attempts WHERE seq = ?

-- ---------------------------------------------------------------- settlement (writer, inside a batch)

-- name: find_pending
-- The open attempts of a request.
SELECT seq, request_id, number, at_s, hold_nano_usd, is_priced, charged,
  key_name, tenant, user, tags, alias, provider, model, upstream_key, payer,
  (SELECT parent FROM keys WHERE name = key_name)
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
  key_name, tenant, user, tags, alias, provider, model, upstream_key, payer,
  (SELECT parent FROM keys WHERE name = key_name)
FROM attempts WHERE owner = ? AND state = 'pending' LIMIT ?

-- name: list_pending_owners
-- Whose holds are open.
SELECT DISTINCT owner FROM attempts WHERE state = 'pending'

-- ---------------------------------------------------------------- keys

-- name: find_key_by_digest
-- A key renamed in routes.yaml leaves its digest with a disabled name: the enabled one counts. A rotated key's former
-- value is good for a while. Parameters: digest, digest, now.
SELECT name, digest, tenant, rules, models, default_model, params, keys.is_declared, is_enabled,
  created_at_s, expires_at_s, revision, parent, may_create_keys, max_cost_nano_usd, is_revoked, updated_at_s,
  former_digest, former_until_s, EXISTS (
    SELECT 1 FROM limits AS over WHERE (over.is_hard OR over.prepaid_nano_usd IS NOT NULL)
      AND over.place IN ('key:' || name, 'key:' || parent, 'tenant:' || tenant, 'global')
  )
FROM keys LEFT JOIN limits ON place = 'key:' || name WHERE digest = ? OR (former_digest = ? AND former_until_s > ?) ORDER BY is_enabled DESC, name LIMIT 1

-- name: list_keys
SELECT name, digest, tenant, rules, models, default_model, params, keys.is_declared, is_enabled,
  created_at_s, expires_at_s, revision, parent, may_create_keys, max_cost_nano_usd, is_revoked, updated_at_s,
  former_digest, former_until_s, EXISTS (
    SELECT 1 FROM limits AS over WHERE (over.is_hard OR over.prepaid_nano_usd IS NOT NULL)
      AND over.place IN ('key:' || name, 'key:' || parent, 'tenant:' || tenant, 'global')
  )
FROM keys LEFT JOIN limits ON place = 'key:' || name ORDER BY name

-- name: find_key_by_name
SELECT name, digest, tenant, rules, models, default_model, params, keys.is_declared, is_enabled,
  created_at_s, expires_at_s, revision, parent, may_create_keys, max_cost_nano_usd, is_revoked, updated_at_s,
  former_digest, former_until_s, EXISTS (
    SELECT 1 FROM limits AS over WHERE (over.is_hard OR over.prepaid_nano_usd IS NOT NULL)
      AND over.place IN ('key:' || name, 'key:' || parent, 'tenant:' || tenant, 'global')
  )
FROM keys LEFT JOIN limits ON place = 'key:' || name WHERE name = ?

-- name: insert_key
-- No row changes when the name is taken.
INSERT INTO keys (
  name, digest, tenant, models, default_model, params, is_declared, is_enabled, created_at_s, expires_at_s, revision,
  parent, may_create_keys, max_cost_nano_usd, is_revoked, updated_at_s, former_digest, former_until_s
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING

-- name: replace_key
-- A key changed; the moment it came into being stays, and who made it.
UPDATE keys SET
  digest = ?, tenant = ?, models = ?, default_model = ?, params = ?,
  is_declared = ?, is_enabled = ?, expires_at_s = ?, may_create_keys = ?, max_cost_nano_usd = ?, is_revoked = ?,
  updated_at_s = ?, former_digest = ?, former_until_s = ?, revision = revision + 1
WHERE name = ?

-- name: disable_key
UPDATE keys SET is_enabled = 0, revision = revision + 1 WHERE name = ? AND is_enabled

-- name: renew_all_keys
-- Plans made under keys as they were are stale.
UPDATE keys SET revision = revision + 1

-- ---------------------------------------------------------------- limits

-- name: put_limits
-- What holds for a place from now on.
INSERT INTO limits (place, rules, is_hard, is_declared) VALUES (?, ?, ?, ?)
ON CONFLICT (place) DO UPDATE SET rules = excluded.rules, is_hard = excluded.is_hard, is_declared = excluded.is_declared

-- name: drop_limits
-- Nothing is written for a place any more; what was prepaid for it stays (clear_limits).
DELETE FROM limits WHERE place = ? AND prepaid_nano_usd IS NULL

-- name: clear_limits
UPDATE limits SET rules = '{}', is_hard = 0, is_declared = 0 WHERE place = ?

-- name: list_limits
-- Every place that has some.
SELECT place, rules, is_declared, prepaid_nano_usd FROM limits ORDER BY place

-- ---------------------------------------------------------------- conditions of scopes
-- Whose attempts count in a scope. Parameters: the scope's name, behind it its owner, or the scope itself, as said.

-- name: scope_global
payer = 'gateway'
-- name: scope_key
-- Parameters: name, name. What the keys that it made use counts for it too.
key_name IN (SELECT ? UNION ALL SELECT name FROM keys WHERE parent = ?)
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
user = ? AND coalesce(tenant, (SELECT parent FROM keys WHERE name = key_name), key_name) = ?
-- name: scope_tag
-- Parameter: the scope itself.
seq IN (SELECT attempt_tags.seq FROM attempt_tags WHERE attempt_tags.scope = ?)

-- name: scope_tag_within
-- The same of a window, so that nothing before it is read. Parameters: the scope itself, starts_s, ends_s.
seq IN (
  SELECT attempt_tags.seq FROM attempt_tags
  WHERE attempt_tags.scope = ? AND attempt_tags.at_s >= ? AND attempt_tags.at_s < ?
)

-- name: scope_tag_open
-- The same of the few attempts under way: each is looked up, or all that a tag ever had would be read.
EXISTS (
  SELECT 1 FROM attempt_tags
  WHERE attempt_tags.scope = ? AND attempt_tags.at_s = attempts.at_s AND attempt_tags.seq = attempts.seq
)

-- name: day_scope_tag
-- The same of rolled-up days.
seq IN (SELECT day_tags.seq FROM day_tags WHERE day_tags.scope = ?)

-- ---------------------------------------------------------------- retention (writer, a piece at a time)

-- name: list_stale_windows
-- Windows that have passed, so that nothing keeps sums of what is about to lose its detail (a reader's).
-- Parameters: before_s, the end of windows without one.
SELECT scope, ends_s, starts_s FROM balances WHERE starts_s < ? AND ends_s < ?

-- name: drop_window
DELETE FROM balances WHERE scope = ? AND ends_s = ? AND starts_s = ?

-- name: list_rollable
-- The oldest requests that are over, with nothing left to ask, and began and ended before a moment.
-- Parameters: before_s, before_s, how many.
SELECT last.request_id FROM attempts AS last
WHERE last.at_s < ? AND last.is_last AND NOT EXISTS (
  SELECT 1 FROM attempts AS open WHERE open.request_id = last.request_id
  AND (open.state = 'pending' OR open.state = 'unresolved' OR open.at_s >= ?
    OR EXISTS (SELECT 1 FROM lookups WHERE lookups.attempt_seq = open.seq))
)
ORDER BY last.at_s LIMIT ?

-- name: add_day
INSERT INTO days (
  batch, number, is_last, day_s, app, route, key_name, tenant, user, tags, alias, provider, model, upstream_key, payer,
  requests, failed, unknown_cost, overruns, cache_hits,
  input_tokens, output_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
  audio_input_tokens, reasoning_tokens, audio_output_tokens, saved_nano_usd, cost_nano_usd,
  cost_reported_nano_usd, cost_computed_nano_usd, cost_estimated_nano_usd, cost_held_nano_usd
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (batch, number) DO UPDATE SET
  requests = requests + excluded.requests,
  failed = failed + excluded.failed,
  unknown_cost = unknown_cost + excluded.unknown_cost,
  overruns = overruns + excluded.overruns,
  cache_hits = cache_hits + excluded.cache_hits,
  input_tokens = input_tokens + excluded.input_tokens,
  output_tokens = output_tokens + excluded.output_tokens,
  cached_tokens = cached_tokens + excluded.cached_tokens,
  cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  audio_input_tokens = audio_input_tokens + excluded.audio_input_tokens,
  reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
  audio_output_tokens = audio_output_tokens + excluded.audio_output_tokens,
  saved_nano_usd = saved_nano_usd + excluded.saved_nano_usd,
  cost_nano_usd = cost_nano_usd + excluded.cost_nano_usd,
  cost_reported_nano_usd = coalesce(cost_reported_nano_usd + excluded.cost_reported_nano_usd,
    cost_reported_nano_usd, excluded.cost_reported_nano_usd),
  cost_computed_nano_usd = coalesce(cost_computed_nano_usd + excluded.cost_computed_nano_usd,
    cost_computed_nano_usd, excluded.cost_computed_nano_usd),
  cost_estimated_nano_usd = coalesce(cost_estimated_nano_usd + excluded.cost_estimated_nano_usd,
    cost_estimated_nano_usd, excluded.cost_estimated_nano_usd),
  cost_held_nano_usd = coalesce(cost_held_nano_usd + excluded.cost_held_nano_usd,
    cost_held_nano_usd, excluded.cost_held_nano_usd)

-- name: tag_day
-- Parameters: scope, batch, number.
INSERT INTO day_tags (scope, seq) SELECT ?, seq FROM days WHERE batch = ? AND number = ? ON CONFLICT DO NOTHING

-- name: forget_tag
DELETE FROM attempt_tags WHERE scope = ? AND at_s = ? AND seq = ?

-- name: forget_corrections
-- The journal of an attempt goes with it.
DELETE FROM corrections WHERE attempt_seq = ?

-- name: forget_attempt
DELETE FROM attempts WHERE seq = ?

-- ---------------------------------------------------------------- reports (readers)

-- name: sum_window
-- A window nobody has kept yet: the same sums as open_balance. Parameters: starts_s, ends_s, those of {day_condition},
-- then starts_s, ends_s and those of {condition}.
SELECT
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0) + (
    SELECT coalesce(sum(cost_nano_usd), 0) FROM days WHERE day_s >= ? AND day_s < ? AND {day_condition}
  ),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0)
FROM attempts WHERE at_s >= ? AND at_s < ? AND {condition}

-- name: list_kept_balances
-- Windows that hold a moment. Parameters: at_s, at_s.
SELECT scope, starts_s, ends_s, posted_nano_usd, held_nano_usd FROM balances WHERE starts_s <= ? AND ends_s > ?
ORDER BY scope, ends_s, starts_s

-- name: sum_usage
-- Sums by the dimensions put in for {dimensions} and {day_dimensions}, over what {conditions} and {day_conditions} leave,
-- grouped by the dimensions' places in {groups}. A request counts once in each group that it touched, and how it ended is
-- asked of its last attempt. Most have one attempt, which is counted as it passes; those of several are counted apart,
-- and those of rolled-up days by batch. One statement, so all three see the same moment.
-- Parameters: three times those of the dimensions and of the conditions, then how many groups at most.
SELECT {names}
  coalesce(sum(requests), 0), coalesce(sum(failed), 0), coalesce(sum(fallbacks), 0),
  coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(cached_tokens), 0),
  coalesce(sum(cache_write_tokens), 0), coalesce(sum(cache_write_1h_tokens), 0),
  coalesce(sum(audio_input_tokens), 0), coalesce(sum(reasoning_tokens), 0), coalesce(sum(audio_output_tokens), 0),
  coalesce(sum(cost_nano_usd), 0), coalesce(sum(held_nano_usd), 0), coalesce(sum(saved_nano_usd), 0),
  coalesce(sum(unknown_cost), 0), coalesce(sum(overruns), 0), coalesce(sum(cache_hits), 0),
  sum(cost_reported), sum(cost_computed), sum(cost_estimated), sum(cost_held)
FROM (
  SELECT {dimensions}
    sum(number = 1 AND is_last) AS requests,
    sum(number = 1 AND is_last AND error IS NOT NULL) AS failed,
    0 AS fallbacks,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(cache_write_tokens) AS cache_write_tokens,
    sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(audio_input_tokens) AS audio_input_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(audio_output_tokens) AS audio_output_tokens,
    sum(cost_nano_usd) AS cost_nano_usd,
    sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END) AS held_nano_usd,
    sum(saved_nano_usd) AS saved_nano_usd,
    sum(state = 'posted' AND cost_nano_usd IS NULL) AS unknown_cost,
    sum(is_overrun) AS overruns,
    count(saved_nano_usd) AS cache_hits,
    sum(CASE WHEN cost_source = 'reported' THEN cost_nano_usd END) AS cost_reported,
    sum(CASE WHEN cost_source = 'computed' THEN cost_nano_usd END) AS cost_computed,
    sum(CASE WHEN cost_source = 'estimated' THEN cost_nano_usd END) AS cost_estimated,
    sum(CASE WHEN cost_source = 'held' THEN cost_nano_usd END) AS cost_held
  FROM attempts {tags} WHERE true {conditions} {groups}
  UNION ALL
  SELECT {dimensions}
    count(DISTINCT request_id),
    count(DISTINCT CASE WHEN
      CASE WHEN is_last THEN error IS NOT NULL ELSE (
        SELECT last.error IS NOT NULL FROM attempts AS last
        WHERE last.request_id = attempts.request_id AND last.is_last
      ) END
    THEN request_id END),
    count(DISTINCT request_id),
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL
  FROM attempts {tags} WHERE (number > 1 OR is_last = 0) {conditions} {groups}
  UNION ALL
  SELECT {names}
    sum(requests), sum(failed), sum(CASE WHEN is_of_several THEN requests END),
    sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cache_write_tokens), sum(cache_write_1h_tokens),
    sum(audio_input_tokens), sum(reasoning_tokens), sum(audio_output_tokens),
    sum(cost_nano_usd), 0, sum(saved_nano_usd), sum(unknown_cost), sum(overruns), sum(cache_hits),
    sum(cost_reported), sum(cost_computed), sum(cost_estimated), sum(cost_held)
  FROM (
    SELECT {day_dimensions}
      max(requests) AS requests,
      max(failed) AS failed,
      max(number > 1 OR NOT is_last) AS is_of_several,
      sum(input_tokens) AS input_tokens,
      sum(output_tokens) AS output_tokens,
      sum(cached_tokens) AS cached_tokens,
      sum(cache_write_tokens) AS cache_write_tokens,
      sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
      sum(audio_input_tokens) AS audio_input_tokens,
      sum(reasoning_tokens) AS reasoning_tokens,
      sum(audio_output_tokens) AS audio_output_tokens,
      sum(cost_nano_usd) AS cost_nano_usd,
      sum(saved_nano_usd) AS saved_nano_usd,
      sum(unknown_cost) AS unknown_cost,
      sum(overruns) AS overruns,
      sum(cache_hits) AS cache_hits,
      sum(cost_reported_nano_usd) AS cost_reported,
      sum(cost_computed_nano_usd) AS cost_computed,
      sum(cost_estimated_nano_usd) AS cost_estimated,
      sum(cost_held_nano_usd) AS cost_held
    FROM days {day_tags} WHERE true {day_conditions} {batches}
  ) {groups}
)
{groups} {order} LIMIT ?

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
-- A page in the order of the books. Parameters: after seq, twice each since, until, key and tenant, how many.
SELECT seq, request_id, number, state, at_s, key_name, tenant, app, route, provider, model, is_stream, status,
  hold_nano_usd, cost_nano_usd, cost_source, latency_ms, first_token_ms, error, generation_id, is_overrun,
  input_tokens, output_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
  audio_input_tokens, reasoning_tokens, audio_output_tokens, reported_nano_usd, is_byok, anomalies, rare_usage,
  user, tags, upstream_key, payer, saved_nano_usd, alias
FROM attempts WHERE seq > ? AND (? IS NULL OR at_s >= ?) AND (? IS NULL OR at_s < ?)
  AND (? IS NULL OR key_name = ?) AND (? IS NULL OR tenant = ?)
ORDER BY seq LIMIT ?

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
-- name: condition_tenant
tenant = ?

-- name: join_tags
-- One row for each tag of an attempt, one without a tag for those that have none.
LEFT JOIN json_each(attempts.tags) AS tag
-- name: join_day_tags
LEFT JOIN json_each(days.tags) AS tag

-- name: dimension_key
key_name
-- name: dimension_tenant
tenant
-- name: dimension_app
app
-- name: dimension_user
user
-- name: dimension_tag
json_extract(tag.value, '$[0]') || '=' || json_extract(tag.value, '$[1]')
-- name: dimension_tag_value
-- The value of one tag. Parameter: its name.
(SELECT json_extract(one.value, '$[1]') FROM json_each(tags) AS one WHERE json_extract(one.value, '$[0]') = ?)
-- name: dimension_payer
payer
-- name: dimension_route
route
-- name: dimension_provider
provider
-- name: dimension_model
model
-- name: dimension_hour
-- Whole seconds, in the clock of a zone if {offset} says so: SQLite rounds to milliseconds, which would carry the last of them into the next hour.
strftime('%Y-%m-%dT%H:00', CAST(at_s AS INTEGER){offset}, 'unixepoch')
-- name: dimension_day
strftime('%Y-%m-%d', CAST(at_s AS INTEGER){offset}, 'unixepoch')
-- name: dimension_month
strftime('%Y-%m', CAST(at_s AS INTEGER){offset}, 'unixepoch')

-- name: offset_until
-- How far a zone's clock was from UTC until a moment.
WHEN at_s < {until_s} THEN {offset_s}

-- name: day_condition_from
-- A day that has been rolled up counts where it begins: nobody knows its hours any more.
day_s >= ?
-- name: day_condition_to
day_s < ?
-- name: day_dimension_hour
strftime('%Y-%m-%d', day_s, 'unixepoch')
-- name: day_dimension_day
strftime('%Y-%m-%d', day_s, 'unixepoch')
-- name: day_dimension_month
strftime('%Y-%m', day_s, 'unixepoch')
