-- Late truths: what `sqlite_resolution.py` asks and changes. The form is that of queries.sql.

-- name: leave_unresolved
-- Its owner died, and its provider can be asked: the hold stays.
UPDATE attempts SET state = 'unresolved', error = ?, generation_id = ? WHERE seq = ? AND state = 'pending'

-- name: post_known
-- What is known has to do.
-- Parameters: ended_at_s, error, cost, source, generation_id, tokens in and out, seq, the state it is in.
UPDATE attempts SET
  state = 'posted', ended_at_s = ?, error = ?, cost_nano_usd = ?, cost_source = ?,
  generation_id = coalesce(?, generation_id), input_tokens = ?, output_tokens = ?
WHERE seq = ? AND state = ?

-- name: is_lookup_due
-- Parameter: now.
SELECT 1 FROM lookups WHERE due_s <= ? LIMIT 1

-- name: list_due_lookups
-- Parameters: now, how many.
SELECT seq, request_id, number, provider, upstream_key, payer, tenant, generation_id, hold_nano_usd, tries,
  state = 'unresolved'
FROM lookups JOIN attempts ON seq = attempt_seq WHERE due_s <= ? ORDER BY due_s, seq LIMIT ?

-- name: claim_lookup
-- Parameters: due_s, tries, seq.
UPDATE lookups SET due_s = ?, tries = ? WHERE attempt_seq = ?

-- name: find_lookup
-- What is known without an answer. Parameter: seq.
SELECT estimate_nano_usd, input_tokens, output_tokens FROM lookups WHERE attempt_seq = ?

-- name: drop_lookup
DELETE FROM lookups WHERE attempt_seq = ?

-- name: find_booked
-- An attempt as it stands. Parameter: seq.
SELECT state, cost_nano_usd, cost_source, input_tokens + output_tokens,
  seq, request_id, number, at_s, hold_nano_usd, is_priced, charged,
  key_name, tenant, user, tags, alias, provider, model, upstream_key, payer,
  (SELECT parent FROM keys WHERE name = key_name)
FROM attempts WHERE seq = ?

-- name: find_attempt
-- Parameters: request id, number.
SELECT seq, state, error FROM attempts WHERE request_id = ? AND number = ?

-- name: is_corrected
-- Parameters: seq, reason.
SELECT 1 FROM corrections WHERE attempt_seq = ? AND reason = ?

-- name: add_correction
INSERT INTO corrections (
  attempt_seq, at_s, was_nano_usd, was_source, delta_nano_usd, cost_source, reason
) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: put_truth
-- Whatever was booked, this is true. Never what is open: that has a settlement to come.
UPDATE attempts SET
  state = ?, is_overrun = ?, ended_at_s = coalesce(ended_at_s, ?), cost_nano_usd = ?, cost_source = ?,
  input_tokens = ?, output_tokens = ?, cached_tokens = ?, cache_write_tokens = ?, cache_write_1h_tokens = ?,
  audio_input_tokens = ?, reasoning_tokens = ?, audio_output_tokens = ?,
  reported_nano_usd = ?, is_byok = ?, anomalies = ?, rare_usage = ?
WHERE seq = ? AND state <> 'pending'

-- name: put_error
UPDATE attempts SET error = ? WHERE seq = ?
