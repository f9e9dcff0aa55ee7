"""Tests of `proxy.codecs`: tables and properties over plain values."""
