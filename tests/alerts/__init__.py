"""Telling the operator."""
