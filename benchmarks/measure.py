"""Runs configurations in fresh processes, in interleaved rounds, and prints ratios of medians.

A configuration is a name and a command. The command's last line of standard output is a JSON object
with `images` and `seconds`: what it did and how long that took without the interpreter's start.
"""

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

SAMPLING_S = 0.2


class Run(NamedTuple):
    """What one process did; memory is the largest sum of PSS over it and its descendants."""

    images: int
    seconds: float
    cpu_s: float
    peak_mb: float

    @property
    def images_per_s(self) -> float:
        """Images a second, without the interpreter's start."""
        return self.images / self.seconds

    @property
    def cpu_ms_per_image(self) -> float:
        """CPU of all its processes, start included, for each image."""
        return 1000 * self.cpu_s / self.images


def _pss_mb(process: psutil.Process) -> float:
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_full_info().pss
    except psutil.Error:
        pass
    return total / 1e6


def run(command: Sequence[str]) -> Run:
    """Runs one command to its end.

    Raises:
      RuntimeError: it failed; the message holds the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=output, stderr=errors, text=True)
        peak_mb = [0.0]
        ended = threading.Event()

        def watch() -> None:
            process = psutil.Process(child.pid)
            while not ended.wait(SAMPLING_S):
                peak_mb[0] = max(peak_mb[0], _pss_mb(process))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        watcher.join()
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            raise RuntimeError(f"{command}: exit {child.returncode}\n{errors.read()[-3000:]}")
        result = json.loads(output.read().splitlines()[-1])
    cpu_s = usage.ru_utime + usage.ru_stime
    return Run(result["images"], result["seconds"], cpu_s, peak_mb[0])


def rounds(commands: Mapping[str, Sequence[str]], count: int) -> dict[str, list[Run]]:
    """Runs every command `count` times, one after the other in each round."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(count):
        for name, command in commands.items():
            runs[name].append(_run_in_round(number, name, command))
    return runs


def against(
    baseline: str, commands: Mapping[str, Sequence[str]], count: int
) -> dict[str, list[Run]]:
    """As `rounds`, with each of the others between two runs of the baseline.

    Its run number `n` stands before all other runs of that number, counted over all rounds.
    """
    others = {name: command for name, command in commands.items() if name != baseline}
    runs: dict[str, list[Run]] = {name: [] for name in [baseline, *others]}
    for number in range(count):
        for name, command in others.items():
            runs[baseline].append(_run_in_round(number, baseline, commands[baseline]))
            runs[name].append(_run_in_round(number, name, command))
    runs[baseline].append(_run_in_round(count - 1, baseline, commands[baseline]))
    return runs


def _run_in_round(number: int, name: str, command: Sequence[str]) -> Run:
    done = run(command)
    print(f"round {number + 1}: {name}: {done.images_per_s:.1f} images/s", file=sys.stderr)
    return done


def ratios(runs: Mapping[str, Sequence[Run]], baseline: str) -> dict[str, list[float]]:
    """The ratios of images a second of `against`, to the mean of the baseline's on both sides.

    A machine that others use is faster in one minute than in the next; what it was before and
    after a run is the nearest there is to what it was meanwhile.
    """
    beside = [run.images_per_s for run in runs[baseline]]
    means = [math.sqrt(before * after) for before, after in itertools.pairwise(beside)]
    others = [name for name in runs if name != baseline]
    return {
        name: [
            run.images_per_s / mean
            for run, mean in zip(runs[name], means[place :: len(others)], strict=True)
        ]
        for place, name in enumerate(others)
    }


def report(runs: Mapping[str, Sequence[Run]], baseline: str, title: str) -> None:
    """Prints a table of what `against` measured: medians, and what lies around them."""
    table = Table(title=title)
    table.add_column("configuration")
    columns = (f"ratio to {baseline}", "min-max", "images/s", "CPU-ms/image", "peak PSS MB")
    for column in columns:
        table.add_column(column, justify="right")
    to_baseline = ratios(runs, baseline)
    for name, results in runs.items():
        ratio = to_baseline.get(name, [1.0])
        table.add_row(
            name,
            f"{statistics.median(ratio):.3f}",
            f"{min(ratio):.2f}-{max(ratio):.2f}",
            f"{statistics.median(result.images_per_s for result in results):.1f}",
            f"{statistics.median(result.cpu_ms_per_image for result in results):.2f}",
            f"{statistics.median(result.peak_mb for result in results):.0f}",
        )
    Console(width=120).print(table)
