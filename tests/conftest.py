"""What every test may use: the fixture `emulate`, a vendor's emulator on a free port."""

import logging

import pytest

pytest_plugins = ["beam_moderation.emulator.pytest_plugin"]


@pytest.fixture(autouse=True)
def _log_handlers():
    """Takes away the handlers that a command added: they write to what was captured of one test."""
    before = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = before
