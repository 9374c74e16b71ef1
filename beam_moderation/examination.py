"""One image from its bytes to its rows: decode, judge every frame, decide by the policy."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import errors, judges, judging, policy, records
from beam_moderation.decoding import Decoder, Header, PreparedFrame


class Examined(NamedTuple):
    """The rows of one image, and the milliseconds of decoding and judging where that was here."""

    scenes: Sequence[records.SceneResult]
    image: records.ImageResult
    decode_ms: float | None = None
    judge_ms: float | None = None


class _Evidence:
    """What was found of one image in one scene by one judge, over its frames."""

    def __init__(self) -> None:
        self.observations: list[policy.Observation] = []
        self.details: dict[policy.Observation, Mapping[str, Any]] = {}

    def add(self, frame: int, found: judges.SceneFindings) -> None:
        observed = [policy.Observation(frame, finding) for finding in found.findings]
        self.observations += observed
        self.details = dict.fromkeys(observed, found.detail) | self.details


class Examiner:
    """Examines images. Thread-safe."""

    def __init__(
        self, decoder: Decoder, panel: judging.Panel, rules: policy.Policy, run_id: str
    ) -> None:
        self._decoder, self._panel, self._rules, self._run_id = decoder, panel, rules, run_id

    def examine(self, reference: records.ImageReference, data: bytes) -> Examined:
        """The rows for an image.

        Raises:
          ImageError, JudgeError: it could not be judged as a whole.
        """
        started = time.perf_counter()
        header, frames = self._decoder(data)
        evidence, judged, judge_s = self._judge(frames)
        scenes = [
            self._scene_row(reference, *key, found, header, judged)
            for key, found in evidence.items()
        ]
        total_s = time.perf_counter() - started
        image = self._image_row(reference, scenes, header, data, total_s)
        return Examined(scenes, image, (total_s - judge_s) * 1000, judge_s * 1000)

    def _judge(
        self, frames: Iterable[PreparedFrame]
    ) -> tuple[Mapping[tuple[str, str], _Evidence], int, float]:
        """The evidence by (scene, provider), the number of frames, and seconds of judging."""
        evidence: dict[tuple[str, str], _Evidence] = defaultdict(_Evidence)
        judged: set[int] = set()  # a transparent picture comes on two backdrops
        judge_s = 0.0
        for index, prepared in frames:
            started = time.perf_counter()
            for provider, found in self._panel.judge(prepared):
                evidence[found.scene, provider].add(index, found)
            judge_s += time.perf_counter() - started
            judged.add(index)
        if not evidence:
            raise errors.ImageBroken("no frame could be decoded")
        return evidence, len(judged), judge_s

    def _scene_row(
        self,
        reference: records.ImageReference,
        scene: str,
        provider: str,
        found: _Evidence,
        header: Header,
        judged: int,
    ) -> records.SceneResult:
        decision = self._rules.decide(scene, found.observations)
        decisive = policy.Observation(decision.frame, decision.finding)
        return records.SceneResult(
            data_id=reference.data_id,
            scene=scene,
            provider=provider,
            policy_version=self._rules.version,
            uri=reference.uri,
            label=decision.finding.label,
            score=decision.finding.score,
            suggestion=decision.suggestion,
            sub_label="",
            findings=policy.best_scores(found.observations),
            frame=decision.frame,
            frames_judged=judged,
            frames_total=header.frames_total,
            task_id=None,
            request_id=None,
            detail=json.dumps(found.details[decisive], ensure_ascii=False),
            source=reference.source,
            event_time=reference.event_time,
            moderated_at=Timestamp.now(),
            run_id=self._run_id,
        )

    def _image_row(
        self,
        reference: records.ImageReference,
        scenes: Sequence[records.SceneResult],
        header: Header,
        data: bytes,
        total_s: float,
    ) -> records.ImageResult:
        return image_row(
            reference,
            scenes,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            width=header.width,
            height=header.height,
            format=header.format,
            billed_units=0,
            latency_ms=round(total_s * 1000, 3),
        )


def image_row(
    reference: records.ImageReference, scenes: Sequence[records.SceneResult], **measured: Any
) -> records.ImageResult:
    """The row of an image from the rows of its scenes and what is known of its bytes."""
    worst = max(scenes, key=lambda row: records.SUGGESTIONS.index(row.suggestion))
    flagged = [f"{row.scene}:{row.label}" for row in scenes if row.suggestion != "pass"]
    return records.ImageResult(
        data_id=reference.data_id,
        policy_version=worst.policy_version,
        uri=reference.uri,
        suggestion=worst.suggestion,
        flagged=flagged,
        decided_by=worst.provider,
        carried=reference.carried,
        source=reference.source,
        event_time=reference.event_time,
        moderated_at=worst.moderated_at,
        run_id=worst.run_id,
        **measured,
    )
