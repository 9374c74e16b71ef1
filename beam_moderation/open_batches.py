"""The batches of a bundle that are in work: begun early, handed on in order, read back if done."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from apache_beam.transforms.window import WindowedValue

from beam_moderation import metrics, records, tables, worker


class Work(Protocol):
    """What judges batches, in the background."""

    @property
    def batches_ahead(self) -> int:
        """How many batches may be in work behind the one that is waited for."""

    def begin(self, batch: records.ReferenceBatch, outcome_id: str) -> "Future[worker.Done]":
        """Starts on a batch."""

    def take_counts(self) -> Mapping[str, int]:
        """What is to be added to the job's counters since the last call."""


class OpenBatches:
    """Begins batches and ends them in their order, each with its own timestamp and window.

    Args:
      resume_from: tables whose committed batches are read back instead of being judged again.
    """

    def __init__(self, resume_from: tables.Tables | None) -> None:
        self._resume_from = resume_from
        self._open: deque[tuple[Work, Future[worker.Done], Any, Any]] = deque()

    def begin(
        self,
        work: Work,
        batch: records.ReferenceBatch,
        outcome_id: str,
        timestamp: Any,
        window: Any,
    ) -> Iterator[WindowedValue]:
        """Begins a batch, and ends what is more than the work wants to have ahead."""
        done = self._resumed(outcome_id) or work.begin(batch, outcome_id)
        self._open.append((work, done, timestamp, window))
        while len(self._open) > work.batches_ahead:
            yield self._end()

    def end(self) -> Iterator[WindowedValue]:
        """Ends every open batch."""
        while self._open:
            yield self._end()

    def _resumed(self, outcome_id: str) -> "Future[worker.Done] | None":
        commit = self._resume_from.commit(outcome_id) if self._resume_from else None
        if commit is None or self._resume_from is None:
            return None
        done: Future[worker.Done] = Future()
        done.set_result(worker.Done(self._resume_from.read(commit), resumed=True))
        return done

    def _end(self) -> WindowedValue:
        work, future, timestamp, window = self._open.popleft()
        done = future.result()
        metrics.add(metrics.counts(done.outcome, done.resumed))
        metrics.add(work.take_counts())
        metrics.observe("fetch_ms", done.fetch_ms)
        metrics.observe("decode_ms", done.decode_ms)
        metrics.observe("judge_ms", done.judge_ms)
        return WindowedValue(done.outcome, timestamp, (window,))
