"""Tests of `proxy.routing`: tables and properties over plain values."""
