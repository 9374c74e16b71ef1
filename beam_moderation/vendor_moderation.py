"""`ModerateWithVendor`: from reference batches to outcomes, by a vendor's API and within its quota.

Batches are spread over lanes, and one lane's batches are judged by one worker at a time: the
runner sees to that because they are keyed. So the job as a whole keeps to the quota, with no
service beside it.
"""

import dataclasses
import functools
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BooleanCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_moderation import (
    fetch,
    open_batches,
    records,
    resumption,
    runs,
    tables,
    vendor_worker,
)
from beam_moderation.policy import Policy
from beam_moderation.quota import Quota
from beam_moderation.vendors import kept, lane, protocol, running, standing
from beam_moderation.vendors.credentials import CredentialsSource
from beam_moderation.vendors.retries import Retries


@dataclasses.dataclass(frozen=True)
class _VendorJob:
    """What the worker of a lane needs to know; travels pickled, and holds no credentials."""

    vendor: protocol.Vendor
    credentials: Callable[[], protocol.Credentials]
    quota: Quota
    answers: str | None
    policy: Policy
    fetcher: fetch.Fetcher
    fit: bool
    send_bytes: bool
    retries: Retries
    deadline_s: float
    inbox: lane.Inbox | None
    run_id: str

    def make_worker(self, number: int) -> vendor_worker.VendorWorker:
        paced = lane.Lane(
            self.vendor,
            self.credentials,
            self.quota.share(number),
            kept.KeptAnswers(self.answers, self.vendor) if self.answers else kept.RecentAnswers(),
            retries=self.retries,
            deadline_s=self.deadline_s,
            inbox=self.inbox,
            lanes=self.quota.lanes,
        )
        return vendor_worker.VendorWorker(
            self.vendor,
            running.RunningLane(paced).start(),
            self.fetcher,
            self.policy,
            self.run_id,
            self.fit,
            self.send_bytes,
        )

    def outcome_id(self, batch_id: str) -> str:
        """The name of what becomes of a batch: other options or another policy, another name."""
        options = kept.options_key(self.vendor)
        return records.stable_id(
            batch_id, self.vendor.provider, options, self.policy.version, str(self.fit)
        )


class _LaneFn(beam.DoFn):
    """Judges the batches of its lanes, which stand from bundle to bundle."""

    _LANE = ReadModifyWriteStateSpec("lane", BooleanCoder())
    """Never written: that there is a state has the runner process a lane in one place at a time."""

    def __init__(self, job: _VendorJob, earlier: resumption.Resumption) -> None:
        self._job, self._earlier = job, earlier
        self._name = uuid.uuid4().hex

    def start_bundle(self) -> None:
        self._batches = open_batches.OpenBatches(self._earlier)
        for work in standing.workers(self._name):
            work.renew()

    def process(
        self,
        batch_of_lane: tuple[int, records.ReferenceBatch],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        _: Any = beam.DoFn.StateParam(_LANE),
    ) -> Iterator[Any]:
        number, batch = batch_of_lane
        make = functools.partial(self._job.make_worker, number)
        work = standing.acquire(self._name, number, self, make)
        outcome_id = self._job.outcome_id(batch.id)
        yield from self._batches.begin(work, batch, outcome_id, timestamp, window)

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._batches.end()


class ModerateWithVendor(beam.PTransform):
    """Has images judged by a vendor's API, each paid for once.

    Every reference ends in the outcome of its batch exactly once: as one row of `images` with a row
    of `scenes` for every scene, or as one dead letter.

    What the vendor answers is kept below `answers` before it is passed on. A bundle that is retried
    or a job that is started again pays only for what was not answered; delete the folder when its
    answers are not wanted any more. With neither `answers` nor `resume_from` a worker remembers no
    more than its latest batches: a job that is started again pays for everything again, and submits
    anew the tasks that it had under way. That is for trying things out.

    A carried column `client_info`, by the vendor's names as `userId`, and the event time go to the
    vendor with their image, where it takes such.

    Args:
      vendor: of `beam_moderation.vendors`, with its options.
      quota: of the whole job.
      credentials: looked up on the worker; the vendor's usual environment variables where none is
        given.
      answers: an fsspec URL that every worker can write to; `_answers` in the tables of
        `resume_from` where none is given.
      policy: its version names the rows, and its thresholds replace the vendor's suggestions where
        it says so, but for what the vendor holds against the image as a whole.
      fetcher: for images that the vendor cannot reach by their URL.
      fit: makes an image that is over the vendor's limits fit, with a note in `detail`, where it
        would be refused.
      send_bytes: fetches every image here and sends its bytes, also where the vendor could reach
        it by its URL. URLs that are not public, or whose host or network the fetcher was told to
        allow, are never given to the vendor.
      retries: when a call is made again.
      deadline_s: how long after its submission an asynchronous task is given up.
      inbox: what callbacks delivered; the vendor is then asked only for what did not come.
      resume_from: tables whose committed batches are read back instead of being judged again.
      retry_dead_letters: codes of dead letters in those tables, or `retryable` for all that are,
        whose references are judged again, and paid for where the vendor is asked.
      run_id: what rows carry.

    Returns:
      A PCollection of `OutcomeBatch`.

    Raises:
      ConfigurationError: results of tasks could not come, or would be lost by the deadline; or
        there is no such code of dead letters.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        quota: Quota,
        *,
        credentials: Callable[[], protocol.Credentials] | None = None,
        answers: str | None = None,
        policy: Policy | None = None,
        fetcher: fetch.Fetcher | None = None,
        fit: bool = False,
        send_bytes: bool = False,
        retries: Retries | None = None,
        deadline_s: float = 600.0,
        inbox: lane.Inbox | None = None,
        resume_from: tables.Tables | None = None,
        retry_dead_letters: Collection[str] = (),
        run_id: str | None = None,
    ) -> None:
        super().__init__()
        lane.check_waiting(vendor, deadline_s, inbox)
        if answers is None and resume_from is not None:
            answers = f"{resume_from.url.rstrip('/')}/_answers"
        run_id = run_id or runs.new_run_id()
        self._job = _VendorJob(
            vendor,
            credentials or CredentialsSource(vendor.name),
            quota,
            answers,
            policy or Policy.default(),
            fetcher or fetch.Fetcher(),
            fit,
            send_bytes,
            retries or Retries(),
            deadline_s,
            inbox,
            run_id,
        )
        self._earlier = resumption.Resumption(resume_from, retry_dead_letters, run_id)

    def expand(self, batches: Any) -> Any:
        """Keys batches by lane: references cross the shuffle, images that are fetched do not."""
        lanes = self._job.quota.lanes
        return (
            batches
            | "KeyByLane"
            >> beam.Map(lambda batch: (lane_of(batch.id, lanes), batch)).with_output_types(
                tuple[int, records.ReferenceBatch]
            )
            | "Moderate"
            >> beam.ParDo(_LaneFn(self._job, self._earlier)).with_output_types(records.OutcomeBatch)
        )


def lane_of(batch_id: str, lanes: int) -> int:
    """The lane of a batch, the same in every run."""
    return zlib.crc32(batch_id.encode()) % lanes
