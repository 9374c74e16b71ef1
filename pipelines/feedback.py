"""Tells a vendor what people decided: `python pipelines/feedback.py --decisions … --vendor …`.

Decisions are rows of Parquet files, or JSON messages of a Kafka topic up to what is its end when
the pipeline starts. Run it again to tell what is new; what the vendor took is never told twice.

What the vendor did not take is listed, as JSON lines, and then the exit code is 1.
"""

import argparse
import collections
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from beam_moderation import decisions, errors, feedback, messages, metrics, parquet_files
from beam_moderation.cli import jobs, options
from beam_moderation.cli import vendors as vendor_options
from beam_moderation.vendors import CredentialsSource

_ROWS_AT_ONCE = 1000
_NOT_UTF_8 = b"\xff"
"""What stands for a cell that is no text: it makes its row invalid, and no other."""


def make_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """This pipeline's own options, and Beam's; the runner is its embedded one where none is named.

    They are no `PipelineOptions`: those of all pipelines in a process must differ in their names.

    Raises:
      ConfigurationError: an option is neither's.
    """
    parser = argparse.ArgumentParser(
        description="Tells a vendor what people decided.", allow_abbrev=False
    )
    parser.add_argument("--decisions", help="Parquet files, an fsspec URL")
    parser.add_argument("--topic", help="a Kafka topic instead, of JSON objects")
    parser.add_argument("--brokers", help="of Kafka, as host:9092")
    parser.add_argument("--markers", required=True, help="folder of what was told, an fsspec URL")
    parser.add_argument("--vendor", required=True, help="alibaba, tencent or huawei")
    parser.add_argument(
        *("--vendor-option", "--vendor_option"),
        action="append",
        default=[],
        help="of the vendor, as name=value",
    )
    parser.add_argument("--credentials", help="a file; else the usual environment variables")
    parser.add_argument("--qps", type=int, default=20, help="calls a second")
    parser.add_argument(
        "--again",
        action="store_true",
        help="tell again what an earlier run left unknown, perhaps for the second time",
    )
    parser.add_argument("--out", help="file for what was not taken; else it goes to stderr")
    chosen, rest = parser.parse_known_args(arguments)
    own = [name for action in parser._actions for name in action.option_strings]
    return chosen, options.make_beam_options(rest, own)


def rows_of(group: parquet_files.RowGroup) -> Iterator[Mapping[str, Any]]:
    """The rows of a part of a Parquet file, as far as decisions are made of them."""
    with parquet_files.opened(group.file, {}) as parquet:
        columns = decisions.COLUMNS
        for rows in parquet_files.iterate(parquet, group.number, columns, _ROWS_AT_ONCE):
            cells = zip(*map(_cells, rows.columns), strict=True)
            yield from (dict(zip(rows.schema.names, row, strict=True)) for row in cells)


def _cells(column: pa.Array) -> Iterator[Any]:
    for cell in column:
        try:
            yield cell.as_py()
        except UnicodeDecodeError:
            yield _NOT_UTF_8


def rows_in(batch: messages.MessageBatch) -> Iterator[Mapping[str, Any]]:
    """The messages of a batch as rows; one that is no JSON object has no columns."""
    for message in batch.messages:
        try:
            yield messages.decode_json(message)
        except errors.ReferenceInvalid:
            yield {}


class ReadRows(beam.PTransform):
    """Reads the rows of decisions from where the options say.

    Raises:
      ConfigurationError: they say nothing or two things, or there is no such table.
    """

    def __init__(self, chosen: argparse.Namespace) -> None:
        super().__init__()
        if bool(chosen.decisions) == bool(chosen.topic and chosen.brokers):
            raise errors.ConfigurationError(
                "name --decisions, or --topic with --brokers, and not both"
            )
        self._topic, self._brokers = chosen.topic, chosen.brokers
        self._files = parquet_files.list_files(chosen.decisions, {}) if chosen.decisions else []
        for file in self._files:
            parquet_files.check_columns(file, decisions.REQUIRED, {})

    def expand(self, root: Any) -> Any:
        """Reads a bounded table."""
        if self._topic:
            # An extra: it is not needed for Parquet.
            from beam_moderation import kafka, kafka_partitions  # noqa: PLC0415

            subscription = kafka_partitions.Subscription(
                self._topic, {"bootstrap.servers": self._brokers}, until_latest=True
            )
            batches = root | kafka.ReadMessagesFromKafka(subscription)
            return batches | "Decode" >> beam.FlatMap(rows_in)
        return (
            root
            | beam.Create(self._files)
            | "ListRowGroups" >> beam.FlatMap(parquet_files.row_groups, {})
            | "Read" >> beam.FlatMap(rows_of)
        )


class ListUntold(beam.PTransform):
    """Lists what the vendor did not take, as JSON lines in a file or on stderr."""

    def __init__(self, file: str | None) -> None:
        super().__init__()
        self._file = file

    def expand(self, told: Any) -> Any:
        """Writes nothing where all was taken, but for an empty file."""
        lines = (
            told
            | beam.Filter(lambda told: told.state != decisions.TAKEN)
            | "ToJson" >> beam.Map(lambda told: json.dumps(told._asdict(), ensure_ascii=False))
        )
        if self._file is None:
            return lines | beam.Map(_show)
        return lines | beam.io.WriteToText(self._file, shard_name_template="", num_shards=1)


def _show(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


def run(arguments: list[str] | None = None) -> collections.Counter[str]:
    """Builds the pipeline and runs it to its end; counts the rows by what became of them.

    Those that an earlier run told, or tried to, are counted as `taken-earlier` and the like.

    Raises:
      ConfigurationError: an option is wrong, or the job failed.
    """
    chosen, beam_options = make_options(arguments)
    vendor = vendor_options.make_vendor(chosen.vendor, chosen.vendor_option)
    credentials = CredentialsSource(vendor.name, chosen.credentials)
    credentials()
    read = ReadRows(chosen)
    decisions.Markers(chosen.markers, vendor).make()
    send = feedback.SendFeedback(
        vendor,
        chosen.markers,
        quota=dataclasses.replace(feedback.FEEDBACK_QUOTA, calls_per_second=chosen.qps),
        credentials=credentials,
        again=chosen.again,
    )

    def wire(pipeline: beam.Pipeline) -> None:
        _ = pipeline | read | send | ListUntold(chosen.out)

    return counts(jobs.finish(wire, beam_options, "stopped; run it again to go on"))


def counts(result: Any) -> collections.Counter[str]:
    """The rows of a finished run by their states."""
    query = beam.metrics.MetricsFilter().with_namespace(metrics.NAMESPACE)
    return collections.Counter(
        {
            metric.key.metric.name.partition("/")[2]: metric.result
            for metric in result.metrics().query(query)["counters"]
            if metric.key.metric.name.startswith("feedback/")
        }
    )


def main() -> int:
    """Runs the pipeline; returns 0 where the vendor has taken all, 1 where not, 2 for a mistake."""
    # An error is told in one line, where Beam would log a traceback a worker.
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "CRITICAL"), force=True)
    try:
        told = run()
    except errors.ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(", ".join(f"{count} {state}" for state, count in sorted(told.items())))  # noqa: T201
    return int(any(not state.startswith(decisions.TAKEN) for state in told))


if __name__ == "__main__":
    sys.exit(main())
