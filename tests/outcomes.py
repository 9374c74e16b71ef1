"""Rows and outcomes for tests that write or read tables."""

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import records

NOON = Timestamp.from_rfc3339("2026-11-20T12:00:00Z")
NEXT_DAY = Timestamp.from_rfc3339("2026-11-21T00:00:01Z")


def scene(data_id="a", **changes):
    row = records.SceneResult(
        data_id=data_id,
        scene="porn",
        provider="p@1",
        policy_version="v",
        uri=None,
        label="normal",
        score=0.9,
        suggestion="pass",
        sub_label="",
        findings=[records.Finding("normal", 0.9)],
        frame=0,
        frames_judged=1,
        frames_total=1,
        task_id=None,
        request_id=None,
        detail="{}",
        source=f"f#{data_id}",
        event_time=NOON,
        moderated_at=NOON,
        run_id="r",
    )
    return row._replace(**changes)


def image(data_id="a", **changes):
    row = records.ImageResult(
        data_id=data_id,
        policy_version="v",
        uri=None,
        suggestion="pass",
        flagged=[],
        decided_by="p@1",
        sha256="0" * 64,
        bytes=10,
        width=1,
        height=1,
        format="PNG",
        billed_units=0,
        latency_ms=1.0,
        carried="{}",
        source=f"f#{data_id}",
        event_time=NOON,
        moderated_at=NOON,
        run_id="r",
    )
    return row._replace(**changes)


def dead_letter(data_id="d", **changes):
    row = records.DeadLetter(
        data_id=data_id,
        stage="fetch",
        uri=None,
        scene=None,
        provider=None,
        code="fetch-not-found",
        message="nothing there",
        retryable=False,
        attempts=1,
        payload="{}",
        source=f"f#{data_id}",
        event_time=NOON,
        failed_at=NOON,
        run_id="r",
    )
    return row._replace(**changes)


def outcome(batch_id="b", scenes=(), images=(), dead_letters=()):
    return records.OutcomeBatch.of(batch_id, list(scenes), list(images), list(dead_letters))
