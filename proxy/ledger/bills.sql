-- What `sqlite_bills.py` asks of the books. The form is that of queries.sql.

-- name: add_bill
INSERT INTO bills (
  provider, upstream_key, at_s, fingerprint, billed_nano_usd, booked_nano_usd, left_nano_usd
) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: forget_bills
DELETE FROM bills WHERE at_s < ?

-- name: list_bills
SELECT provider, upstream_key, at_s, fingerprint, billed_nano_usd, booked_nano_usd, left_nano_usd
FROM bills ORDER BY provider, upstream_key, at_s

-- name: sum_booked
-- What was ever booked on the gateway's account, in days without detail too. Parameters: provider, provider.
SELECT name, sum(cost) FROM (
  SELECT coalesce(upstream_key, '') AS name, sum(cost_nano_usd) AS cost FROM attempts
  WHERE provider = ? AND payer = 'gateway' AND state = 'posted' GROUP BY 1
  UNION ALL
  SELECT coalesce(upstream_key, ''), sum(cost_nano_usd) FROM days WHERE provider = ? AND payer = 'gateway' GROUP BY 1
) GROUP BY name ORDER BY name
