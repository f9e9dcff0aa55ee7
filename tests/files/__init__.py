"""Tests of `proxy.files`: routes.yaml and environment to a table."""
