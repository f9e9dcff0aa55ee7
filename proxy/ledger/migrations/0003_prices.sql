-- What few answers use: audio read from a cache, pictures, searches, another service than the usual one. A JSON object
-- of the counts that are not 0 and the service's name; most rows have none.
ALTER TABLE attempts ADD COLUMN rare_usage TEXT;
