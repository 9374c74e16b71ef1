"""The services that a test may ask for.

Where they cannot be had, for want of Java and Maven, it is skipped, or fails where
BEAM_MODERATION_REQUIRE_SERVICES=1 says that they must be there.
"""

import contextlib
import os
import pathlib
import uuid

import pytest
import services
import stream_commands
import stream_jobs
from brightness import picture


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


@pytest.fixture(scope="session")
def kafka_io():
    """The folder of the jars of KafkaIO, Java's side of cross-language transforms."""
    return _had(lambda: services.jars("kafka_io"))


@pytest.fixture
def stream(kafka, flink, tmp_path):
    """A stream without a job yet; its jobs end with the test."""
    made = stream_jobs.Stream(kafka, flink, tmp_path / "out")
    yield made
    made.end()


@pytest.fixture
def on_flink(flink):
    """Starts the command `stream` on the cluster; its jobs end with the test."""
    with stream_commands.jobs_on(flink) as start:
        yield start


@pytest.fixture
def topics(kafka):
    """An empty topic of references and one of verdicts, of four partitions each.

    They take messages of any size and of a future that is up to ten days away.
    """
    names = [f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("refs", "verdicts")]
    settings = {"max_message_bytes": str(2**26)}
    settings["message_timestamp_after_max_ms"] = str(10 * 86_400_000)
    for name in names:
        kafka.create_topic(name, stream_commands.PARTITIONS, **settings)
    return names


@pytest.fixture
def pictures(tmp_path):
    """A folder of ten pictures, `0.png` to `9.png`."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(picture(25 * number))
    return folder
