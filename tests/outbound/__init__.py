"""Calls of our own."""
