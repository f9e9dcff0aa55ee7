"""Tests of `proxy.cli`."""
