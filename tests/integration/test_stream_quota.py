"""The quota of a vendor holds for a whole cluster."""

import pytest
from stream_jobs import by_url, by_vendor, truth
from test_quota_measured import Meter, calls, never_late

from beam_moderation import emulator
from beam_moderation.quota import Quota

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(600)]

CALLS_PER_SECOND = 40
REFERENCES = 40 * CALLS_PER_SECOND


@pytest.mark.parametrize("lanes", [1, 4])
def test_no_second_has_more_than_the_quota_and_little_is_left_unused(stream, lanes):
    """Measured while every lane has work: chance gives some of them less of it than others."""
    stream.produce(0, REFERENCES, make=by_url)
    first, last = REFERENCES // 10, int(REFERENCES * (0.9 if lanes == 1 else 0.6))
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.05)) as running:
        running.stats()
        never_late()
        within = Quota(CALLS_PER_SECOND, None, 16, lanes=lanes)
        with Meter(running, calls, CALLS_PER_SECOND, first, last) as meter:
            judge = by_vendor(running.url, within, max_items=1)
            stream.start(judge, "--parallelism=4", max_messages=5)
            stream.wait_for_tables(REFERENCES)
        stats = running.stats()
    use, most = meter.per_second / CALLS_PER_SECOND, stats["highest_calls_per_second"]
    print(f"{lanes} lanes: {use:.1%} of the quota used, at most {most} calls in a second")  # noqa: T201
    assert stream.outcomes() == truth(REFERENCES)
    assert calls(stats) == REFERENCES
    assert most <= CALLS_PER_SECOND
    assert use >= 0.9
