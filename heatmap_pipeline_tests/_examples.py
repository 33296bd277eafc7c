"""How many examples property tests take: a fifth by default, all with HYPOTHESIS_PROFILE=ci, as `.ci/run` sets it."""

from __future__ import annotations

import os
from collections.abc import Collection

from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "few")
"""`few` or `ci`; any other is refused by Hypothesis."""

settings.register_profile("few", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None)
settings.load_profile(PROFILE)


def examples(full: int, *, suppress_health_check: Collection[HealthCheck] = ()) -> settings:
    """Return the settings of a property that takes some milliseconds an example and is to see `full` of them in CI."""
    return settings(max_examples=tries(full, 5), deadline=None, suppress_health_check=suppress_health_check)


def tries(full: int, share: int = 2) -> int:
    """Return how often something is tried that may go wrong now and then: `full` times in CI, else a part of that."""
    return full if PROFILE == "ci" else -(-full // share)
