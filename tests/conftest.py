"""What every test may use: the fixture `emulate`, a vendor's emulator on a free port."""

import logging

import pytest

pytest_plugins = ["beam_moderation.emulator.pytest_plugin"]


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """Undoes what a command did to logging: its handlers write to what was captured of one test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
