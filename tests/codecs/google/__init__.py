"""Tests of `proxy.codecs.google`: tables, properties, and recorded answers."""
