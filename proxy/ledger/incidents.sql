-- Statements of alerts: incidents and their deliveries, and figures of the last minutes. As in `queries.sql`.

-- ---------------------------------------------------------------- incidents (writer, inside a batch)

-- name: open_incident
-- No row is added when one of its place is open.
INSERT INTO incidents (id, rule, subject, turn, figure, what, advice, opened_at_s)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rule, subject, turn) WHERE ended_at_s IS NULL DO NOTHING

-- name: end_incident
UPDATE incidents SET ended_at_s = ?, ending = ? WHERE id = ? AND ended_at_s IS NULL

-- name: insert_delivery
-- A webhook that stands under several alerts is told once.
INSERT INTO deliveries (incident_id, event, webhook, state, tries, due_at_s)
VALUES (?, 'opened', ?, 'pending', 0, ?) ON CONFLICT (incident_id, event, webhook) DO NOTHING

-- name: insert_endings
-- Who was to be told of the beginning is told of the end.
INSERT INTO deliveries (incident_id, event, webhook, state, tries, due_at_s)
SELECT incident_id, 'ended', webhook, 'pending', 0, ? FROM deliveries WHERE incident_id = ? AND event = 'opened'

-- name: forget_deliveries
DELETE FROM deliveries WHERE incident_id IN (SELECT id FROM incidents WHERE ended_at_s < ?)

-- name: forget_incidents
DELETE FROM incidents WHERE ended_at_s < ?

-- name: claim_delivery
-- Its number of tries is its version: of two processes one finds it as it was listed.
UPDATE deliveries SET tries = tries + 1, due_at_s = ?
WHERE incident_id = ? AND event = ? AND webhook = ? AND tries = ? AND state = 'pending'

-- name: record_delivery
UPDATE deliveries SET state = ?, tried_at_s = ?, status = ?, problem = ?
WHERE incident_id = ? AND event = ? AND webhook = ? AND state = 'pending'

-- ---------------------------------------------------------------- incidents (readers)

-- name: list_open_incidents
SELECT id, rule, subject, turn, figure, what, advice, opened_at_s, ended_at_s, ending
FROM incidents WHERE ended_at_s IS NULL ORDER BY opened_at_s, id

-- name: list_deliveries
SELECT id, rule, subject, turn, figure, what, advice, opened_at_s, ended_at_s, ending,
  event, webhook, state, tries, due_at_s, tried_at_s, status, problem
FROM deliveries JOIN incidents ON id = incident_id
ORDER BY CASE event WHEN 'opened' THEN opened_at_s ELSE ended_at_s END DESC, id DESC, event, webhook LIMIT ?

-- name: list_waiting_webhooks
SELECT DISTINCT webhook FROM deliveries WHERE state = 'pending' AND due_at_s <= ? ORDER BY webhook

-- name: list_due_deliveries
-- Parameters: webhook, now, how many.
SELECT id, rule, subject, turn, figure, what, advice, opened_at_s, ended_at_s, ending,
  event, webhook, state, tries, due_at_s, tried_at_s, status, problem
FROM deliveries AS due JOIN incidents ON id = incident_id
WHERE webhook = ? AND state = 'pending' AND due_at_s <= ? AND NOT (event = 'ended' AND EXISTS (
  SELECT 1 FROM deliveries AS begun
  WHERE begun.incident_id = id AND begun.event = 'opened' AND begun.webhook = due.webhook AND begun.state = 'pending'
))
ORDER BY due_at_s, id, event DESC, webhook LIMIT ?

-- ---------------------------------------------------------------- figures (readers)
-- An attempt ended at its start plus its latency. It is searched for by its start, from so far back that a long one is
-- found too; the index gives these rows, however many stand before them.

-- name: count_recent
-- Parameters: started since, ended since, errors that are the client's own (JSON).
SELECT
  count(CASE WHEN is_last THEN 1 END),
  count(CASE WHEN is_last AND error NOT IN (SELECT value FROM json_each(?3)) THEN 1 END),
  count(CASE WHEN is_stream THEN first_token_ms END)
FROM attempts
WHERE at_s >= ?1 AND at_s + coalesce(latency_ms, 0) * 0.001 >= ?2 AND state IN ('posted', 'voided')

-- name: rank_first_token
-- Parameters: started since, ended since, how many to skip.
SELECT first_token_ms FROM attempts
WHERE at_s >= ? AND at_s + coalesce(latency_ms, 0) * 0.001 >= ? AND state IN ('posted', 'voided')
  AND is_stream AND first_token_ms IS NOT NULL
ORDER BY first_token_ms LIMIT 1 OFFSET ?

-- name: list_endings
-- The newest of each provider, with our own credentials: a tenant's that is refused says nothing to others. Parameters: started since, ended since, errors that say nothing (JSON), errors that are
-- the client's own (JSON), how many of each.
WITH ended AS (
  SELECT provider, error IS NULL OR error IN (SELECT value FROM json_each(?4)) AS is_answered,
    row_number() OVER (
      PARTITION BY provider ORDER BY at_s + coalesce(latency_ms, 0) * 0.001 DESC, seq DESC
    ) AS place
  FROM attempts
  WHERE at_s >= ?1 AND at_s + coalesce(latency_ms, 0) * 0.001 >= ?2 AND state IN ('posted', 'voided')
    AND payer = 'gateway' AND (error IS NULL OR error NOT IN (SELECT value FROM json_each(?3)))
)
SELECT provider, is_answered FROM ended WHERE place <= ?5 ORDER BY provider, place

-- name: count_oddities
-- Parameters: started since, ended since.
SELECT provider,
  count(CASE WHEN cost_source = 'unknown' THEN 1 END),
  coalesce(max(CASE WHEN cost_source = 'unknown' THEN model END), ''),
  count(CASE WHEN is_overrun THEN 1 END),
  coalesce(max(CASE WHEN is_overrun THEN model END), '')
FROM attempts
WHERE at_s >= ? AND at_s + coalesce(latency_ms, 0) * 0.001 >= ? AND state = 'posted'
  AND (cost_source = 'unknown' OR is_overrun)
GROUP BY provider ORDER BY provider
