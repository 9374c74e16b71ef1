"""`VendorWorker`: turns reference batches into outcomes by a vendor's API, without Beam.

An image that the vendor can reach is passed as its URL, or as its key in the operator's bucket. Any
other is fetched here, held against the vendor's limits before any money is spent, and sent with its
bytes.
"""

import contextlib
import dataclasses
import hashlib
import ipaddress
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import (
    addresses,
    dead_letters,
    errors,
    examination,
    fetch,
    filesystems,
    policy,
    records,
    resumption,
    uris,
    worker,
)
from beam_moderation.vendors import asked, fitting, kept, protocol, running

MAX_URL_CHARACTERS = 2048
"""The longest URL that Alibaba takes (help.aliyun.com/document_detail/70292.html)."""

_BATCHES_AT_ONCE = 32
"""Batches in work: enough for the tasks of half a minute, each waiting in a thread that costs
nothing."""

_FETCHING_AT_ONCE = 4
"""Batches that fetch images at a time: each holds a fetch window and a part of those images."""

_PART_BYTES = 16 * 2**20
"""Images that a batch holds at a time, but for the one that is more: they are sent before it takes
more. With the windows of http, images take a quarter of a gigabyte, however large batches are."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The key of what the vendor is asked, what is known of its bytes, and what was done to them.

    The bytes themselves are not here: they go with the part in which they are sent.
    """

    key: str
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
      send_bytes: fetches every image here, also where the vendor could reach it.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        lane: running.RunningLane,
        fetcher: fetch.Fetcher,
        rules: policy.Policy,
        run_id: str,
        fit: bool,
        send_bytes: bool = False,
    ) -> None:
        self._vendor, self._lane, self._fetcher = vendor, lane, fetcher
        self._rules, self._run_id = rules, run_id
        self._fit, self._send_bytes = fit, send_bytes
        self._pool = ThreadPoolExecutor(_BATCHES_AT_ONCE, thread_name_prefix="vendor-batch")
        self._fetching = threading.Semaphore(_FETCHING_AT_ONCE)
        self._running: dict[tuple[str, str], Future[worker.Done]] = {}
        self._lock = threading.Lock()
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
        """Starts on a batch, or joins in where a bundle that failed left it under way.

        The future raises what is no fault of an image: a `ConfigurationError`, or a
        `VendorRefusedRequest` of the account as a whole.
        """
        key = (batch.id, outcome_id)
        with self._lock:
            if key in self._running:
                return self._running[key]
            future = self._running[key] = self._pool.submit(self._moderate, batch, outcome_id)
        future.add_done_callback(lambda _: self._running.pop(key))
        return future

    @property
    def idle(self) -> bool:
        """Whether no batch is in work."""
        return not self._running

    def renew(self) -> None:
        """Lets the vendor be asked again that refused what no longer runs."""
        with self._lock:
            if not self._running:
                self._lane.lane.renew()

    def close(self) -> None:
        """Ends the threads and the lane."""
        self._lane.close()
        self._pool.shutdown()

    def _moderate(self, batch: records.ReferenceBatch, outcome_id: str) -> worker.Done:
        references = list(batch)
        lane = self._lane.lane
        again = resumption.is_repetition(outcome_id)
        name = batch.block or (resumption.first(batch.id) if again else batch.id)
        asking = self._lane.begin(lane.open(name, again=again)).result()
        prepared = self._ask(references, asking)
        outcomes = self._lane.begin(lane.collect(asking)).result()
        results = {
            index: p
            if isinstance(p, records.DeadLetter)
            else self._rows(references[index], p, outcomes[p.key])
            for index, p in prepared.items()
        }
        return worker.gather(batch, outcome_id, results, self._run_id)

    def _ask(
        self, references: Sequence[records.ImageReference], asking: asked.Batch
    ) -> dict[int, Preparation]:
        """Has the vendor asked for all references, a part of their bytes at a time."""
        places = {index: self._place(reference) for index, reference in enumerate(references)}
        part = [item for item in places.values() if item is not None]
        prepared: dict[int, Preparation] = {
            index: Prepared(kept.item_key(item)) for index, item in places.items() if item
        }
        rest = [pair for pair in enumerate(references) if pair[0] not in prepared]
        if rest:
            self._ask_for_bytes(rest, part, prepared, asking)
        else:
            self._send(asking, part)
        return prepared

    def _ask_for_bytes(
        self,
        references: Sequence[tuple[int, records.ImageReference]],
        part: list[protocol.Item],
        prepared: dict[int, Preparation],
        asking: asked.Batch,
    ) -> None:
        """Has the vendor asked for references that are fetched, and for what is in `part`."""
        by_index, part, held_bytes = dict(references), [*part], 0
        with self._fetching, contextlib.closing(self._fetcher.ahead(references)) as arrivals:
            for index, data in arrivals:
                prepared[index], content = self._inline(by_index[index], data)
                if content is not None:
                    part.append(self._item(by_index[index], content=content))
                    held_bytes += len(content)
                if held_bytes >= _PART_BYTES:
                    self._send(asking, part)
                    part, held_bytes = [], 0
            self._send(asking, part)

    def _send(self, asking: asked.Batch, part: Sequence[protocol.Item]) -> None:
        self._lane.begin(self._lane.lane.ask(asking, part)).result()

    def _place(self, reference: records.ImageReference) -> protocol.Item | None:
        """An image as the vendor finds it by itself; None where its bytes have to be sent."""
        if reference.uri is None or reference.content is not None:
            return None
        if isinstance(self._vendor, protocol.Stores):
            key = self._vendor.object_key(reference.uri)
            if key is not None:
                return self._item(reference, object_key=key)
        if self._send_bytes or not is_reachable(reference.uri, self._fetcher.filesystems):
            return None
        return self._item(reference, url=reference.uri)

    def _item(self, reference: records.ImageReference, **place: Any) -> protocol.Item:
        time = reference.event_time
        return protocol.Item(
            reference.data_id,
            created_at=None if time is None else float(time),
            client_info=_client_info(reference),
            **place,
        )

    def _inline(
        self, reference: records.ImageReference, data: bytes | errors.ModerationError
    ) -> tuple[Preparation, bytes | None]:
        """What is known of an image that was fetched, and the bytes to send, if any."""
        try:
            if isinstance(data, errors.ModerationError):
                raise data
            fitted = fitting.fit(data, self._vendor.limits, allowed=self._fit)
        except errors.ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001
            letter = dead_letters.of(reference, error, self._run_id, provider=self._vendor.provider)
            return letter, None
        prepared = Prepared(
            kept.item_key(self._item(reference, content=fitted.data)),
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
        return prepared, fitted.data

    def _rows(
        self, reference: records.ImageReference, prepared: Prepared, outcome: kept.Outcome
    ) -> worker.Result:
        answer = outcome.answer
        if not isinstance(answer, protocol.Judged):
            return self._dead_letter(reference, outcome)
        scenes = [
            self._scene_row(reference, outcome, verdict, prepared) for verdict in answer.verdicts
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
        outcome: kept.Outcome,
        verdict: protocol.Verdict,
        prepared: Prepared,
    ) -> records.SceneResult:
        answer = outcome.answer
        assert isinstance(answer, protocol.Judged)
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
            moderated_at=Timestamp(micros=int(outcome.answered_at * 1e6)),
            run_id=self._run_id,
        )

    def _suggestion(self, verdict: protocol.Verdict) -> str:
        """The vendor's own, unless the policy's thresholds replace it and there are scores.

        No policy has a say in what the vendor holds against the image as a whole.
        """
        if not (self._rules.override_vendors and verdict.findings):
            return verdict.suggestion
        observed = [policy.Observation(0, finding) for finding in verdict.findings]
        decided = self._rules.decide(verdict.scene, observed).suggestion
        return records.worst([decided, verdict.floor])


def _client_info(reference: records.ImageReference) -> Mapping[str, Any]:
    """What a carried column of that name says of who made the image."""
    if '"client_info"' not in reference.carried:
        return {}
    told = json.loads(reference.carried).get("client_info")
    return told if isinstance(told, dict) else {}


def is_reachable(uri: str, sources: filesystems.Filesystems) -> bool:
    """Whether the vendor can be given a URI as it is: one of a public web server.

    What the operator allowed to be dialled here is the operator's own, and no vendor's business.
    """
    if len(uri) > MAX_URL_CHARACTERS:
        return False
    try:
        address = uris.parse_web_address(uri)
    except errors.FetchError:
        return False
    web = sources.sources.get(address.scheme)
    own = isinstance(web, filesystems.Web) and web.policy.is_own(address.host)
    return not own and _is_public(address.host)


def _is_public(host: str) -> bool:
    """Whether a host is in the public internet, so far as its spelling says."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")
    return addresses.is_public(host)
