"""A job that was stopped with a savepoint goes on from it, as it was or changed."""

import pytest
from brightness import BRIGHT
from stream_jobs import bright, expected

import beam_moderation as bm

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(600)]

EACH = 500
STRICT = {"scenes": {"brightness": {"normal": "pass", "bright": {"review": 0.1, "block": 0.5}}}}
"""Blocks what `BRIGHT` has reviewed."""

RUNS = {
    "the first": (BRIGHT, 2),
    "the same again": (BRIGHT, 2),
    "another policy": (STRICT, 2),
    "more parallelism": (BRIGHT, 4),
    "less parallelism": (BRIGHT, 2),
}
REFERENCES = EACH * len(RUNS)


def test_nothing_is_lost_or_read_twice_whatever_has_changed(stream):
    savepoint = []
    for number, (policy, parallelism) in enumerate(RUNS.values()):
        job = stream.start(bright(policy), f"--parallelism={parallelism}", *savepoint)
        with stream.producing(number * EACH, (number + 1) * EACH, a_second=EACH):
            stream.wait_until_told((number + 0.5) * EACH)
            savepoint = [f"--savepoint_path={stream.flink.stop_with_savepoint(job)}"]
    stream.start(bright(), "--parallelism=3", *savepoint)
    stream.wait_for_tables(REFERENCES)
    strict = bm.Policy(STRICT).version
    strictly = {key for key, version in stream.policies().items() if version == strict}
    assert EACH / 4 < len(strictly) < 2 * EACH
    assert stream.outcomes() == {
        key: "block" if key in strictly and told == "review" else told
        for key, told in expected(0, REFERENCES).items()
    }
    assert sorted(stream.told_ids()) == sorted(expected(0, REFERENCES))
