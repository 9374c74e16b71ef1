"""Quotas and the pacer, on a loop whose clock is simulated."""

import asyncio
import random

import pytest
import virtual_time

from beam_moderation import errors
from beam_moderation.quota import Pacer, Quota

LATE = {"late_s": 0.0015, "stall_s": 0.08}


def busiest_second(sent):
    """The most images, and the most calls, in any second that starts with a call."""
    most_calls = most_images = images = first = 0
    for last, (at, count) in enumerate(sent):
        images += count
        while sent[first][0] <= at - 1:
            images -= sent[first][1]
            first += 1
        most_calls = max(most_calls, last - first + 1)
        most_images = max(most_images, images)
    return most_calls, most_images


async def work(pacer, *, for_s, images=1, latency_s=0.2, workers=None):
    """Calls for `for_s` seconds with as many workers as the quota's places; says when they left."""
    loop = asyncio.get_running_loop()
    end = loop.time() + for_s
    sent, in_flight, most = [], 0, 0

    async def worker():
        nonlocal in_flight, most
        while loop.time() < end:
            async with pacer.place(images) as turn:
                await turn.leave()
                sent.append((turn.left_at, images))
                in_flight += 1
                most = max(most, in_flight)
                await asyncio.sleep(latency_s * random.Random(len(sent)).uniform(0.5, 1.5))
                in_flight -= 1

    workers = workers or pacer.quota.max_in_flight + 5
    await asyncio.gather(*(worker() for _ in range(workers)))
    return [(at, count) for at, count in sent if at < end], most


@pytest.mark.parametrize(("rate", "late"), [(5, LATE), (50, {}), (50, LATE), (300, LATE)])
def test_no_sliding_second_is_above_the_quota_and_a_minute_uses_97_percent(rate, late):
    pacer = Pacer(Quota(rate, max_in_flight=rate))
    sent, _ = virtual_time.run(work(pacer, for_s=60), virtual_time.VirtualLoop(**late))
    assert busiest_second(sent)[0] <= rate
    assert len(sent) >= 0.97 * rate * 60


@pytest.mark.parametrize("images_per_second", [50, 250, 300, 1000])
def test_images_of_any_sliding_second_stay_within_the_quota_and_use_97_percent(images_per_second):
    quota = Quota(50, images_per_second, max_in_flight=50)
    images = quota.items_a_call(100)
    sent, _ = virtual_time.run(
        work(Pacer(quota), for_s=60, images=images), virtual_time.VirtualLoop(**LATE)
    )
    assert busiest_second(sent)[1] <= images_per_second
    assert len(sent) * images >= 0.97 * images_per_second * 60


def test_a_call_that_is_written_late_counts_from_then():
    pacer = Pacer(Quota(10, max_in_flight=10))

    async def stalled():
        async with pacer.place(1) as turn:
            await turn.leave()
            await asyncio.sleep(0.5)
            turn.sent()
        return turn.left_at, await work(pacer, for_s=3, workers=10)

    late, (sent, _) = virtual_time.run(stalled())
    assert busiest_second([(late, 1), *sent])[0] <= 10


def test_calls_in_flight_never_exceed_the_quota():
    pacer = Pacer(Quota(300, max_in_flight=7))
    sent, most = virtual_time.run(work(pacer, for_s=10, latency_s=1.0, workers=40))
    assert most == 7
    assert len(sent) >= 60


def test_a_call_that_fails_before_it_leaves_gives_its_place_back():
    pacer = Pacer(Quota(2, max_in_flight=1))

    async def fail_then_work():
        for _ in range(10):
            with pytest.raises(OSError, match="refused"):
                async with pacer.place(1):
                    raise OSError("refused")
        return await work(pacer, for_s=5, workers=1)

    sent, _ = virtual_time.run(fail_then_work())
    assert len(sent) >= 9


def test_a_vendor_that_wants_a_pause_of_a_day_is_asked_again_after_a_minute():
    async def main():
        pacer = Pacer(Quota(10))
        async with pacer.place(1) as turn:
            await turn.leave()
        left_at = turn.left_at
        pacer.throttled(turn, retry_after_s=86_400.0)
        async with pacer.place(1) as turn:
            await turn.leave()
        assert 60 <= turn.left_at - left_at < 62

    virtual_time.run(main())


def test_throttling_pauses_for_as_long_as_the_vendor_says_and_then_halves_the_pace():
    pacer = Pacer(Quota(100, max_in_flight=100))

    async def throttled():
        async with pacer.place(1) as turn:
            await turn.leave()
        pacer.throttled(turn, retry_after_s=7.0)
        return turn.left_at, await work(pacer, for_s=9)

    left_at, (sent, _) = virtual_time.run(throttled())
    assert sent[0][0] >= left_at + 7.0
    first_second = [at for at, _ in sent if at < sent[0][0] + 1]
    assert 40 <= len(first_second) <= 75


def test_one_burst_of_throttled_answers_halves_the_pace_once_and_it_recovers():
    pacer = Pacer(Quota(100, max_in_flight=100))

    async def throttled():
        turns = []
        for _ in range(5):
            async with pacer.place(1) as turn:
                await turn.leave()
            turns.append(turn)
        for turn in turns:
            pacer.throttled(turn)
        return await work(pacer, for_s=60)

    sent, _ = virtual_time.run(throttled())
    start = sent[0][0]
    assert sum(at < start + 1 for at, _ in sent) >= 45
    assert sum(start + 40 <= at < start + 50 for at, _ in sent) >= 970


def test_waiting_for_the_quota_is_counted_as_throttled_time():
    pacer = Pacer(Quota(5, max_in_flight=10))
    virtual_time.run(work(pacer, for_s=20, latency_s=0.01))
    assert 18 <= pacer.throttled_s <= 24


def test_a_call_with_more_images_than_the_quota_is_refused():
    async def place():
        async with Pacer(Quota(5, 10)).place(11):
            pass

    with pytest.raises(ValueError, match="11 images"):
        virtual_time.run(place())


@pytest.mark.parametrize("lanes", [1, 3, 7])
def test_the_shares_of_the_lanes_add_up_to_the_quota(lanes):
    quota = Quota(50, 101, 7, lanes)
    shares = [quota.share(lane) for lane in range(lanes)]
    assert sum(share.calls_per_second for share in shares) == 50
    assert sum(share.images_per_second for share in shares) == 101
    assert sum(share.max_in_flight for share in shares) == 7


@pytest.mark.parametrize(
    "options",
    [
        {"calls_per_second": 0},
        {"calls_per_second": 2.5},
        {"calls_per_second": True},
        {"calls_per_second": 5, "images_per_second": -1},
        {"calls_per_second": 5, "max_in_flight": 0},
        {"calls_per_second": 5, "lanes": 6},
        {"calls_per_second": 5, "max_in_flight": 2, "lanes": 3},
    ],
    ids=str,
)
def test_a_quota_that_cannot_be_kept_or_shared_is_a_mistake_of_the_operator(options):
    with pytest.raises(errors.ConfigurationError, match="quota"):
        Quota(**options)


@pytest.mark.parametrize(
    ("images_per_second", "expected"), [(None, 100), (50, 50), (250, 83), (100, 100), (3, 3)]
)
def test_calls_are_as_large_as_leaves_none_of_the_image_quota_unused(images_per_second, expected):
    assert Quota(50, images_per_second).items_a_call(100) == expected
