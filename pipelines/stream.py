"""A stream as a plain Beam pipeline, to be launched or copied: `python pipelines/stream.py …`.

The command `beam-moderation stream` runs the same transforms, and tells Flink what it must know:
`--streaming --checkpointing_interval=10000 --max_bundle_time_mills=500
--finish_bundle_before_checkpointing`, of which the last is needed always.
"""

import argparse
import logging
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

import beam_moderation as bm
from beam_moderation import scanners


def make_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """This pipeline's own options, and Beam's.

    They are no `PipelineOptions`: those of all pipelines in a process must differ in their names.
    """
    parser = argparse.ArgumentParser(description="Moderates the images that messages refer to.")
    parser.add_argument("--brokers", required=True, help="of Kafka, as host:9092")
    parser.add_argument("--topic", required=True, help="of references, as JSON objects")
    parser.add_argument("--group", help="whose offsets show how far the stream is")
    parser.add_argument("--to_topic", help="gets a message for each reference")
    parser.add_argument("--out", required=True, help="folder of the tables, an fsspec URL")
    parser.add_argument("--window", type=float, default=60.0, help="seconds whose rows share files")
    parser.add_argument("--scanner", action="append", default=[], choices=list(scanners.SCANNERS))
    parser.add_argument("--model", action="append", default=[], help="manifest of an ONNX model")
    parser.add_argument("--local_root", action="append", default=[], help="folder to be read")
    chosen, rest = parser.parse_known_args(arguments)
    options = PipelineOptions(rest, save_main_session=False)
    options.view_as(StandardOptions).streaming = True
    return chosen, options


def run(arguments: Sequence[str] | None = None) -> None:
    """Builds the pipeline and runs it until it is stopped."""
    chosen, options = make_options(arguments)
    config = {"bootstrap.servers": chosen.brokers}
    group = {"group.id": chosen.group} if chosen.group else {}
    judges: list[bm.Judge] = [bm.OnnxModel.from_manifest(url) for url in chosen.model]
    judges += [scanners.by_name(name) for name in chosen.scanner]
    fetcher = bm.Fetcher(bm.Filesystems.of(roots=chosen.local_root))
    with beam.Pipeline(options=options) as pipeline:
        outcomes = (
            pipeline
            | bm.ReadReferencesFromKafka(
                bm.Subscription(chosen.topic, {**config, **group}, secrets=bm.KafkaSecrets())
            )
            | bm.ModerateWithModel(judges, fetcher=fetcher)
        )
        _ = outcomes | bm.WriteParquet(chosen.out, window=chosen.window)
        if chosen.to_topic:
            _ = outcomes | bm.WriteOutcomesToKafka(
                chosen.to_topic, config, secrets=bm.KafkaSecrets()
            )


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.INFO)
    run()
