"""What the command line shows of a running job and of a finished one.

Progress is read from the tables themselves, so it is the same whatever runner does the work.
"""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.table import Column, Table

from beam_moderation import metrics, parquet_files, records, resumption, tables

_PERIOD_S = 1.0
_PLAIN_PERIOD_S = 10.0

_SHARE_OF_LOOKING = 10
"""One second in so many is spent on looking: listing many files of an object store takes long."""


class Progress:
    """A live line on a terminal, a plain line every ten seconds elsewhere.

    What earlier runs did of the same files counts as done, until this run does some of it again:
    then those runs had other judges.

    Args:
      run_id: of this job.
      total: the references of this job.
      files: the URLs that they are read from.
    """

    def __init__(
        self,
        console: Console,
        written: tables.Tables,
        run_id: str,
        total: int,
        files: Iterable[str] = (),
    ) -> None:
        self._console, self._tables, self._total = console, written, total
        self._run_id, self._files = run_id, {parquet_files.shown(file) for file in files}
        self._seen: set[str] = set()
        self._runs: dict[str, dict[str, tables.Commit]] = defaultdict(dict)
        self._started = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        live = self._console.is_terminal
        wait_s = period_s = _PERIOD_S if live else _PLAIN_PERIOD_S
        with self._console.status("starting") as status:
            while not self._stopped.wait(wait_s):
                wait_s = max(period_s, _SHARE_OF_LOOKING * self._look())
                if live:
                    status.update(self._line())
                else:
                    self._console.print(self._line(), highlight=False)

    def _look(self) -> float:
        """Takes account of what was committed since the last look; returns the seconds it took."""
        began = time.monotonic()
        with contextlib.suppress(Exception):  # the job goes on, and so does the next look
            for commit in self._tables.commits(self._tables.batch_ids() - self._seen):
                self._seen.add(commit.batch_id)
                if self._is_of_this_job(commit):
                    self._runs[commit.run_id][_place(commit)] = commit
        return time.monotonic() - began

    def _is_of_this_job(self, commit: tables.Commit) -> bool:
        return commit.run_id == self._run_id or commit.source.rpartition("#")[0] in self._files

    def _line(self) -> str:
        ours = self._runs[self._run_id]
        earlier = [run for run in self._runs.values() if run.keys().isdisjoint(ours)]
        commits = {source: commit for run in [*earlier, ours] for source, commit in run.items()}
        again = sum(c.references for c in commits.values() if resumption.is_repetition(c.batch_id))
        done = sum(commit.references for commit in commits.values()) - again
        dead = sum(commit.dead_letters for commit in commits.values()) - again
        fresh = sum(commit.references for commit in ours.values())
        rate = fresh / max(0.001, time.monotonic() - self._started)
        left = f" · {_clock(max(0, self._total - done) / rate)} left" if rate else ""
        return (
            f"{done:,} / {self._total:,} references · {rate:.1f} references/s · "
            f"{dead:,} dead letters{left}"
        )


def _place(commit: tables.Commit) -> str:
    """What two runs both have where they did the same: a repetition is of one run alone."""
    return commit.batch_id if resumption.is_repetition(commit.batch_id) else commit.source


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_summary(console: Console, summary: metrics.Summary, elapsed_s: float, where: str) -> None:
    """Prints scenes by suggestion, dead letters by code, and the rate."""
    _print_scenes(console, summary)
    _print_dead_letters(console, summary)
    fresh = summary.references - summary.resumed
    rate = f" · {fresh / elapsed_s:.1f} references/s" if fresh else ""
    resumed = f" · {summary.resumed:,} were there already" if summary.resumed else ""
    billed = f" · {summary.billed_units:,} billed units" if summary.billed_units else ""
    console.print(
        f"{summary.references:,} references: {summary.images:,} images judged, "
        f"{sum(summary.dead_letters.values()):,} dead letters{resumed}{billed} · "
        f"{elapsed_s:.1f} s{rate}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"tables: {where}", highlight=False, markup=False, soft_wrap=True)


def _print_scenes(console: Console, summary: metrics.Summary) -> None:
    scenes = sorted({scene for scene, _ in summary.suggestions})
    if not scenes:
        return
    table = Table("scene", *(Column(s, justify="right") for s in records.SUGGESTIONS))
    for scene in scenes:
        counts = [summary.suggestions.get((scene, s), 0) for s in records.SUGGESTIONS]
        table.add_row(scene, *(f"{count:,}" for count in counts))
    console.print(table)


def _print_dead_letters(console: Console, summary: metrics.Summary) -> None:
    if not summary.dead_letters:
        return
    table = Table("dead letters", Column("count", justify="right"))
    for code, count in sorted(summary.dead_letters.items(), key=lambda item: -item[1]):
        table.add_row(code, f"{count:,}")
    console.print(table)
