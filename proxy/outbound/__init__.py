"""Calls of our own that no request waits for (floor 2): webhooks, price lists, look-ups; never a model."""
