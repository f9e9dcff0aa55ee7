"""Which targets a request may use and in which order (floor 1b, pure)."""
