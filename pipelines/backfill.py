"""A backfill as a plain Beam pipeline, to be launched or copied: `python pipelines/backfill.py …`.

The command `beam-moderation backfill` runs the same transforms with progress and a summary.
"""

import argparse
import logging
import pathlib
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

import beam_moderation as bm
from beam_moderation import scanners


def make_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """This pipeline's own options, and Beam's; the runner is its embedded one where none is named.

    Beam's own default is Prism wherever that can be downloaded.
    """
    parser = argparse.ArgumentParser(
        description="Moderates the images that Parquet files refer to."
    )
    parser.add_argument("--references", required=True, help="Parquet files, an fsspec URL")
    parser.add_argument("--out", required=True, help="folder of the tables, an fsspec URL")
    parser.add_argument("--scanner", action="append", default=[], choices=list(scanners.SCANNERS))
    parser.add_argument("--model", action="append", default=[], help="manifest of an ONNX model")
    parser.add_argument(
        "--local_root",
        action="append",
        default=[],
        help="folder whose files may be read; relative references start in the first",
    )
    parser.add_argument("--policy", help="a YAML file; the package's own where none is given")
    chosen, rest = parser.parse_known_args(arguments)
    options = PipelineOptions(rest, save_main_session=False)
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or "FnApiRunner"
    return chosen, options


def make_fetcher(roots: Sequence[str]) -> bm.Fetcher:
    """Reads the public web, and the files below the roots."""
    base = f"{pathlib.Path(roots[0]).absolute().as_uri()}/" if roots else None
    return bm.Fetcher(bm.Filesystems.of(roots=roots, base=base))


def run(arguments: Sequence[str] | None = None) -> None:
    """Builds the pipeline and runs it to its end."""
    chosen, options = make_options(arguments)
    judges: list[bm.Judge] = [bm.OnnxModel.from_manifest(url) for url in chosen.model]
    judges += [scanners.by_name(name) for name in chosen.scanner]
    policy = bm.Policy.from_yaml(chosen.policy) if chosen.policy else None
    fetcher, tables = make_fetcher(chosen.local_root), bm.Tables(chosen.out)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | bm.ReadReferencesFromParquet(chosen.references)
            | bm.ModerateWithModel(judges, policy=policy, fetcher=fetcher, resume_from=tables)
            | bm.WriteParquet(tables)
        )


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.INFO)
    run()
