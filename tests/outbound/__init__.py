"""Tests of `proxy.outbound`."""
