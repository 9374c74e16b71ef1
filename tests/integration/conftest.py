"""The services that a test may ask for.

Where they cannot be had, for want of Java and Maven, it is skipped, or fails where
BEAM_MODERATION_REQUIRE_SERVICES=1 says that they must be there.
"""

import contextlib
import os
import pathlib

import pytest
import services
import stream_jobs


@pytest.fixture(scope="session", autouse=True)
def importable():
    """Worker processes find the modules that lie beside the tests."""
    tests = pathlib.Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests / "integration")]))
        yield


def _had(get):
    """What `get` gives; the test is skipped where it cannot be had, unless it must be."""
    try:
        return get()
    except services.ServiceMissing as missing:
        if os.environ.get("BEAM_MODERATION_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka():
    """A broker on loopback; tests make topics of their own."""
    with contextlib.ExitStack() as stack:
        yield _had(lambda: stack.enter_context(services.kafka()))


@pytest.fixture(scope="session")
def flink():
    """A cluster with one TaskManager of four slots."""
    with contextlib.ExitStack() as stack:
        yield _had(lambda: stack.enter_context(services.flink()))


@pytest.fixture(scope="session")
def prism():
    """The path of the Prism runner."""
    return _had(services.prism)


@pytest.fixture
def stream(kafka, flink, tmp_path):
    """A stream without a job yet; its jobs end with the test."""
    made = stream_jobs.Stream(kafka, flink, tmp_path / "out")
    yield made
    made.end()
