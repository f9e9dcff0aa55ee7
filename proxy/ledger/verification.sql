-- What `verification.py` asks of the books. The form is that of queries.sql; each block that finds something takes as
-- its only parameter how many rows at most, and gives none when all is well. The file is large and the page cache small:
-- every block walks the table once, or stays in an index.

-- name: find_page_faults
-- SQLite's own check of its pages and of what stands in the columns; a single row says `ok`.
SELECT quick_check FROM pragma_quick_check(?)

-- name: list_objects
-- Tables and indexes, without those SQLite makes for itself.
SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name

-- name: count_books
-- Attempts, requests (each has one first attempt), balances.
SELECT count(*), coalesce(sum(number = 1), 0), (SELECT count(*) FROM balances) FROM attempts

-- name: sum_pending
-- Open holds by owner: how many and how much.
SELECT owner, count(*), sum(hold_nano_usd) FROM attempts WHERE state = 'pending' GROUP BY owner ORDER BY owner

-- name: list_balances
-- Every window that is kept.
SELECT scope, starts_s, ends_s FROM balances ORDER BY scope, ends_s, starts_s

-- name: list_balances_of_scope
-- What is kept of one scope. Parameter: scope.
SELECT starts_s, ends_s, posted_nano_usd, held_nano_usd FROM balances WHERE scope = ? ORDER BY ends_s, starts_s

-- name: list_makers
-- Keys that have made keys.
SELECT DISTINCT parent FROM keys WHERE parent IS NOT NULL

-- name: sum_quarters
-- What the attempts of each {dimension} come to by quarters of an hour, of which every window consists, and where days
-- begin that have been rolled up. Off the indexes: walking the table once and sorting is cheaper than finding each row
-- from an index, and costs the same however many windows are kept.
SELECT {dimension}, CAST(at_s AS INTEGER) / 900 * 900 AS starts_s,
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0)
FROM attempts NOT INDEXED WHERE {condition} GROUP BY 1, 2
UNION ALL
SELECT {dimension}, day_s, sum(cost_nano_usd), 0 FROM days NOT INDEXED WHERE {condition} GROUP BY 1, 2
ORDER BY 1, 2

-- name: sum_quarters_of_scope
-- The same of one scope of which the indexes know the attempts. Parameters: those of {condition}, and again.
SELECT '', CAST(at_s AS INTEGER) / 900 * 900 AS starts_s,
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0)
FROM attempts WHERE {condition} GROUP BY 2
UNION ALL
SELECT '', day_s, sum(cost_nano_usd), 0 FROM days WHERE {day_condition} GROUP BY 2
ORDER BY 2

-- name: find_false_days
-- Days whose costs by source are not their cost, or whose batch does not agree with itself.
SELECT batch, number, cost_nano_usd, coalesce(cost_reported_nano_usd, 0) + coalesce(cost_computed_nano_usd, 0)
  + coalesce(cost_estimated_nano_usd, 0) + coalesce(cost_held_nano_usd, 0), requests, failed,
  first_requests, first_failed
FROM (
  SELECT *, first_value(requests) OVER batches AS first_requests, first_value(failed) OVER batches AS first_failed
  FROM days WINDOW batches AS (PARTITION BY batch ORDER BY number)
)
WHERE cost_nano_usd <> coalesce(cost_reported_nano_usd, 0) + coalesce(cost_computed_nano_usd, 0)
  + coalesce(cost_estimated_nano_usd, 0) + coalesce(cost_held_nano_usd, 0)
  OR requests <> first_requests OR failed <> first_failed
LIMIT ?

-- name: find_false_states
-- Attempts whose columns do not belong to their state: what is open has no end and no cost; what is posted has an end, a
-- source, and a cost unless the source says that nobody knows it; what is voided has an end and costs nothing; what is
-- unresolved has no cost yet.
SELECT request_id, number, state, ended_at_s, cost_nano_usd, cost_source FROM attempts
WHERE NOT CASE state
  WHEN 'pending' THEN ended_at_s IS NULL AND cost_nano_usd IS NULL AND cost_source IS NULL
  WHEN 'posted' THEN ended_at_s IS NOT NULL AND CASE
    WHEN cost_source IN ('reported', 'computed', 'estimated', 'held') THEN cost_nano_usd IS NOT NULL
    ELSE cost_source IS 'unknown' AND cost_nano_usd IS NULL
  END
  WHEN 'voided' THEN ended_at_s IS NOT NULL AND cost_nano_usd IS 0 AND cost_source IS NULL
  WHEN 'unresolved' THEN cost_nano_usd IS NULL AND cost_source IS NULL
  ELSE 0
END
LIMIT ?

-- name: find_false_holds
-- Attempts that hold something without a price, or whose mark does not say whether they cost more than was held.
SELECT request_id, number, is_priced, hold_nano_usd, cost_nano_usd, is_overrun FROM attempts
WHERE (hold_nano_usd > 0 AND NOT is_priced) OR is_overrun <> (coalesce(cost_nano_usd, 0) > hold_nano_usd) LIMIT ?

-- name: find_false_numbers
-- Requests whose attempts are not numbered 1, 2, 3 and so on; no number stands twice in the index.
SELECT request_id, group_concat(number, ', ') FROM attempts GROUP BY request_id
HAVING min(number) <> 1 OR max(number) <> count(*) LIMIT ?

-- name: find_early_lasts
-- Attempts that are marked as their request's last one, although another follows. Asked from the later one: few requests
-- have two. `CROSS JOIN` keeps that order.
SELECT earlier.request_id, earlier.number, max(later.number) FROM attempts AS later
CROSS JOIN attempts AS earlier
  ON earlier.request_id = later.request_id AND earlier.number < later.number AND earlier.is_last
WHERE later.number > 1
GROUP BY earlier.request_id, earlier.number
LIMIT ?

-- name: find_missing_lasts
-- Attempts after which nothing comes, although they are not marked as the last one.
SELECT request_id, number FROM attempts WHERE is_last <> 1 AND NOT EXISTS (
  SELECT 1 FROM attempts AS later WHERE later.request_id = attempts.request_id AND later.number > attempts.number
) LIMIT ?

-- name: find_false_postings
-- Entries of the journal whose legs do not sum to zero; without any, the journal as a whole does.
SELECT 'attempt', seq, sum(amount_nano_usd) AS rest FROM attempt_postings GROUP BY seq HAVING rest <> 0
UNION ALL
SELECT 'correction', seq, sum(amount_nano_usd) AS rest FROM correction_postings GROUP BY seq HAVING rest <> 0
LIMIT ?

-- name: find_false_corrections
-- Attempts whose cost is not what they were first booked at and all differences since. Few attempts have any.
SELECT request_id, number, expected, cost_nano_usd FROM (
  SELECT attempt_seq, sum(delta_nano_usd) + coalesce((
    SELECT first.was_nano_usd FROM corrections AS first
    WHERE first.attempt_seq = corrections.attempt_seq ORDER BY first.seq LIMIT 1
  ), 0) AS expected
  FROM corrections GROUP BY attempt_seq
) JOIN attempts ON attempts.seq = attempt_seq WHERE expected <> coalesce(cost_nano_usd, 0) LIMIT ?

-- name: find_stray_corrections
-- Corrections of what is not there or has not ended.
SELECT corrections.seq, attempt_seq FROM corrections LEFT JOIN attempts ON attempts.seq = attempt_seq
WHERE attempts.seq IS NULL OR state IN ('pending', 'unresolved') LIMIT ?

-- name: find_false_lookups
-- Attempts that are unresolved although nobody is to be asked, or to be asked about while they run or without an id.
SELECT request_id, number, state, lookups.attempt_seq IS NOT NULL
FROM attempts LEFT JOIN lookups ON lookups.attempt_seq = seq
WHERE (state = 'unresolved') > (lookups.attempt_seq IS NOT NULL)
  OR (lookups.attempt_seq IS NOT NULL AND (state = 'pending' OR generation_id IS NULL)) LIMIT ?
