"""Tests of kept answers."""
