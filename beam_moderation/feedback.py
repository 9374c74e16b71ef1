"""`SendFeedback`: tells a vendor what people decided, within its quota, each decision once."""

import collections
import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
from apache_beam.coders import BooleanCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_moderation import decisions, errors, metrics
from beam_moderation.quota import Quota
from beam_moderation.vendors import kept, lane, protocol, running, standing
from beam_moderation.vendors.credentials import CredentialsSource
from beam_moderation.vendors.retries import Retries

FEEDBACK_QUOTA = Quota(20, max_in_flight=8)
"""Alibaba's 20 calls a second (help.aliyun.com/document_detail/70432.html)."""

LATER, INVALID = "later", "invalid"
"""Of a decision that the vendor was not told, as it could not be reached or throttled; and of a row
that is no decision. Neither leaves a marker."""

_AHEAD = 10_000
"""Decisions of a bundle that may be under way."""


class Told(NamedTuple):
    """What became of a decision."""

    id: str
    url: str
    state: str
    """A `decisions.State`, or `later` or `invalid`."""
    by_this_run: bool
    """Whether the vendor was told, or tried to be, now; if not, the decision had a marker."""
    message: str = ""


class FeedbackWorker:
    """Tells decisions through a lane, several at a time. Made once a process.

    Args:
      make_lane: makes a lane that runs.
      again: whether what is unknown of an earlier run is told again.
    """

    def __init__(
        self,
        make_lane: Callable[[], running.RunningLane],
        markers: decisions.Markers,
        threads: int,
        again: bool,
    ) -> None:
        self._make_lane, self._lane = make_lane, make_lane()
        self._markers, self._again = markers, again
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feedback")
        self._running: dict[str, Future[Told]] = {}
        self._refusal: errors.ModerationError | None = None
        self._lock = threading.Lock()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._running

    def close(self) -> None:
        """Ends the lane; what was told is marked."""
        self._pool.shutdown()
        self._lane.close()

    def begin(self, decision: decisions.Decision) -> "Future[Told]":
        """Starts on a decision, unless it is under way.

        The future raises a `VendorRefusedRequest` where the account or the key is wrong, and a
        `ConfigurationError` where there is no key.
        """
        with self._lock:
            found = self._running.get(decision.id)
            if found is not None:
                return found
            future = self._running[decision.id] = self._pool.submit(self._tell, decision)
        future.add_done_callback(lambda _: self._running.pop(decision.id))
        return future

    def renew(self) -> None:
        """After a refusal begins anew, when nothing is under way: a key may have been mended."""
        if self._refusal is not None:
            self._lane.close()
            self._lane, self._refusal = self._make_lane(), None

    def _tell(self, decision: decisions.Decision) -> Told:
        if self._refusal is not None:
            raise self._refusal
        found = self._markers.begin(decision)
        if found is not None and not (found == decisions.UNKNOWN and self._again):
            return Told(decision.id, decision.human.url, found, by_this_run=False)
        state, message = self._state(decision)
        return Told(decision.id, decision.human.url, state, True, message)

    def _state(self, decision: decisions.Decision) -> tuple[str, str]:
        """What became of telling a decision that is marked as unknown."""
        try:
            self._lane.feedback(decision.human).result()
        except (errors.VendorRefusedInput, errors.VendorFailedInput) as error:
            self._markers.end(decision, decisions.REFUSED, str(error))
            return decisions.REFUSED, str(error)
        except (errors.VendorThrottled, errors.VendorUnreached) as error:
            self._markers.forget(decision)
            return LATER, str(error)
        except (errors.VendorRefusedRequest, errors.ConfigurationError) as error:
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
    quota: Quota
    retries: Retries
    again: bool

    def make_worker(self) -> FeedbackWorker:
        markers = decisions.Markers(self.markers, self.vendor)
        return FeedbackWorker(self.make_lane, markers, self.quota.max_in_flight, self.again)

    def make_lane(self) -> running.RunningLane:
        paced = lane.Lane(
            self.vendor,
            self.credentials,
            self.quota,
            kept.RecentAnswers(),
            retries=self.retries,
        )
        return running.RunningLane(paced).start()


_Begun: TypeAlias = tuple["Future[Told]", Any, Any]
"""What becomes of a decision, with its timestamp and window."""


class _FeedbackFn(beam.DoFn):
    _LANE = ReadModifyWriteStateSpec("lane", BooleanCoder())
    """Never written: that there is a state has the runner tell from one place at a time."""

    def __init__(self, job: _FeedbackJob) -> None:
        self._job, self._name = job, uuid.uuid4().hex

    def start_bundle(self) -> None:
        self._worker: FeedbackWorker | None = None
        self._begun: collections.deque[_Begun] = collections.deque()

    def process(
        self,
        of_lane: tuple[int, decisions.Decision],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        _: Any = beam.DoFn.StateParam(_LANE),
    ) -> Iterator[Any]:
        self._worker = standing.acquire(self._name, 0, self, self._job.make_worker)
        self._begun.append((self._worker.begin(of_lane[1]), timestamp, window))
        while len(self._begun) > _AHEAD:
            yield self._done(*self._begun.popleft())

    def finish_bundle(self) -> Iterator[Any]:
        while self._begun:
            yield self._done(*self._begun.popleft())

    def _done(self, future: "Future[Told]", timestamp: Any, window: Any) -> Any:
        """What became of a decision; when it raises, nothing of the bundle is under way."""
        try:
            told = future.result()
        except BaseException:
            wait([begun for begun, *_ in self._begun])
            assert self._worker is not None
            self._worker.renew()
            raise
        metrics.add({_counter(told): 1})
        return beam.transforms.window.WindowedValue(told, timestamp, (window,))


def _counter(told: Told) -> str:
    """The counter of a row: what was told earlier is counted apart."""
    return f"feedback/{told.state}" + ("" if told.by_this_run else "-earlier")


def _parse(row: Mapping[str, Any]) -> Iterator[Any]:
    """The decision of a row, or what is the matter with it."""
    try:
        yield 0, decisions.read_row(row)
    except errors.ReferenceInvalid as error:
        invalid = Told("", str(row.get("uri", "")), INVALID, True, str(error))
        metrics.add({_counter(invalid): 1})
        yield beam.pvalue.TaggedOutput(INVALID, invalid)


class SendFeedback(beam.PTransform):
    """Tells a vendor what people decided, from one place and within the quota.

    Takes rows as `decisions.read_row` has them: mappings with `uri`, `suggestion` and what else is
    known.

    A decision is marked below `markers` before the vendor is told, and again with its answer, so
    that a later run tells only what this one did not. A call without a readable answer, one that
    the vendor failed on, and one that a kill cut off, leave the decision `unknown`: the vendor may
    have taken it or not. It is not told again unless `again` says so, for then it may be told
    twice.

    Args:
      vendor: of `beam_moderation.vendors`.
      markers: an fsspec URL that every worker can write to; the same for all runs, and another for
        another account of the vendor.
      quota: for feedback alone; the vendor's 20 calls a second where none is given.
      credentials: looked up on the worker; the vendor's usual environment variables where none is
        given.
      retries: when a call that was not taken is made again.
      again: whether to tell again what an earlier run left unknown.

    Returns:
      A PCollection of `Told`, one for every row.

    Raises:
      ConfigurationError: the quota has lanes; feedback has one.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        markers: str,
        *,
        quota: Quota = FEEDBACK_QUOTA,
        credentials: Callable[[], protocol.Credentials] | None = None,
        retries: Retries | None = None,
        again: bool = False,
    ) -> None:
        super().__init__()
        if quota.lanes > 1:
            raise errors.ConfigurationError("feedback has one lane")
        self._job = _FeedbackJob(
            vendor,
            credentials or CredentialsSource(vendor.name),
            markers,
            quota,
            retries or Retries(),
            again,
        )

    def expand(self, rows: Any) -> Any:
        """Brings all decisions to the one lane; rows that are none go past it."""
        parsed = rows | "Parse" >> beam.FlatMap(_parse).with_output_types(
            tuple[int, decisions.Decision]
        ).with_outputs(INVALID, main="decisions")
        told = parsed.decisions | "Tell" >> beam.ParDo(_FeedbackFn(self._job)).with_output_types(
            Told
        )
        return (told, parsed[INVALID]) | beam.Flatten()
