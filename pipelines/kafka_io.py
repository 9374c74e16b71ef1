"""A catch-up from Kafka through Beam's own connector, KafkaIO, which is written in Java.

`python pipelines/kafka_io.py --brokers HOST:PORT --topic refs --max_messages 1000 --out DIR …`
reads that many messages and ends. See docs/kafka-io.md for what it needs, and for when to use it.
"""

import argparse
import itertools
import logging
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

import beam_moderation as bm
from beam_moderation import messages, records, scanners


def make_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """This pipeline's own options, and Beam's."""
    parser = argparse.ArgumentParser(description="Moderates the images that messages refer to.")
    parser.add_argument("--brokers", required=True, help="of Kafka, as host:9092")
    parser.add_argument("--topic", required=True, help="of references, as JSON objects")
    parser.add_argument("--max_messages", type=int, required=True, help="after which it ends")
    parser.add_argument("--out", required=True, help="folder of the tables, an fsspec URL")
    parser.add_argument("--expansion_service", help="as host:port; Beam starts one where none is")
    parser.add_argument("--scanner", action="append", default=[], choices=list(scanners.SCANNERS))
    parser.add_argument("--model", action="append", default=[], help="manifest of an ONNX model")
    chosen, rest = parser.parse_known_args(arguments)
    options = PipelineOptions(rest, save_main_session=True)
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or "FnApiRunner"
    return chosen, options


def to_batches(rows: Iterable[Any]) -> Iterator[messages.MessageBatch]:
    """Rows of KafkaIO, of whatever partitions, as batches of one partition each."""
    place = operator.attrgetter("topic", "partition", "offset")
    partition = operator.attrgetter("topic", "partition")
    for (topic, number), found in itertools.groupby(sorted(rows, key=place), partition):
        yield messages.MessageBatch(topic, number, tuple(map(to_message, found)))


def to_message(row: Any) -> messages.Message:
    """A row of KafkaIO as a message."""
    headers = tuple((header.key, header.value) for header in row.headers or ())
    return messages.Message(row.offset, row.timestamp, row.key, row.value, headers)


def run(arguments: Sequence[str] | None = None) -> None:
    """Builds the pipeline and runs it to its end."""
    chosen, options = make_options(arguments)
    judges: list[bm.Judge] = [bm.OnnxModel.from_manifest(url) for url in chosen.model]
    judges += [scanners.by_name(name) for name in chosen.scanner]
    tables = bm.Tables(chosen.out)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | ReadFromKafka(
                {"bootstrap.servers": chosen.brokers, "auto.offset.reset": "earliest"},
                [chosen.topic],
                with_metadata=True,
                max_num_records=chosen.max_messages,
                timestamp_policy=ReadFromKafka.create_time_policy,
                expansion_service=chosen.expansion_service,
            )
            | beam.BatchElements(min_batch_size=64, max_batch_size=256)
            | beam.FlatMap(to_batches).with_output_types(messages.MessageBatch)
            | beam.Map(messages.parse_references).with_output_types(records.ReferenceBatch)
            | bm.ModerateWithModel(judges, resume_from=tables)
            | bm.WriteParquet(tables)
        )


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.INFO)
    run()
