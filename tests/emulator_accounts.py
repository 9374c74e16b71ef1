"""Fixtures: emulated accounts that the tests of a module share."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from emulator_calls import Faulty, Urls, one_fault

from beam_moderation import emulator


@pytest.fixture(scope="module")
def shared() -> Iterator[dict[str, emulator.Running]]:
    """An account of each vendor with the default settings, for tests that need no other."""
    with contextlib.ExitStack() as stack:
        yield {vendor: stack.enter_context(emulator.serve(vendor)) for vendor in emulator.VENDORS}


@pytest.fixture
def urls(shared: dict[str, emulator.Running]) -> Urls:
    return {vendor: running.url for vendor, running in shared.items()}


@pytest.fixture
def faulty(shared: dict[str, emulator.Running]) -> Iterator[Faulty]:
    """Lets every call of a shared account go wrong until the end of the test."""

    def start(vendor: str, kind: str, **fields: Any) -> str:
        shared[vendor].set_faults(one_fault(kind, **fields))
        return shared[vendor].url

    yield start
    for running in shared.values():
        running.set_faults(emulator.FaultSpec())
