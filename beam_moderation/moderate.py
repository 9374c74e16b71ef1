"""`ModerateWithModel`: from reference batches to outcomes, and what outcomes expand to."""

import dataclasses
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from beam_moderation import (
    decoding,
    errors,
    examination,
    fetch,
    images,
    isolation,
    judges,
    judging,
    open_batches,
    policy,
    records,
    resumption,
    runs,
    tables,
    worker,
)

_SCENE = re.compile(r"[A-Za-z0-9_-]+")


@dataclasses.dataclass(frozen=True)
class _ModelJob:
    """What a worker needs to know; travels pickled."""

    judges: Sequence[judges.Judge]
    policy: policy.Policy
    fetcher: fetch.Fetcher
    limits: images.ImageLimits
    sampling: images.Sampling
    threads: int | None
    isolate: bool
    isolation_deadline_s: float
    run_id: str

    def make_decoder(self) -> decoding.Decoder:
        how = decoding.Decoding.for_judges(self.judges, self.limits, self.sampling)
        decoder: decoding.Decoder = functools.partial(decoding.decode, decoding=how)
        if self.isolate:
            decoder = isolation.IsolatedDecoder(
                how,
                deadline_s=self.isolation_deadline_s,
                max_bytes=self.fetcher.limits.max_bytes,
            )
        batched = any(judge.max_batch > 1 for judge in self.judges)
        return decoding.InTurns(decoder, worker.cores()) if batched else decoder

    def make_worker(self) -> worker.Worker:
        examiner = examination.Examiner(
            self.make_decoder(),
            judging.Panel(self.judges),
            self.policy,
            self.run_id,
        )
        threads = self.threads or worker.default_threads(self.judges)
        return worker.Worker(examiner.examine, self.fetcher, threads, self.run_id)

    def outcome_id(self, batch_id: str) -> str:
        """The name of what becomes of a batch: another judge or policy gives another name."""
        providers = sorted(judge.provider for judge in self.judges)
        return records.stable_id(
            batch_id, *providers, self.policy.version, repr(self.limits), repr(self.sampling)
        )


class _ModelFn(beam.DoFn):
    """Fetches, decodes and judges with all cores of the process."""

    def __init__(self, job: _ModelJob, earlier: resumption.Resumption) -> None:
        self._job, self._earlier = job, earlier
        self._shared = Shared()

    def setup(self) -> None:
        self._worker = self._shared.acquire(self._job.make_worker)

    def start_bundle(self) -> None:
        self._batches = open_batches.OpenBatches(self._earlier)

    def process(
        self,
        batch: records.ReferenceBatch,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        outcome_id = self._job.outcome_id(batch.id)
        yield from self._batches.begin(self._worker, batch, outcome_id, timestamp, window)

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._batches.end()


class ModerateWithModel(beam.PTransform):
    """Judges images with local models and scanners.

    Every reference ends in the outcome of its batch exactly once: as one row of `images` with a row
    of `scenes` for every scene of every judge, or as one dead letter.

    Args:
      judges: models and scanners; an image is fetched and decoded once for all of them.
      policy: from findings to suggestions; the package's own where none is given.
      fetcher: the filesystems that references may point to, and their limits.
      limits: of decoding.
      sampling: which frames of animations and which tiles of long images are judged.
      threads: that decode and judge, in each process; a thread a core where none is given.
      isolate: whether images are decoded in processes of their own, so that one that crashes its
        decoder, or never ends, costs one dead letter; see `isolation.IsolatedDecoder`.
      isolation_deadline_s: how long the header or a frame may take there.
      resume_from: tables whose committed batches are read back instead of being judged again.
      retry_dead_letters: codes of dead letters in those tables, or `retryable` for all that are,
        whose references are judged again. What comes of them stands beside what was there; a
        success supersedes a dead letter.
      run_id: what rows carry.

    Returns:
      A PCollection of `OutcomeBatch`.

    Raises:
      ConfigurationError: there is no judge, two are the same, or one has a scene whose name is not
        made of letters, digits, `_` and `-`; or there is no such code.
    """

    def __init__(
        self,
        judges: Sequence[judges.Judge],
        *,
        policy: policy.Policy | None = None,
        fetcher: fetch.Fetcher | None = None,
        limits: images.ImageLimits | None = None,
        sampling: images.Sampling | None = None,
        threads: int | None = None,
        isolate: bool = False,
        isolation_deadline_s: float = isolation.DEADLINE_S,
        resume_from: tables.Tables | None = None,
        retry_dead_letters: Collection[str] = (),
        run_id: str | None = None,
    ) -> None:
        super().__init__()
        if not judges:
            raise errors.ConfigurationError("name at least one model or scanner")
        if len({judge.provider for judge in judges}) < len(judges):
            raise errors.ConfigurationError("the same model or scanner is named twice")
        _check_scenes(judges)
        run_id = run_id or runs.new_run_id()
        self._job = _ModelJob(
            tuple(judges),
            policy or _default_policy(),
            fetcher or fetch.Fetcher(),
            limits or images.ImageLimits(),
            sampling or images.Sampling(),
            threads,
            isolate,
            isolation_deadline_s,
            run_id,
        )
        self._earlier = resumption.Resumption(resume_from, retry_dead_letters, run_id)

    def expand(self, batches: Any) -> Any:
        """One fused DoFn: bytes never leave the worker."""
        return batches | "Moderate" >> beam.ParDo(
            _ModelFn(self._job, self._earlier)
        ).with_output_types(records.OutcomeBatch)


def _check_scenes(judges: Sequence[judges.Judge]) -> None:
    """Scenes are parts of counters' names, and of files'."""
    for judge in judges:
        for scene in judge.labels:
            if not _SCENE.fullmatch(scene):
                raise errors.ConfigurationError(
                    f"a scene is letters, digits, _ and -: {scene!r} of {judge.provider}"
                )


def _default_policy() -> policy.Policy:
    return policy.Policy.default()


class Rows(beam.PTransform):
    """Expands outcomes into the rows of one table, for any sink.

    Args:
      table: `scenes`, `images` or `dead_letters`.

    Returns:
      A PCollection of `SceneResult`, `ImageResult` or `DeadLetter`.
    """

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self._table, self._record = table, records.TABLES[table]

    def expand(self, outcomes: Any) -> Any:
        """Reads the table out of each outcome."""
        return outcomes | "Expand" >> beam.FlatMap(_rows, self._table).with_output_types(
            self._record
        )


def _rows(outcome: records.OutcomeBatch, table: str) -> Iterator[Any]:
    return records.from_arrow(getattr(outcome, table), records.TABLES[table])
