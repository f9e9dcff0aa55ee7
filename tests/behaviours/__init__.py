"""Whole stories over real sockets: a client, Turnpike, and an upstream that does as it is told."""
