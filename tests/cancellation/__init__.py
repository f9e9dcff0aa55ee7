"""Clients that leave, at every phase of a request."""
