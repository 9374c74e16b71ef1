"""Peak memory of the command, and what more references or a decompression bomb add to it.

`python benchmarks/memory.py [--folder F] [--images 2000] [--times 10] [--rounds 3]` moderates the
images once, `--times` as many references to the same images, and the images with a bomb among them.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import poison
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table


def write_references(folder: pathlib.Path, images: int, times: int) -> dict[str, int]:
    """Writes the references of each configuration; returns their names and how many they are."""
    import sample

    sample.make(folder, images)
    paths = sample.write_images(folder / "images", images)
    sample.write_references(folder / "once.parquet", paths, images)
    sample.write_references(folder / "many.parquet", paths, images * times)
    bomb = folder / "bomb.png"
    bomb.write_bytes(poison.bomb())
    references = pq.read_table(folder / "once.parquet")
    row = pa.table({"data_id": ["bomb"], "uri": [bomb.resolve().as_uri()]})
    middle = images // 2
    parts = [references.slice(0, middle), row, references.slice(middle)]
    pq.write_table(pa.concat_tables(parts), folder / "bomb.parquet")
    return {"once": images, "many": images * times, "bomb": images + 1}


def run(name: str, folder: pathlib.Path, references: int) -> None:
    """Moderates in this process and prints what `measure` reads."""
    import backfill

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        backfill.command(folder, pathlib.Path(output), references=f"{name}.parquet")
    print(json.dumps({"images": references, "seconds": time.perf_counter() - start}))


def main() -> None:
    """Runs every configuration and prints the differences."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/benchmark"))
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, references = options.run
        run(name, options.folder, int(references))
        return
    import measure

    sizes = write_references(options.folder, options.images, options.times)
    own = [sys.executable, __file__, "--folder", str(options.folder), "--run"]
    commands = {name: [*own, name, str(size)] for name, size in sizes.items()}
    report(measure.rounds(commands, options.rounds), sizes)


def report(runs: dict[str, list], sizes: dict[str, int]) -> None:
    """Prints the median peaks and their differences to the first configuration."""
    table = Table("configuration", title="Peak memory of the command")
    for column in ("references", "peak PSS MB", "to once", "MB more than once"):
        table.add_column(column, justify="right")
    peaks = {name: statistics.median(run.peak_mb for run in runs[name]) for name in sizes}
    for name, size in sizes.items():
        ratio, more = peaks[name] / peaks["once"], peaks[name] - peaks["once"]
        table.add_row(name, str(size), f"{peaks[name]:.0f}", f"{ratio:.2f}", f"{more:+.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
