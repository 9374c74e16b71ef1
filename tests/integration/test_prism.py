"""Prism gives what the embedded runner gives; it is built from its Go module, or skipped."""

import json

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recorder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window
from brightness import BRIGHT, Brightness, picture
from confluent_kafka import Producer
from services import processes
from vendor_jobs import rows

import beam_moderation as bm
from beam_moderation import records
from beam_moderation.kafka import ReadReferencesFromKafka
from beam_moderation.kafka_partitions import Subscription

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(300)]

OF_THE_RUN = ("run_id", "moderated_at", "failed_at", "latency_ms", "attempts")
"""Columns that tell of a run, not of what was judged."""


@pytest.fixture
def prism_options(prism):
    return ["--runner=PrismRunner", f"--prism_location={prism}"]


@pytest.fixture
def references(tmp_path):
    """Forty pictures from dark to bright, one that is no picture, and one that is not there."""
    names = [f"{number}.png" for number in range(40)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(number * 6))
    (tmp_path / "page.png").write_text("<html>")
    uris = [*names, "page.png", "missing.png"]
    path = tmp_path / "references.parquet"
    pq.write_table(pa.table({"data_id": uris, "uri": uris}), path, row_group_size=10)
    return path


def backfill(references, out, options):
    folder = str(references.parent)
    fetcher = bm.Fetcher(bm.Filesystems.of(roots=[folder], base=f"file://{folder}/"))
    tables = bm.Tables(str(out))
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        (
            pipeline
            | bm.ReadReferencesFromParquet(str(references), batch_size=4)
            | bm.ModerateWithModel(
                [Brightness()], policy=bm.Policy(BRIGHT), fetcher=fetcher, resume_from=tables
            )
            | bm.WriteParquet(tables)
        )
    return {
        table: [
            {name: cell for name, cell in row._asdict().items() if name not in OF_THE_RUN}
            for row in rows(out, table)
        ]
        for table in records.TABLES
    }


def test_backfill_has_the_rows_of_the_embedded_runner(references, tmp_path, prism_options):
    made = backfill(references, tmp_path / "prism", prism_options)
    assert [len(found) for found in made.values()] == [40, 40, 2]
    assert made == backfill(references, tmp_path / "embedded", ["--runner=FnApiRunner"])


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
