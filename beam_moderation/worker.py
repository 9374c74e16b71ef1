"""`Worker`: turns reference batches into outcomes with all the cores of a process, without Beam.

Fetching runs ahead; each of `threads` threads takes the next image that has arrived, decodes and
judges it. Several batches may be open at once: the threads go on to the next one as soon as the
last image of one is taken, so that no core waits at a batch's end.
"""

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from beam_moderation import dead_letters, errors, examination, fetch, judges, records

Result: TypeAlias = examination.Examined | records.DeadLetter
Examine: TypeAlias = Callable[[records.ImageReference, bytes], examination.Examined]


def default_threads(members: Sequence[judges.Judge]) -> int:
    """A thread a core; where judges want batches, enough more to fill two of the largest."""
    largest = max(member.max_batch for member in members)
    return cores() + (2 * largest if largest > 1 else 0)


def cores() -> int:
    """How many threads can work at once."""
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Done:
    """A batch's outcome, and the milliseconds that each image that got so far took.

    `resumed` says that it was there already.
    """

    outcome: records.OutcomeBatch
    resumed: bool = False
    fetch_ms: Sequence[float] = ()
    decode_ms: Sequence[float] = ()
    judge_ms: Sequence[float] = ()


class Worker:
    """Examines batches on a pool of threads. Made once a process."""

    batches_ahead = 1
    """Enough that no thread runs dry at a batch's end."""

    def __init__(self, examine: Examine, fetcher: fetch.Fetcher, threads: int, run_id: str) -> None:
        self._examine, self._fetcher, self._run_id = examine, fetcher, run_id
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="examine")

    def begin(self, batch: records.ReferenceBatch, outcome_id: str) -> "Future[Done]":
        """Starts on a batch.

        The future raises what is no fault of an image: a `ConfigurationError`.
        """
        work = _Work(batch, outcome_id, self._threads, self._fetcher, self._judge, self._run_id)
        for _ in range(self._threads):
            self._pool.submit(work.share)
        return work.done

    def take_counts(self) -> Mapping[str, int]:
        """Nothing beside what the outcomes tell."""
        return {}

    def _judge(
        self, reference: records.ImageReference, data: bytes | errors.ModerationError
    ) -> Result:
        """The rows or the dead letter of one image: every error of an image ends here."""
        try:
            if isinstance(data, errors.ModerationError):
                raise data
            return self._examine(reference, data)
        except errors.ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001
            return dead_letters.of(reference, error, self._run_id)


class _Work:
    """One batch in work: threads share its images; the last one to find none gathers the rows."""

    def __init__(
        self,
        batch: records.ReferenceBatch,
        outcome_id: str,
        threads: int,
        fetcher: fetch.Fetcher,
        judge: Callable[[records.ImageReference, bytes | errors.ModerationError], Result],
        run_id: str,
    ) -> None:
        self._batch, self._outcome_id, self._judge = batch, outcome_id, judge
        self._run_id = run_id
        self._references = list(batch)
        self._arrivals = fetcher.ahead(enumerate(self._references))
        self._results: dict[int, Result] = {}
        self._sharing, self._lock = threads, threading.Lock()
        self.done: Future[Done] = Future()

    def share(self) -> None:
        """Judges images until there are no more, in one of several threads."""
        try:
            for index, data in self._arrivals:
                self._results[index] = self._judge(self._references[index], data)
            if self._is_last():
                done = gather(self._batch, self._outcome_id, self._results, self._run_id)
                fetch_ms = self._arrivals.fetch_ms
                self.done.set_result(dataclasses.replace(done, fetch_ms=fetch_ms))
        except BaseException as error:  # noqa: BLE001
            self._arrivals.close()
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if not self.done.done():
                self.done.set_exception(error)

    def _is_last(self) -> bool:
        with self._lock:
            self._sharing -= 1
            return self._sharing == 0


def gather(
    batch: records.ReferenceBatch, outcome_id: str, results: Mapping[int, Result], run_id: str
) -> Done:
    """The rows of a batch in the order of its references, all of one run."""
    in_order = [results[index] for index in range(batch.references.num_rows)]
    examined = [result for result in in_order if isinstance(result, examination.Examined)]
    failed = [result for result in in_order if isinstance(result, records.DeadLetter)]
    unread = records.from_arrow(batch.dead_letters, records.DeadLetter)
    outcome = records.OutcomeBatch.of(
        outcome_id,
        [row for result in examined for row in result.scenes],
        [result.image for result in examined],
        [*(letter._replace(run_id=run_id) for letter in unread), *failed],
    )
    return Done(
        outcome,
        decode_ms=[result.decode_ms for result in examined if result.decode_ms is not None],
        judge_ms=[result.judge_ms for result in examined if result.judge_ms is not None],
    )
