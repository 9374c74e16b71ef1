"""The command `stream` with a vendor's tasks, whose results come through a topic of Kafka."""

import json
import uuid

import pytest
from deliveries import SEED, UID
from stream_commands import Command, produce, wait_for
from vendor_jobs import by_id, suggestions, truths

from beam_moderation.emulator import Fault, FaultSpec

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(300)]

SECRETS = {"BEAM_MODERATION_CALLBACK_UID": UID, "BEAM_MODERATION_CALLBACK_SEED": SEED}
IMAGES = by_id([f"https://img.example.com/{number}.jpg" for number in range(40)])


@pytest.fixture
def results(kafka):
    """The place of an empty topic."""
    topic = f"results-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, 2)
    return f"kafka://{kafka.bootstrap}/{topic}"


@pytest.fixture
def callbacks(results):
    """The URL of the service that keeps in the topic what is posted."""
    command = Command("callbacks", "--vendor=alibaba", "--port=0", "--to", results, **SECRETS)
    yield command.process.stdout.readline().split(" on ")[1].split(",")[0]
    command.kill()


def test_results_come_by_a_topic_and_those_that_do_not_are_asked_for_at_the_deadline(
    kafka, topics, results, callbacks, emulate, on_flink, tmp_path
):
    lost = Fault(kind="drop", operation="callback", nth=(3, 30))
    vendor = emulate("alibaba", task_s=0.3, uid=UID, faults=FaultSpec(faults=[lost]))
    keys = {"alibaba": {"key_id": "testid", "key_secret": "testsecret"}}
    (tmp_path / "keys.yaml").write_text(json.dumps(keys))
    words = ["--brokers", kafka.bootstrap, "--topic", topics[0], "--out", tmp_path / "out"]
    words += ["--window=2s", "--vendor=alibaba", "--scene=porn", "--scene=ad", "--mode=async"]
    words += ["--endpoint", vendor.url, "--credentials", tmp_path / "keys.yaml"]
    words += ["--callback", callbacks, "--callbacks-from", results, "--deadline=10"]
    words += ["--vendor-option=first_look_s=0.2", "--vendor-option=look_every_s=0.2"]
    command = on_flink("stream", *words, **SECRETS)
    sent = [{"data_id": data_id, "uri": uri} for data_id, uri in IMAGES.items()]
    produce(kafka, topics[0], sent)
    wait_for(command, tmp_path / "out", len(IMAGES))
    assert suggestions(tmp_path / "out") == truths("alibaba", IMAGES)
    stats = vendor.stats()
    assert (stats["callbacks"]["taken"], stats["callbacks"]["dropped"]) == (len(IMAGES) - 2, 2)
    assert set(stats["tasks_per_data_id"].values()) == {1}
    assert stats["calls"]["results"] in (1, 2)
