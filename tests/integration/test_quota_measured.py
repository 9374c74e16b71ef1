"""A job's use of its quota, measured where its calls leave and where they come in.

Each rate is held for `BEAM_MODERATION_QUOTA_SECONDS` (15; with 60 it is the minute of the promise).
No second may have more than the quota. Where calls leave that is exact. The emulator takes about
two milliseconds for a call, so at 300 a second it sees some of them late, and then bunched: there a
few more in a second are the emulator's. How much of the quota is used is printed (`pytest -rP`);
97 % is what a machine with two idle cores shows, the floor here is for one that has other work.
"""

import collections
import contextlib
import multiprocessing
import os
import threading
import time

import pytest
from vendor_jobs import by_id, run, suggestions, truths, vendor_at, write_references

from beam_moderation import emulator, quota
from beam_moderation.quota import Quota

pytestmark = [pytest.mark.integration, pytest.mark.measured]

SECONDS = float(os.environ.get("BEAM_MODERATION_QUOTA_SECONDS", "15"))
FLOORS = {5: 0.95, 50: 0.9, 300: 0.5}
"""By calls a second, the part of the quota that must be used even on a busy machine."""

LATE = {5: 0, 50: 0, 300: 12}
"""By calls a second, how many more in a second the emulator may see because it is busy itself."""

RUNNERS = {
    "in_memory": [],
    "multi_threading": ["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
}


class Meter:
    """Measures what comes in at a vendor, from one count to another."""

    def __init__(self, running, of, rate, first, last):
        self._running, self._of = running, of
        self._first, self._last, self._expected_s = first, last, (last - first) / rate
        # The page of statistics grows with the calls, and no call is seen while it is made.
        self._every_s = 0.02 if rate <= 50 else 0.5
        self.per_second = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        self._thread.join()

    def _measure(self):
        began, first = self._reached(self._first)
        self._ended.wait(0.8 * self._expected_s)
        ended, last = self._reached(self._last)
        self.per_second = (last - first) / (ended - began)

    def _reached(self, count):
        """When so many had come, and how many there were by then."""
        while (now := self._of(self._running.stats())) < count and not self._ended.wait(
            self._every_s
        ):
            pass
        return time.monotonic(), now


def calls(stats):
    return stats["calls"].get("scan", 0)


def images(stats):
    return stats["images"]


def never_late():
    """Lets the emulator run before all else, where that is allowed: late, it would see bursts."""
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(child.pid, os.SCHED_RR, os.sched_param(1))


@pytest.fixture
def left(monkeypatch):
    """The calls of this process that left."""
    turns = {}
    sent = quota.Turn.sent

    def noted(turn):
        sent(turn)
        turns[turn] = None

    monkeypatch.setattr(quota.Turn, "sent", noted)
    return turns


def busiest_second(turns):
    """The most calls, and the most images, that left in any second."""
    window, images, most_calls, most_images = collections.deque(), 0, 0, 0
    for at, count in sorted((turn.left_at, turn.images) for turn in turns):
        window.append((at, count))
        images += count
        while window[0][0] <= at - 1:
            images -= window.popleft()[1]
        most_calls, most_images = max(most_calls, len(window)), max(most_images, images)
    return most_calls, most_images


def hold(folder, running, vendor, within, flags, *, count, of, rate):
    """Judges so many images, and returns the part of the quota that was used."""
    urls = by_id([f"https://img.example.com/{n}.jpg" for n in range(count)])
    references = write_references(folder / "r.parquet", urls)
    total = count // vendor.max_items if of is calls else count
    first, last = total // 10, int(total * (0.9 if within.lanes == 1 else 0.6))
    last -= (last - first) % rate
    running.stats()  # calls that wait for a vendor that is not up yet would all come at once
    never_late()
    with Meter(running, of, rate, first, last) as meter:
        run(references, folder / "out", vendor, *flags, quota=within, batch_size=50)
    assert suggestions(folder / "out") == truths("alibaba", urls)
    return meter.per_second / rate


def say(what, use, stats):
    peaks = [f"{stats[f'highest_{of}']} {of}" for of in ("calls_per_second", "images_per_second")]
    print(f"{what}: {use:.1%} used, at most {' and '.join(peaks)}")  # noqa: T201


@pytest.mark.parametrize(
    ("rate", "lanes", "runner"),
    [
        *((rate, 1, runner) for rate in (5, 50, 300) for runner in RUNNERS),
        (50, 2, "multi_threading"),
    ],
)
def test_calls_a_second_are_never_exceeded_and_nearly_all_used(tmp_path, left, rate, lanes, runner):
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.02)) as running:
        vendor = vendor_at("alibaba", running.url, max_items=1)
        within = Quota(rate, None, max(8, rate // 4), lanes=lanes)
        flags, count = RUNNERS[runner], int(rate * SECONDS)
        use = hold(tmp_path, running, vendor, within, flags, count=count, of=calls, rate=rate)
        stats = running.stats()
    say(f"{rate} calls a second, {lanes} lanes, {runner}", use, stats)
    assert len(left) == stats["calls"]["scan"] == count
    assert busiest_second(left)[0] <= rate
    assert stats["highest_calls_per_second"] <= rate + LATE[rate]
    assert use >= FLOORS[rate]


def test_images_a_second_are_never_exceeded_and_nearly_all_used(tmp_path, left):
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.02)) as running:
        vendor = vendor_at("alibaba", running.url, max_items=10)
        within, rate = Quota(100, 250, 16), 250
        use = hold(tmp_path, running, vendor, within, [], count=2500, of=images, rate=rate)
        stats = running.stats()
    say("250 images a second", use, stats)
    assert busiest_second(left)[1] <= rate
    assert stats["highest_images_per_second"] <= rate
    assert use >= 0.9


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_calls_in_flight_are_never_exceeded(tmp_path, runner, asynchronous):
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.05, task_s=0.3)) as running:
        vendor = vendor_at("alibaba", running.url, max_items=1, asynchronous=asynchronous)
        urls = by_id([f"https://img.example.com/{n}.jpg" for n in range(200)])
        references = write_references(tmp_path / "r.parquet", urls)
        options = {"quota": Quota(1000, None, 7), "batch_size": 20}
        run(references, tmp_path / "out", vendor, *RUNNERS[runner], **options)
        assert suggestions(tmp_path / "out") == truths("alibaba", urls)
        assert running.stats()["highest_in_flight"] == 7
