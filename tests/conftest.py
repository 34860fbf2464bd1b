"""For all tests: Hypothesis is given its examples, not a time; the machine may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("store", deadline=None)
settings.load_profile("store")
