"""Prism streams; it is built from its Go module, or skipped."""

import json

import apache_beam as beam
import pytest
import recorder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window
from confluent_kafka import Producer
from services import processes

from beam_moderation.kafka import ReadReferencesFromKafka
from beam_moderation.kafka_partitions import Subscription

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(300)]


@pytest.fixture
def prism_options(prism):
    return ["--runner=PrismRunner", f"--prism_location={prism}"]


def ids(batch):
    return [reference.data_id for reference in batch]


def test_stream_reads_every_message_and_closes_its_windows(kafka, tmp_path, prism_options):
    """One of the partitions has nothing, which must not hold the windows."""
    kafka.create_topic("prism", 4)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for number in range(600):
        reference = {"data_id": str(number), "uri": f"https://x.test/{number}.jpg"}
        producer.produce("prism", json.dumps(reference), partition=number % 3)
    assert producer.flush(30) == 0
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": "prism", "log_level": 0}
    pipeline = beam.Pipeline(options=PipelineOptions([*prism_options, "--streaming"]))
    read = pipeline | ReadReferencesFromKafka(Subscription("prism", config, max_delay_s=2))
    counts = (
        read
        | beam.FlatMap(ids)
        | beam.WindowInto(window.FixedWindows(5))
        | beam.Map(lambda data_id: (int(data_id) % 10, data_id))
        | beam.GroupByKey()
        | beam.FlatMapTuple(lambda _, found: found)
    )
    _ = counts | beam.ParDo(recorder.Record(tmp_path))
    running = pipeline.run()
    try:
        processes.wait_until(lambda: len(recorder.recorded(tmp_path)) >= 600, "the windows", 120)
    finally:
        running.cancel()
    assert sorted(map(int, recorder.recorded(tmp_path))) == list(range(600))
