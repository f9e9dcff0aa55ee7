"""Pure decisions about attempts: retry, timeouts, limits (floor 1a)."""
