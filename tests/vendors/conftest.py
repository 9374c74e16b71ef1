"""What the vendors' tests may use: the fixture `serve`, an Alibaba with faults."""

import pytest

from beam_moderation.emulator import FaultSpec


@pytest.fixture
def serve(emulate):
    """Starts an emulated Alibaba: `serve(Fault(...), task_s=0.1)`."""

    def start(*faults, **settings):
        return emulate("alibaba", faults=FaultSpec(faults=faults), **settings)

    return start
