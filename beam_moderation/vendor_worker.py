"""`VendorWorker`: turns reference batches into outcomes by a vendor's API, without Beam.

An image that the vendor can reach is passed as its URL. Any other is fetched here, held against the
vendor's limits before any money is spent, and sent with its bytes.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import dead_letters, errors, examination, fetch, policy, records, uris, worker
from beam_moderation.vendors import fitting, kept, protocol, running

MAX_URL_CHARACTERS = 2048
"""The longest URL that Alibaba takes (help.aliyun.com/document_detail/70292.html)."""

_BATCHES_AT_ONCE = 32
"""Batches in work: enough for the tasks of half a minute, each waiting in a thread that costs
nothing."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """An item for the vendor, what is known of its bytes, and what was done to them."""

    item: protocol.Item
    measured: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(("sha256", "bytes", "width", "height", "format"))
    )
    note: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    frames_total: int = 1
    """The image's own where it was fetched here; a URL's nobody tells."""


Preparation: TypeAlias = Prepared | records.DeadLetter


class VendorWorker:
    """Has batches judged through a paced lane. Made once a process and lane.

    Args:
      fit: shrinks or transcodes what is over the vendor's limits; without it that is refused.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        lane: running.RunningLane,
        fetcher: fetch.Fetcher,
        rules: policy.Policy,
        run_id: str,
        fit: bool,
    ) -> None:
        self._vendor, self._lane, self._fetcher = vendor, lane, fetcher
        self._rules, self._run_id, self._fit = rules, run_id, fit
        self._pool = ThreadPoolExecutor(_BATCHES_AT_ONCE, thread_name_prefix="vendor-batch")
        self._counted: Counter[str] = Counter()

    @property
    def batches_ahead(self) -> int:
        """As many as can be in work."""
        return _BATCHES_AT_ONCE - 1

    def take_counts(self) -> Mapping[str, int]:
        """The lane's counters since the last call, by names that begin with `vendor_`."""
        counts = self._lane.lane.counts
        fresh = counts - self._counted
        self._counted = counts
        return {f"vendor_{name}": value for name, value in fresh.items()}

    def begin(self, batch: records.ReferenceBatch, outcome_id: str) -> "Future[worker.Done]":
        """Starts on a batch.

        The future raises what is no fault of an image: a `ConfigurationError`, or a
        `VendorRefusedRequest` of the account as a whole.
        """
        return self._pool.submit(self._moderate, batch, outcome_id)

    def _moderate(self, batch: records.ReferenceBatch, outcome_id: str) -> worker.Done:
        references = list(batch)
        prepared = self._prepare(references)
        items = [p.item for p in prepared if isinstance(p, Prepared)]
        answers = iter(self._lane.submit(batch.id, items).result())
        results = {
            index: p
            if isinstance(p, records.DeadLetter)
            else self._rows(reference, p, next(answers))
            for index, (reference, p) in enumerate(zip(references, prepared, strict=True))
        }
        return worker.gather(batch, outcome_id, results)

    def _prepare(self, references: Sequence[records.ImageReference]) -> list[Preparation]:
        """What the vendor is given of each reference, in their order."""
        prepared: dict[int, Preparation] = {
            index: Prepared(protocol.Item(reference.data_id, url=reference.uri))
            for index, reference in enumerate(references)
            if is_reachable(reference)
        }
        rest = [pair for pair in enumerate(references) if pair[0] not in prepared]
        for index, data in self._fetcher.ahead(rest):
            prepared[index] = self._inline(references[index], data)
        return [prepared[index] for index in range(len(references))]

    def _inline(
        self, reference: records.ImageReference, data: bytes | errors.ModerationError
    ) -> Preparation:
        try:
            if isinstance(data, errors.ModerationError):
                raise data
            fitted = fitting.fit(data, self._vendor.limits, allowed=self._fit)
        except errors.ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001
            return dead_letters.of(reference, error, self._run_id, provider=self._vendor.provider)
        return Prepared(
            protocol.Item(reference.data_id, content=fitted.data),
            {
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": len(data),
                "width": fitted.image.width,
                "height": fitted.image.height,
                "format": fitted.image.format,
            },
            fitted.note,
            fitted.image.frame_count,
        )

    def _rows(
        self, reference: records.ImageReference, prepared: Prepared, outcome: kept.Outcome
    ) -> worker.Result:
        answer = outcome.answer
        if not isinstance(answer, protocol.Judged):
            return self._dead_letter(reference, outcome)
        scenes = [
            self._scene_row(reference, answer, verdict, prepared) for verdict in answer.verdicts
        ]
        image = examination.image_row(
            reference,
            scenes,
            **prepared.measured,
            billed_units=answer.billed_units,
            latency_ms=round(outcome.latency_s * 1000, 3),
        )
        return examination.Examined(scenes, image)

    def _dead_letter(
        self, reference: records.ImageReference, outcome: kept.Outcome
    ) -> records.DeadLetter:
        assert isinstance(outcome.answer, protocol.Failed)
        letter = dead_letters.of(
            reference,
            outcome.answer.error,
            self._run_id,
            provider=self._vendor.provider,
            scene=outcome.answer.scene,
        )
        return letter._replace(attempts=outcome.attempts)

    def _scene_row(
        self,
        reference: records.ImageReference,
        answer: protocol.Judged,
        verdict: protocol.Verdict,
        prepared: Prepared,
    ) -> records.SceneResult:
        return records.SceneResult(
            data_id=reference.data_id,
            scene=verdict.scene,
            provider=self._vendor.provider,
            policy_version=self._rules.version,
            uri=reference.uri,
            label=verdict.label,
            score=verdict.score,
            suggestion=self._suggestion(verdict),
            sub_label=verdict.sub_label,
            findings=list(verdict.findings),
            frame=0,
            frames_judged=1,
            frames_total=prepared.frames_total,
            task_id=answer.task_id,
            request_id=answer.request_id,
            detail=json.dumps({**verdict.detail, **prepared.note}, ensure_ascii=False),
            source=reference.source,
            event_time=reference.event_time,
            moderated_at=Timestamp.now(),
            run_id=self._run_id,
        )

    def _suggestion(self, verdict: protocol.Verdict) -> str:
        """The vendor's own, unless the policy's thresholds replace it and there are scores."""
        if not (self._rules.override_vendors and verdict.findings):
            return verdict.suggestion
        observed = [policy.Observation(0, finding) for finding in verdict.findings]
        return self._rules.decide(verdict.scene, observed).suggestion


def is_reachable(reference: records.ImageReference) -> bool:
    """Whether the vendor can be given the reference's URL as it is."""
    uri = reference.uri
    if uri is None or reference.content is not None or len(uri) > MAX_URL_CHARACTERS:
        return False
    try:
        uris.parse_web_address(uri)
    except errors.FetchError:
        return False
    return True
