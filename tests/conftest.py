"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Examples are the same in every run: a failure is a bug and not a matter of luck. `--hypothesis-profile=search` looks further.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
