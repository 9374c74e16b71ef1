"""A vendor that says to slow down is obeyed, within reason."""

import asyncio

import pytest
from lanes import items, judge, lane_of, told, truths, vendor_at

from beam_moderation.emulator import Fault
from beam_moderation.quota import Quota
from beam_moderation.vendors import client


def test_a_request_that_waited_long_for_its_turn_is_signed_anew(serve, tmp_path, monkeypatch):
    running = serve(Fault(kind="throttled", nth=(1,), retry_after_s=3), clock_skew_s=1.5)
    monkeypatch.setattr(client, "_FRESH_S", 0.5)
    (outcome,) = judge(lane_of(vendor_at(running.url), tmp_path), items(1))
    assert (told(outcome), outcome.attempts) == (truths(items(1))[0], 2)
    assert running.stats()["refused"] == {}


def test_below_an_account_that_has_less_than_was_said_the_pace_falls_until_it_fits(serve, tmp_path):
    running = serve(calls_per_second=40)
    vendor = vendor_at(running.url, max_items=1)
    refused = []

    async def main():
        async with lane_of(vendor, tmp_path, share=Quota(120, None, 30)) as lane:
            for part in range(3):
                batch = items(60, 60 * part)
                outcomes = await lane.judge(f"batch{part}", batch)
                assert [told(outcome) for outcome in outcomes] == truths(batch)
                refused.append(sum(running.stats()["refused"].values()) - sum(refused))
            return lane.pacer._pace

    pace = asyncio.run(main())
    assert pace < 0.7
    # Of calls at three times the rate that the account has, two of three would be refused.
    assert 0 < sum(refused) <= 18
    assert refused[2] <= max(1, refused[0])


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_was_throttled_is_judged_and_billed_once(serve, tmp_path, asynchronous):
    running = serve(Fault(kind="throttled", probability=0.3, retry_after_s=0), task_s=0.02)
    vendor = vendor_at(running.url, asynchronous=asynchronous, max_items=2)
    outcomes = judge(lane_of(vendor, tmp_path), items(20))
    assert [told(outcome) for outcome in outcomes] == truths(items(20))
    assert set(running.stats()["judged_per_data_id"].values()) == {1}
