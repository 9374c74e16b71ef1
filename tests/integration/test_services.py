import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import apache_beam as beam
import psutil
import pytest
import recorder
from apache_beam.options.pipeline_options import PipelineOptions
from confluent_kafka import Consumer, Producer
from services import processes

FOLDER = pathlib.Path(__file__).parent

pytestmark = [pytest.mark.integration, pytest.mark.services]


def produce(kafka, topic, count):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for number in range(count):
        producer.produce(topic, str(number))
    assert producer.flush(30) == 0


def consume(kafka, topic, count):
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    values = []
    while len(values) < count:
        values += [message.value() for message in consumer.consume(count, 1) if not message.error()]
    consumer.close()
    return values


def test_broker_keeps_what_it_has_when_it_is_killed(kafka):
    kafka.create_topic("survivors", 2)
    produce(kafka, "survivors", 100)
    before = kafka.broker.pid
    kafka.broker.kill()
    assert not kafka.broker.alive
    kafka.start()
    assert kafka.broker.pid != before
    assert sorted(map(int, consume(kafka, "survivors", 100))) == list(range(100))


def total(folder, options):
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        (
            pipeline
            | beam.Create(range(100))
            | beam.Reshuffle()
            | beam.CombineGlobally(sum)
            | beam.Map(str)
            | beam.ParDo(recorder.Record(folder))
        )
    return recorder.recorded(folder)


@pytest.mark.parametrize("in_process", [True, False], ids=["loopback", "worker pool"])
def test_flink_runs_a_pipeline(flink, tmp_path, in_process):
    assert total(tmp_path, flink.options(in_process=in_process)) == ["4950"]


def test_prism_runs_a_pipeline(prism, tmp_path):
    options = ["--runner=PrismRunner", f"--prism_location={prism}"]
    assert total(tmp_path, options) == ["4950"]


def test_services_start_and_stop_from_the_command_line(tmp_path, kafka):
    def say(*words):
        command = [sys.executable, "-m", "services", *words, "--folder", str(tmp_path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER)
        return json.loads(said.stdout)

    try:
        started = say("start", "kafka")
        assert say("status") == started
        assert started["kafka"].startswith("127.0.0.1:")
    finally:
        assert say("stop") == {}
    assert say("status") == {}


ONE_OF_EACH = [
    "test_services.py::test_broker_keeps_what_it_has_when_it_is_killed",
    "test_services.py::test_flink_runs_a_pipeline[loopback]",
    "test_services.py::test_prism_runs_a_pipeline",
    "test_kafka_io.py::test_messages_through_kafka_io_are_moderated",
]
"""A test for each service."""


@pytest.mark.parametrize(
    ("required", "outcome"), [("0", "4 skipped"), ("1", "4 errors")], ids=["of use", "required"]
)
def test_a_service_that_cannot_be_had_fails_only_where_it_is_required(tmp_path, required, outcome):
    variables = {"PATH": "/nowhere", "BEAM_MODERATION_CACHE": str(tmp_path)}
    variables["BEAM_MODERATION_REQUIRE_SERVICES"] = required
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *ONE_OF_EACH]
    ended = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, cwd=FOLDER, check=False
    )
    assert re.search(rf"\b{outcome} in ", ended.stdout), ended.stdout
    assert ended.returncode == int(required)


STARTS = """
import pathlib, sys, time
from services import processes
service = processes.Service(["sleep", "600"], pathlib.Path(sys.argv[1]), lambda: True)
service.start(survives=sys.argv[2] == "survives")
print(service.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs Linux with setpriv")
@pytest.mark.parametrize("bond", ["is bound", "survives"])
def test_a_service_dies_with_who_started_it_unless_it_is_to_survive(tmp_path, bond):
    command = [sys.executable, "-c", STARTS, tmp_path / "log", bond]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER) as starter:
        service = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    try:
        if bond == "is bound":
            assert psutil.wait_procs([service], timeout=30)[1] == []
        assert service.is_running() == (bond == "survives")
    finally:
        processes.end(service.pid, signal.SIGKILL)
