"""How long tests with random input go on: FUZZ_SECONDS in the environment, for each file of them.

Without it they are the same every time, and short.
"""

import os
import time

import pytest
from hypothesis import HealthCheck, settings

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))

for_seconds = pytest.mark.timeout(SECONDS + 120)


def fuzzing(max_examples):
    return settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=not SECONDS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def repeated(check, tests):
    """Checks once, and again while the share of one of so many tests lasts, with other input."""
    end = time.monotonic() + SECONDS / tests
    check()
    while time.monotonic() < end:
        check()
