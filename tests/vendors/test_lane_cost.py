"""What a call may have cost decides how often it is made again."""

import asyncio

import pytest
import virtual_time
from lanes import JPEG, SCENES, items, judge, lane_of, told, truths, vendor_at

from beam_moderation import errors
from beam_moderation.emulator import Fault
from beam_moderation.vendors import Human, Item, Retries
from beam_moderation.vendors.retries import Attempts


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_after_the_work_is_paid_a_few_times_and_no_more(serve, tmp_path, status):
    running = serve(Fault(kind="server_error", after=True, status=status))
    lane = lane_of(vendor_at(running.url), tmp_path, retries=Retries(tries=3, pause_s=0.01))
    (outcome,) = judge(lane, items(1))
    assert (told(outcome), outcome.attempts) == ("vendor-unavailable", 3)
    assert running.stats()["billed_units"] == 3 * len(SCENES)


def test_an_error_after_the_work_makes_a_few_tasks_and_no_more(serve, tmp_path):
    running = serve(Fault(kind="server_error", after=True, status=502, operation="asyncscan"))
    vendor = vendor_at(running.url, asynchronous=True)
    judge(lane_of(vendor, tmp_path, retries=Retries(tries=3, pause_s=0.01)), items(1))
    assert running.stats()["tasks_per_data_id"] == {"id0": 3}


def test_a_decision_that_may_have_been_taken_is_not_told_again(serve, tmp_path):
    running = serve(Fault(kind="server_error", after=True, status=502, operation="feedback"))
    human = Human("https://img.example.com/0.jpg", "block", ("porn",))

    async def main():
        async with lane_of(vendor_at(running.url), tmp_path) as lane:
            await lane.feedback(human)

    with pytest.raises(errors.VendorTimeout, match="perhaps"):
        asyncio.run(main())
    assert running.stats()["feedback_per_image"] == {human.url: 1}


@pytest.mark.parametrize("kind", ["server_error", "drop", "throttled"])
def test_an_upload_costs_nothing_and_is_tried_with_patience(serve, tmp_path, kind):
    running = serve(Fault(kind=kind, operation="put", nth=(1, 2, 3, 4, 5, 6), retry_after_s=0))
    lane = lane_of(vendor_at(running.url), tmp_path, retries=Retries(tries=1, pause_s=0.001))
    (outcome,) = judge(lane, [Item("bytes", content=JPEG)])
    assert told(outcome).keys() == {*SCENES}
    assert running.stats()["calls"]["put"] == 7
    assert running.stats()["calls"]["scan"] == 1


def test_what_is_uploaded_is_sent_again_without_another_upload(serve, tmp_path):
    running = serve(Fault(kind="server_error", operation="scan", nth=(1, 2)))
    (outcome,) = judge(lane_of(vendor_at(running.url), tmp_path), [Item("bytes", content=JPEG)])
    assert outcome.attempts == 3
    assert running.stats()["calls"] == {"uploadcredentials": 1, "put": 1, "scan": 3}


def test_an_upload_that_never_succeeds_fails_its_image_alone_and_is_never_billed(serve, tmp_path):
    running = serve(Fault(kind="server_error", operation="put"))
    retries = Retries(patience_s=0.05, pause_s=0.01)
    batch = [*items(2), Item("bytes", content=JPEG)]
    outcomes = judge(lane_of(vendor_at(running.url), tmp_path, retries=retries), batch)
    assert [told(outcome) for outcome in outcomes] == [*truths(items(2)), "vendor-unavailable"]
    assert running.stats()["calls"]["scan"] == 1
    assert "bytes" not in running.stats()["judged_per_data_id"]


def test_patience_begins_with_the_first_failure_and_not_in_the_queue():
    async def main():
        attempts = Attempts(Retries(patience_s=600))
        await asyncio.sleep(3600)
        throttled = errors.VendorThrottled("slow down")
        attempts.made(throttled)
        assert attempts.again(throttled)
        await asyncio.sleep(599)
        assert attempts.again(throttled)
        await asyncio.sleep(2)
        assert not attempts.again(throttled)

    virtual_time.run(main())
