"""The batches of a bundle that are in work: begun early, handed on in order, read back if done."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from apache_beam.transforms.window import WindowedValue

from beam_moderation import metrics, records, resumption, worker


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
      earlier: what earlier runs did, which is read back instead of being judged again.
    """

    def __init__(self, earlier: resumption.Resumption) -> None:
        self._earlier = earlier
        self._open: deque[tuple[Work, Future[worker.Done], Any, Any]] = deque()

    def begin(
        self,
        work: Work,
        batch: records.ReferenceBatch,
        outcome_id: str,
        timestamp: Any,
        window: Any,
    ) -> Iterator[WindowedValue]:
        """Begins a batch, and ends those that are done, or more than the work wants ahead."""
        for done in self._parts(work, batch, outcome_id):
            self._open.append((work, done, timestamp, window))
        while self._open and (len(self._open) > work.batches_ahead or self._open[0][1].done()):
            yield self._end()

    def end(self) -> Iterator[WindowedValue]:
        """Ends every open batch."""
        while self._open:
            yield self._end()

    def _parts(
        self, work: Work, batch: records.ReferenceBatch, outcome_id: str
    ) -> Iterator["Future[worker.Done]"]:
        outcomes, rest = self._earlier.split(batch, outcome_id)
        for outcome in outcomes:
            done: Future[worker.Done] = Future()
            done.set_result(worker.Done(outcome, resumed=True))
            yield done
        if rest is not None:
            yield work.begin(rest.batch, rest.outcome_id)

    def _end(self) -> WindowedValue:
        work, future, timestamp, window = self._open.popleft()
        done = future.result()
        metrics.add(metrics.counts(done.outcome, done.resumed))
        metrics.add(work.take_counts())
        metrics.observe("fetch_ms", done.fetch_ms)
        metrics.observe("decode_ms", done.decode_ms)
        metrics.observe("judge_ms", done.judge_ms)
        return WindowedValue(done.outcome, timestamp, (window,))
