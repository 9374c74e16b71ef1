"""The fixture `emulate`, for tests against emulated vendors.

Put `pytest_plugins = ["beam_moderation.emulator.pytest_plugin"]` into the outermost `conftest.py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from beam_moderation.emulator.server import Running, serve
from beam_moderation.emulator.settings import Settings


@pytest.fixture
def emulate() -> Iterator[Callable[..., Running]]:
    """Starts an emulator: `emulate("alibaba", calls_per_second=5)`; all stop after the test."""
    with contextlib.ExitStack() as stack:

        def start(vendor: str, **settings: Any) -> Running:
            return stack.enter_context(serve(vendor, Settings(**settings)))

        yield start
