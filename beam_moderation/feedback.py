"""`SendFeedback`: tells a vendor what people decided, within its quota, each decision once."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BooleanCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.utils.shared import Shared

from beam_moderation import decisions, errors, metrics, quota
from beam_moderation.vendors import credentials, kept, lane, protocol, retries, running

FEEDBACK_QUOTA = quota.Quota(20, None, 8)
"""Alibaba's 20 calls a second (help.aliyun.com/document_detail/70432.html)."""

LATER, INVALID = "later", "invalid"
"""Of a decision that the vendor was not told, as it could not be reached or said that it failed
(HTTP 5xx); and of a row that is no decision. Neither leaves a marker."""


class Told(NamedTuple):
    """What became of a decision; `now` says whether this run did it."""

    id: str
    url: str
    state: str
    """`taken`, `refused`, `unknown`, `later` or `invalid`."""
    now: bool
    message: str = ""


class FeedbackWorker:
    """Tells decisions through a lane, several at a time. Made once a process.

    Args:
      again: whether what is unknown of an earlier run is told again.
    """

    def __init__(
        self, lane: running.RunningLane, markers: decisions.Markers, threads: int, again: bool
    ) -> None:
        self._lane, self._markers, self._again = lane, markers, again
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feedback")
        self._running: dict[str, Future[Told]] = {}
        self._refusal: errors.VendorRefusedRequest | None = None
        self._lock = threading.Lock()

    def begin(self, decision: decisions.Decision) -> "Future[Told]":
        """Starts on a decision; the same one is not begun a second time.

        The future raises a `VendorRefusedRequest` where the account or the key is wrong.
        """
        with self._lock:
            if decision.id not in self._running:
                self._running[decision.id] = self._pool.submit(self._tell, decision)
            return self._running[decision.id]

    def _tell(self, decision: decisions.Decision) -> Told:
        if self._refusal is not None:
            raise self._refusal
        found = self._markers.begin(decision)
        if found is not None and not (found == decisions.UNKNOWN and self._again):
            return Told(decision.id, decision.human.url, found, now=False)
        state, message = self._state(decision)
        return Told(decision.id, decision.human.url, state, True, message)

    def _state(self, decision: decisions.Decision) -> tuple[str, str]:
        """What became of telling a decision that is marked as unknown."""
        try:
            self._lane.feedback(decision.human).result()
        except (errors.VendorRefusedInput, errors.VendorFailedInput) as error:
            self._markers.end(decision, decisions.REFUSED, str(error))
            return decisions.REFUSED, str(error)
        except (errors.VendorThrottled, errors.VendorUnavailable) as error:
            self._markers.forget(decision)
            return LATER, str(error)
        except errors.VendorRefusedRequest as error:
            self._refusal = error
            self._markers.forget(decision)
            raise
        except errors.VendorError as error:
            return decisions.UNKNOWN, str(error)
        self._markers.end(decision, decisions.TAKEN)
        return decisions.TAKEN, ""


@dataclasses.dataclass(frozen=True)
class _FeedbackJob:
    """What the worker needs to know; travels pickled, and holds no credentials."""

    vendor: protocol.Vendor
    credentials: Callable[[], protocol.Credentials]
    markers: str
    quota: quota.Quota
    retries: retries.Retries
    again: bool

    def make_worker(self) -> FeedbackWorker:
        paced = lane.Lane(
            self.vendor,
            self.credentials,
            self.quota,
            kept.KeptAnswers(self.markers, self.vendor),
            retries=self.retries,
        )
        return FeedbackWorker(
            running.RunningLane(paced).__enter__(),
            decisions.Markers(self.markers, self.vendor.name),
            self.quota.max_in_flight,
            self.again,
        )


class _FeedbackFn(beam.DoFn):
    _LANE = ReadModifyWriteStateSpec("lane", BooleanCoder())
    """Never written: that there is a state has the runner tell from one place at a time."""

    def __init__(self, job: _FeedbackJob) -> None:
        self._job, self._shared = job, Shared()

    def start_bundle(self) -> None:
        self._begun: list[tuple[Future[Told], Any, Any]] = []

    def process(
        self,
        of_lane: tuple[int, decisions.Decision],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        _: Any = beam.DoFn.StateParam(_LANE),
    ) -> None:
        worker = self._shared.acquire(self._job.make_worker)
        self._begun.append((worker.begin(of_lane[1]), timestamp, window))

    def finish_bundle(self) -> Iterator[Any]:
        for future, timestamp, window in self._begun:
            told = future.result()
            metrics.add({f"feedback/{told.state}": 1})
            yield beam.transforms.window.WindowedValue(told, timestamp, (window,))


class SendFeedback(beam.PTransform):
    """Tells a vendor what people decided, from one place and within the quota.

    A decision is marked below `markers` before the vendor is told, and again with its answer, so
    that a later run tells only what this one did not. A call without a readable answer, and one
    that a kill cut off, leave the decision `unknown`: the vendor may have taken it or not. It is
    not told again unless `again` says so, for then it may be told twice.

    Args:
      vendor: of `beam_moderation.vendors`.
      markers: an fsspec URL that every worker can write to; the same for all runs.
      quota: for feedback alone; the vendor's 20 calls a second where none is given.
      credentials: looked up on the worker; the vendor's usual environment variables where none is
        given.
      retries: when a call that was not taken is made again.
      again: whether to tell again what an earlier run left unknown.

    Returns:
      A PCollection of `Told`, one for every decision.

    Raises:
      ConfigurationError: the quota has lanes; feedback has one.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        markers: str,
        *,
        quota: quota.Quota = FEEDBACK_QUOTA,
        credentials: Callable[[], protocol.Credentials] | None = None,
        retries: retries.Retries | None = None,
        again: bool = False,
    ) -> None:
        super().__init__()
        if quota.lanes > 1:
            raise errors.ConfigurationError("feedback has one lane")
        self._job = _FeedbackJob(
            vendor,
            credentials or _usual_credentials(vendor),
            markers,
            quota,
            retries or _default_retries(),
            again,
        )

    def expand(self, pcoll: Any) -> Any:
        """Brings all decisions to the one lane."""
        return (
            pcoll
            | "ToLane"
            >> beam.Map(lambda decision: (0, decision)).with_output_types(
                tuple[int, decisions.Decision]
            )
            | "Tell" >> beam.ParDo(_FeedbackFn(self._job)).with_output_types(Told)
        )


def _usual_credentials(vendor: protocol.Vendor) -> credentials.CredentialsSource:
    return credentials.CredentialsSource(vendor.name)


def _default_retries() -> retries.Retries:
    return retries.Retries()
