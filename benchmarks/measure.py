"""Runs configurations in fresh processes, in interleaved rounds, and prints ratios of medians.

A configuration is a name and a command. The command's last line of standard output is a JSON object
with `images` and `seconds`: what it did and how long that took without the interpreter's start.
"""

import json
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
            runs[name].append(run(command))
            rate = runs[name][-1].images_per_s
            print(f"round {number + 1}/{count}: {name}: {rate:.1f} images/s", file=sys.stderr)
    return runs


def ratio(runs: Mapping[str, Sequence[Run]], name: str, baseline: str) -> float:
    """The median of the ratios of images a second, each within one round."""
    pairs = zip(runs[name], runs[baseline], strict=True)
    return statistics.median(ours.images_per_s / base.images_per_s for ours, base in pairs)


def report(runs: Mapping[str, Sequence[Run]], baseline: str, title: str) -> None:
    """Prints a table: medians, the spread of images a second, and the ratio to the baseline."""
    table = Table(title=title)
    table.add_column("configuration")
    columns = (f"ratio to {baseline}", "images/s", "min-max", "CPU-ms/image", "peak PSS MB")
    for column in columns:
        table.add_column(column, justify="right")
    for name, results in runs.items():
        rates = [result.images_per_s for result in results]
        table.add_row(
            name,
            f"{ratio(runs, name, baseline):.2f}",
            f"{statistics.median(rates):.1f}",
            f"{min(rates):.1f}-{max(rates):.1f}",
            f"{statistics.median(result.cpu_ms_per_image for result in results):.2f}",
            f"{statistics.median(result.peak_mb for result in results):.0f}",
        )
    Console(width=120).print(table)
