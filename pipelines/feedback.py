"""Tells a vendor what people decided: `python pipelines/feedback.py --decisions … --vendor …`.

Decisions are rows of Parquet files, or JSON messages of a Kafka topic up to what is its end when
the pipeline starts. Run it again to tell what is new; what the vendor took is never told twice.
"""

import argparse
import collections
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_moderation import decisions, errors, feedback, messages, metrics, parquet_files, quota
from beam_moderation.cli import vendors as vendor_options
from beam_moderation.vendors import CredentialsSource

_ROWS_AT_ONCE = 1000


def make_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """This pipeline's own options, and Beam's; the runner is its embedded one where none is named.

    They are no `PipelineOptions`: those of all pipelines in a process must differ in their names.
    """
    parser = argparse.ArgumentParser(description="Tells a vendor what people decided.")
    parser.add_argument("--decisions", help="Parquet files, an fsspec URL")
    parser.add_argument("--topic", help="a Kafka topic instead, of JSON objects")
    parser.add_argument("--brokers", help="of Kafka, as host:9092")
    parser.add_argument("--markers", required=True, help="folder of what was told, an fsspec URL")
    parser.add_argument("--vendor", required=True, help="alibaba, tencent or huawei")
    parser.add_argument(
        "--vendor_option", action="append", default=[], help="of the vendor, as name=value"
    )
    parser.add_argument("--credentials", help="a file; else the usual environment variables")
    parser.add_argument("--qps", type=int, default=20, help="calls a second")
    parser.add_argument(
        "--again",
        action="store_true",
        help="tell again what an earlier run left unknown, perhaps for the second time",
    )
    chosen, rest = parser.parse_known_args(arguments)
    options = PipelineOptions(rest, save_main_session=False)
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or "FnApiRunner"
    return chosen, options


def rows_of(group: parquet_files.RowGroup) -> Iterator[Mapping[str, Any]]:
    """The rows of a part of a Parquet file."""
    with parquet_files.opened(group.file, {}) as parquet:
        for rows in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group.number]):
            yield from rows.to_pylist()


def rows_in(batch: messages.MessageBatch) -> Iterator[Mapping[str, Any]]:
    """The messages of a batch as rows; one that is no JSON object has no columns."""
    for message in batch.messages:
        try:
            yield messages.decode_json(message)
        except errors.ReferenceInvalid:
            yield {}


class ReadRows(beam.PTransform):
    """Reads the rows of decisions from where the options say."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        super().__init__()
        if bool(chosen.decisions) == bool(chosen.topic and chosen.brokers):
            raise errors.ConfigurationError(
                "name --decisions, or --topic with --brokers, and not both"
            )
        self._files, self._topic = chosen.decisions, chosen.topic
        self._brokers = chosen.brokers

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
            | beam.Create([self._files])
            | "ListFiles" >> beam.FlatMap(parquet_files.list_files, {})
            | "ListRowGroups" >> beam.FlatMap(parquet_files.row_groups, {})
            | "Read" >> beam.FlatMap(rows_of)
        )


def to_decision(row: Mapping[str, Any]) -> Iterator[Any]:
    """The decision of a row; what is none is counted as invalid."""
    try:
        yield decisions.read_row(row)
    except errors.ReferenceInvalid as error:
        metrics.add({f"feedback/{feedback.INVALID}": 1})
        invalid = feedback.Told("", str(row.get("uri", "")), feedback.INVALID, False, str(error))
        yield beam.pvalue.TaggedOutput(feedback.INVALID, invalid)


def run(arguments: list[str] | None = None) -> collections.Counter[str]:
    """Builds the pipeline and runs it to its end; counts the decisions by what became of them.

    Raises:
      ConfigurationError: an option is wrong.
    """
    chosen, options = make_options(arguments)
    vendor = vendor_options.make_vendor(chosen.vendor, chosen.vendor_option)
    credentials = CredentialsSource(vendor.name, chosen.credentials)
    credentials()
    pipeline = beam.Pipeline(options=options)
    read = (
        pipeline
        | ReadRows(chosen)
        | "Parse" >> beam.FlatMap(to_decision).with_outputs(feedback.INVALID, main="decisions")
    )
    _ = read.decisions | feedback.SendFeedback(
        vendor,
        chosen.markers,
        quota=quota.Quota(chosen.qps, None, 8),
        credentials=credentials,
        again=chosen.again,
    )
    result = pipeline.run()
    result.wait_until_finish()
    return counts(result)


def counts(result: Any) -> collections.Counter[str]:
    """The decisions of a finished run by their states."""
    query = beam.metrics.MetricsFilter().with_namespace(metrics.NAMESPACE)
    return collections.Counter(
        {
            metric.key.metric.name.partition("/")[2]: metric.result
            for metric in result.metrics().query(query)["counters"]
            if metric.key.metric.name.startswith("feedback/")
        }
    )


if __name__ == "__main__":
    try:
        told = run()
    except errors.ConfigurationError as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{count} {state}" for state, count in sorted(told.items())))  # noqa: T201
