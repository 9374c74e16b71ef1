"""What the command line shows of a running job and of a finished one.

Progress is read from the tables themselves, so it is the same whatever runner does the work.
"""

import threading
import time

from rich.console import Console
from rich.table import Column, Table

from beam_moderation import metrics, records, tables

_PERIOD_S = 1.0
_PLAIN_PERIOD_S = 10.0


class Progress:
    """A live line on a terminal, a plain line every ten seconds elsewhere.

    Args:
      run_id: of this job; what other runs committed does not count.
      total: the references of this job.
    """

    def __init__(self, console: Console, written: tables.Tables, run_id: str, total: int) -> None:
        self._console, self._tables, self._total = console, written, total
        self._run_id = run_id
        self._seen: set[str] = set()
        self._done = self._dead = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._seen = self._tables.batch_ids()
        self._resumes, self._started = bool(self._seen), time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        live = self._console.is_terminal
        with self._console.status("starting") as status:
            while not self._stopped.wait(_PERIOD_S if live else _PLAIN_PERIOD_S):
                self._look()
                if live:
                    status.update(self._line())
                else:
                    self._console.print(self._line(), highlight=False)

    def _look(self) -> None:
        """Takes account of the batches that were committed since the last look."""
        for batch_id in self._tables.batch_ids() - self._seen:
            self._seen.add(batch_id)
            commit = self._tables.commit(batch_id)
            if commit and commit.run_id == self._run_id:
                self._done += commit.references
                self._dead += commit.dead_letters

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        rate = self._done / elapsed if elapsed else 0
        known = rate and not self._resumes
        left = f" · {_clock((self._total - self._done) / rate)} left" if known else ""
        return (
            f"{self._done:,} / {self._total:,} references · {rate:.1f} images/s · "
            f"{self._dead:,} dead letters{left}"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_summary(console: Console, summary: metrics.Summary, elapsed_s: float, where: str) -> None:
    """Prints scenes by suggestion, dead letters by code, and the rate."""
    _print_scenes(console, summary)
    _print_dead_letters(console, summary)
    fresh = summary.references - summary.resumed
    rate = f" · {fresh / elapsed_s:.1f} images/s" if fresh else ""
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
