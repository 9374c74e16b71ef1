"""What a reference costs beside fetching, decoding and judging: a null model on tiny inline images.

`python benchmarks/overhead.py [--references 20000] [--rounds 3]` runs three pipelines, each with
one stage more than the one before, at two sizes; the difference of the sizes is free of what is
paid once. Printed are microseconds of CPU for each reference.
"""

import argparse
import io
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

import beam_moderation as bm
from beam_moderation import judges, records


class NullModel:
    """Judges nothing, at no cost."""

    provider = "null@1"
    labels: Mapping[str, frozenset[str]] = {"null": frozenset({"normal"})}
    sufficient_size = (1, 1)
    max_batch = 1

    def load(self) -> None:
        """There is nothing to load."""

    @staticmethod
    def prepare(_: Image.Image) -> None:
        """There is nothing to prepare."""

    def judge(self, prepared: Sequence[Any]) -> list[list[judges.SceneFindings]]:
        """Finds every frame normal."""
        return [[judges.SceneFindings("null", [records.Finding("normal", 1.0)])] for _ in prepared]


def write_references(file: pathlib.Path, count: int) -> None:
    """References with the same JPEG of 8 x 8 pixels inline."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "JPEG")
    columns = {
        "data_id": [f"{number:08}" for number in range(count)],
        "content": [content.getvalue()] * count,
    }
    pq.write_table(pa.table(columns), file, row_group_size=10_000)


def run(file: pathlib.Path, stages: int) -> float:
    """Runs the first `stages` stages; returns seconds of CPU, threads included."""
    with tempfile.TemporaryDirectory() as folder:
        tables = bm.Tables(folder)
        moderate = bm.ModerateWithModel(
            [NullModel()], policy=bm.Policy({"scenes": {"null": {"normal": "pass"}}})
        )
        start = time.process_time()
        with beam.Pipeline("FnApiRunner") as pipeline:
            data = pipeline | bm.ReadReferencesFromParquet(
                str(file), uri_column=None, content_column="content"
            )
            for transform in [moderate, bm.WriteParquet(tables)][: stages - 1]:
                data = data | transform
        return time.process_time() - start


STAGES = ("read", "moderate", "write")


def main() -> None:
    """Runs every pipeline at both sizes, in interleaved rounds, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--references", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    small = options.references // 4
    costs: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as folder:
        files = {count: pathlib.Path(folder, f"{count}") for count in (small, options.references)}
        for count, file in files.items():
            write_references(file, count)
        for _ in range(options.rounds):
            for number, stage in enumerate(STAGES, 1):
                seconds = {count: run(file, number) for count, file in files.items()}
                more = seconds[options.references] - seconds[small]
                costs[stage].append(1e6 * more / (options.references - small))
    report({stage: statistics.median(values) for stage, values in costs.items()})


def report(cumulated: Mapping[str, float]) -> None:
    """Prints what each stage adds, and its share."""
    table = Table("stage")
    for column in ("microseconds of CPU for each reference", "share"):
        table.add_column(column, justify="right")
    total, before = cumulated[STAGES[-1]], 0.0
    for stage, value in cumulated.items():
        table.add_row(stage, f"{value - before:.1f}", f"{(value - before) / total:.0%}")
        before = value
    table.add_row("all", f"{total:.1f}", "100%")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
