"""Turnpike: an OpenAI-compatible reverse proxy for language models."""
