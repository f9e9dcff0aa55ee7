"""Tests of the HTTP adapter, over real sockets."""
