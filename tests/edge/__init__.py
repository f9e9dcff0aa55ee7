"""Tests of `proxy.edge`."""
