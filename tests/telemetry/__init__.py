"""Tests of `proxy.telemetry`: the log, and the figures that workers share."""
