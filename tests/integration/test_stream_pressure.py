"""A vendor that is down for a minute holds a stream up, and that is all."""

import json

import psutil
import pytest
from services import processes
from stream_jobs import by_url, by_vendor, truth, wait_until

from beam_moderation import emulator
from beam_moderation.quota import Quota

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(900)]

DOWN_S, A_SECOND, BEFORE = 60, 200, 1000
AFTER = BEFORE + DOWN_S * A_SECOND
NOTE = "x" * 20_000
"""Makes four megabytes a second of what waits."""


def with_a_note(number):
    return json.dumps({**json.loads(by_url(number)), "note": NOTE}).encode()


def watch(stream, thread):
    """The lag and the megabytes of the TaskManager and of the Python worker, as long as a thread
    is alive."""
    pids = stream.flink.task_managers[0].pid, stream.python_worker().pid
    while thread.is_alive():
        yield stream.lag(), *(psutil.Process(pid).memory_info().rss / 1e6 for pid in pids)
        thread.join(1)


def test_what_comes_waits_at_the_broker_and_is_judged_afterwards(stream):
    port = processes.free_port()
    judge = by_vendor(f"http://127.0.0.1:{port}", Quota(500, None, 16), max_items=20)
    with emulator.spawn("alibaba", port=port):
        stream.start(judge, "--parallelism=4", max_messages=20, carried=("note",))
        stream.produce(0, BEFORE, make=with_a_note)
        stream.wait_for_tables(BEFORE)
    with stream.producing(BEFORE, AFTER, make=with_a_note, a_second=A_SECOND) as thread:
        seen = list(watch(stream, thread))
    lag, *memory = zip(*seen, strict=True)
    first, last = slice(len(seen) // 2), slice(len(seen) // 2, None)
    grown_mb = [max(of_one[last]) - max(of_one[first]) for of_one in memory]
    print(f"after the first {DOWN_S / 2:g} s of {DOWN_S}: lag {lag[len(lag) // 2]} to {lag[-1]}")  # noqa: T201
    print(f"the TaskManager and the Python worker grew by {grown_mb} MB")  # noqa: T201
    assert lag[-1] > 0.8 * DOWN_S * A_SECOND
    assert max(grown_mb) < 25
    assert stream.told() == BEFORE
    with emulator.spawn("alibaba", port=port):
        stream.wait_for_tables(AFTER)
        wait_until(lambda: stream.lag() == 0, "the end of the lag")
    assert stream.outcomes() == truth(AFTER)
