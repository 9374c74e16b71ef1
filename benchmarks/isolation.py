"""What decoding in processes of its own costs: `--isolate` against decoding in the worker.

`python benchmarks/isolation.py [--folder F] [--images 400] [--rounds 3] [--slices 50]`

- Speed: a thread a core decodes and judges slices of twenty images, here and in isolation by turns,
  so that a machine with neighbours slows both; the ratio is the median over pairs of slices.
- Memory: the peak of the command with and without `--isolate`, in interleaved rounds.

For a model of MobileNetV2's size and for its quantised version, which leaves decoding the larger
share.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.table import Table

MODELS = ("fp32", "int8")
REFERENCES = "isolation.parquet"
SLICE = 20


def seconds_of_slices(
    decoders: Mapping[str, Any], judge: Callable[[Any], Any], contents: Sequence[bytes], count: int
) -> dict[str, list[float]]:
    """The seconds of each slice, by decoder; which one is first changes from slice to slice."""
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number in range(-1, count):
            start = number * SLICE % max(1, len(contents) - SLICE)
            cut = contents[start : start + SLICE]
            for name in sorted(decoders, reverse=bool(number % 2)):
                work = functools.partial(examine, decoders[name], judge)
                started = time.perf_counter()
                list(pool.map(work, cut))
                seconds[name].append(time.perf_counter() - started)
    return {name: taken[1:] for name, taken in seconds.items()}  # the first one warms up


def examine(decoder: Any, judge: Callable[[Any], Any], data: bytes) -> None:
    _, frames = decoder(data)
    for frame in frames:
        judge(frame.prepared)


def measure_speed(folder: pathlib.Path, paths: Sequence[pathlib.Path], slices: int) -> Table:
    """Images a second with each model, and how isolation compares."""
    from beam_moderation import decoding, images, isolation, judging, models

    table = Table("model", title="Decoding here and in isolation")
    for column in ("here, images/s", "isolated, images/s", "ratio", "quartiles of the ratio"):
        table.add_column(column, justify="right")
    contents = [path.read_bytes() for path in paths]
    for name in MODELS:
        model = models.OnnxModel.from_manifest(str(folder / f"{name}.yaml"))
        how = decoding.Decoding.for_judges([model], images.ImageLimits(), images.Sampling())
        isolated = isolation.IsolatedDecoder(how)
        here = functools.partial(decoding.decode, decoding=how)
        decoders = {"here": here, "isolated": isolated}
        seconds = seconds_of_slices(decoders, judging.Panel([model]).judge, contents, slices)
        isolated.close()
        rates = [f"{SLICE / statistics.median(seconds[way]):.1f}" for way in decoders]
        ratios = [a / b for a, b in zip(seconds["here"], seconds["isolated"], strict=True)]
        low, middle, high = statistics.quantiles(ratios)
        table.add_row(name, *rates, f"{middle:.2f}", f"{low:.2f}-{high:.2f}")
    return table


def run(model: str, flags: Sequence[str], folder: pathlib.Path, references: int) -> None:
    """Runs the command in this process and prints what `measure` reads."""
    from beam_moderation import cli

    with tempfile.TemporaryDirectory() as output:
        sys.argv = ["beam-moderation", "backfill", str(folder / REFERENCES), "--out", output]
        sys.argv += ["--model", str(folder / f"{model}.yaml"), "--local-root", str(folder), *flags]
        start = time.perf_counter()
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                raise
        seconds = time.perf_counter() - start
    print(json.dumps({"images": references, "seconds": seconds}))


def main() -> None:
    """Measures both, with each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/benchmark"))
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=50)
    parser.add_argument("--run", choices=MODELS, help=argparse.SUPPRESS)
    options, flags = parser.parse_known_args()
    if options.run:
        run(options.run, flags, options.folder, options.images)
        return
    import measure
    import sample

    sample.make(options.folder, options.images)
    paths = sample.write_images(options.folder / "images", options.images)
    sample.write_references(options.folder / REFERENCES, paths, options.images)
    Console(width=120).print(measure_speed(options.folder, paths, options.slices))
    own = [sys.executable, __file__, "--folder", str(options.folder), "--images"]
    for model in MODELS:
        command = [*own, str(options.images), "--run", model]
        commands = {"here": command, "isolated": [*command, "--isolate"]}
        runs = measure.against("here", commands, options.rounds)
        measure.report(runs, "here", f"The command without and with --isolate, {model}")


if __name__ == "__main__":
    main()
