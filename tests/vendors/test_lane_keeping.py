"""Answers are kept as fast as they come, or fewer calls are made."""

import asyncio
import threading

import pytest

from beam_moderation import quota
from beam_moderation.vendors import Alibaba, Credentials, Item, KeptAnswers, Lane

IN_FLIGHT, MAX_ITEMS = 3, 2


class SlowlyKept(KeptAnswers):
    """Notes how many images the vendor had judged, at most, whose answer was not kept."""

    def __init__(self, folder, vendor, running):
        super().__init__(folder, vendor)
        self._running, self._lock = running, threading.Lock()
        self.kept = self.most_unkept = 0

    def write(self, batch_id, outcomes):
        with self._lock:
            unkept = self._running.stats()["images"] - self.kept
            self.most_unkept = max(self.most_unkept, unkept)
            super().write(batch_id, outcomes)
            self.kept += len(outcomes)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_kill_costs_no_more_answers_than_calls_may_be_in_flight(emulate, tmp_path, asynchronous):
    running = emulate("alibaba", task_s=0.01)
    times = {"first_look_s": 1.0, "look_every_s": 0.1}
    vendor = Alibaba(endpoint=running.url, asynchronous=asynchronous, max_items=MAX_ITEMS, **times)
    answers = SlowlyKept(str(tmp_path), vendor, running)
    share = quota.Quota(1000, None, IN_FLIGHT)
    items = [Item(f"id{n}", url=f"https://img.example.com/{n}.jpg") for n in range(60)]

    async def main():
        async with Lane(
            vendor, lambda: Credentials("testid", "testsecret"), share, answers
        ) as lane:
            return await lane.judge("batch", items)

    assert len(asyncio.run(main())) == 60
    assert answers.most_unkept <= IN_FLIGHT * MAX_ITEMS
