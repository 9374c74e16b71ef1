"""The tasks of a lane: never more than the account may have, and results however they come."""

import asyncio
import threading
import time

import pytest
from vendor_jobs import KEYS, QUOTA, RETRIES, vendor_at

from beam_moderation import emulator
from beam_moderation.vendors import Item, Judged, KeptAnswers, Lane


def items(count, mark=""):
    return [Item(f"{mark}{n}", url=f"https://img.example.com/{mark}{n}.jpg") for n in range(count)]


def judge(vendor, folder, batches, **options):
    async def main():
        kept = KeptAnswers(str(folder), vendor)
        async with Lane(vendor, lambda: KEYS, QUOTA, kept, retries=RETRIES, **options) as lane:
            work = [lane.judge(name, batch) for name, batch in batches.items()]
            return [outcome for outcomes in await asyncio.gather(*work) for outcome in outcomes]

    outcomes = asyncio.run(main())
    assert all(isinstance(outcome.answer, Judged) for outcome in outcomes)
    return outcomes


def test_no_more_jobs_are_unfinished_than_the_account_may_have(emulate, tmp_path):
    running = emulate("huawei", task_s=0.2, max_jobs=20)
    vendor = vendor_at("huawei", running.url, asynchronous=True)
    judge(vendor, tmp_path, {f"batch{n}": items(2, f"{n}-") for n in range(50)})
    stats = running.stats()
    assert stats["calls"]["submit"] == 50
    assert stats["refused"] == {}


def test_results_are_asked_for_as_many_tasks_at_a_time_as_the_vendor_takes(emulate, tmp_path):
    running = emulate("alibaba", task_s=0.01)
    judge(vendor_at("alibaba", running.url, asynchronous=True), tmp_path, {"batch": items(230)})
    assert running.stats()["refused"] == {}
    assert 3 <= running.stats()["calls"]["results"] <= 6


def test_lanes_share_the_jobs_that_the_account_may_have(emulate, tmp_path):
    running = emulate("huawei", task_s=0.1, max_jobs=5)
    vendor = vendor_at("huawei", running.url, asynchronous=True)
    judge(vendor, tmp_path, {f"batch{n}": items(2, f"{n}-") for n in range(12)}, lanes=4)
    assert running.stats()["refused"] == {}


def callback_vendor(url):
    options = {"asynchronous": True, "callback": "http://127.0.0.1:9/", "seed": "seed"}
    return vendor_at("alibaba", url, **options)


def test_an_inbox_that_cannot_be_read_is_as_good_as_none(emulate, tmp_path):
    running = emulate("alibaba", task_s=0.01)

    def broken(task_id):
        raise PermissionError(task_id)

    batch = {"batch": items(5)}
    judge(callback_vendor(running.url), tmp_path, batch, inbox=broken, deadline_s=0.3)
    assert running.stats()["calls"]["results"] == 1


def test_an_inbox_that_is_slow_is_asked_for_several_tasks_at_once(emulate, tmp_path):
    running = emulate("alibaba", task_s=0.01)
    asked, most, lock = [0], [0], threading.Lock()

    def slow(task_id):
        with lock:
            asked[0] += 1
            most[0] = max(most[0], asked[0])
        time.sleep(0.02)
        with lock:
            asked[0] -= 1

    batch = {"batch": items(8)}
    judge(callback_vendor(running.url), tmp_path, batch, inbox=slow, deadline_s=0.1)
    assert most[0] > 1


@pytest.mark.parametrize("name", emulator.VENDORS)
def test_what_an_earlier_run_submitted_is_waited_for_and_not_submitted_again(
    emulate, tmp_path, name
):
    running = emulate(name, task_s=0.1)
    vendor = vendor_at(name, running.url, asynchronous=True)

    async def killed():
        kept = KeptAnswers(str(tmp_path), vendor)
        async with Lane(vendor, lambda: KEYS, QUOTA, kept, retries=RETRIES) as lane:
            batch = await lane.open("batch")
            lane._unfinished = None
            await lane.ask(batch, items(4))

    asyncio.run(killed())
    judge(vendor, tmp_path, {"batch": items(4)})
    assert set(running.stats()["tasks_per_data_id"].values()) == {1}
