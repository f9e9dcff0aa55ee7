"""Turnpike: an OpenAI-compatible gateway between apps and language models, right about money."""

from __future__ import annotations

__version__ = "0.1.0"
