"""What holds for every test: a property may take its time, because the machine it runs on is shared."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
