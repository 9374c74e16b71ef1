"""What a reference costs up to its batch: microseconds of CPU, against reading the columns alone.

`python benchmarks/read.py [--references 1000000] [--rounds 3]` writes references with distinct ids
and URIs, and reads them by bare pyarrow, by the product, and by the product when it is told that
the ids are unique. The start of the runner is counted.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from rich.console import Console
from rich.table import Table

import beam_moderation as bm

ROWS_A_GROUP = 100_000
BASELINE = "pyarrow"


def write_references(file: pathlib.Path, count: int) -> None:
    """References to images that nobody fetches."""
    columns = {
        "data_id": [f"image-{number:09}" for number in range(count)],
        "uri": [f"https://images.example/{number:09}/photo.jpg" for number in range(count)],
    }
    pq.write_table(pa.table(columns), file, row_group_size=ROWS_A_GROUP)


def read_bare(file: pathlib.Path) -> int:
    """Reads the columns and looks at nothing."""
    with pq.ParquetFile(file) as parquet:
        return sum(batch.num_rows for batch in parquet.iter_batches(use_threads=False))


def read(file: pathlib.Path, unique_ids: bool) -> int:
    """Reads reference batches in a pipeline."""
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = (
            pipeline
            | bm.ReadReferencesFromParquet(str(file), unique_ids=unique_ids)
            | beam.Map(_count)
        )
    (counter,) = pipeline.result.metrics().query()["counters"]
    return int(counter.result)


def _count(batch: bm.ReferenceBatch) -> None:
    Metrics.counter("benchmark", "references").inc(batch.references.num_rows)


WAYS: Mapping[str, Callable[[pathlib.Path], int]] = {
    BASELINE: read_bare,
    "product": functools.partial(read, unique_ids=False),
    "product, unique ids": functools.partial(read, unique_ids=True),
}


def microseconds(way: str, file: pathlib.Path, references: int) -> float:
    """Microseconds of CPU a reference, threads included."""
    start = time.process_time()
    found = WAYS[way](file)
    if found != references:
        raise RuntimeError(f"{way}: {found} of {references} references")
    return (time.process_time() - start) / references * 1e6


def main() -> None:
    """Reads in interleaved rounds and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--references", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "references.parquet"
        write_references(file, options.references)
        costs: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(options.rounds):
            for way, taken in costs.items():
                taken.append(microseconds(way, file, options.references))
                line = f"round {number + 1}/{options.rounds}: {way}: {taken[-1]:.2f} us a reference"
                print(line, file=sys.stderr)
    table = Table("way", "us CPU a reference", f"ratio to {BASELINE}")
    table.title = f"Reading {options.references:,} references"
    base = statistics.median(costs[BASELINE])
    for way, taken in costs.items():
        cost = statistics.median(taken)
        table.add_row(way, f"{cost:.2f}", f"{cost / base:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
