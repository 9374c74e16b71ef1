"""The lane against an emulated vendor that is slow, full, broken, or fine."""

import asyncio
import collections
import dataclasses
import json

import pytest
from lanes import JPEG, KEYS, SCENES, items, judge, lane_of, told, truths, vendor_at

from beam_moderation import emulator, errors
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota
from beam_moderation.vendors import (
    Alibaba,
    Credentials,
    Human,
    Item,
    Judged,
    KeptAnswers,
    Lane,
    Retries,
    RunningLane,
)
from beam_moderation.vendors.asked import cut
from beam_moderation.vendors.protocol import Limits


class Hasty(Alibaba):
    """Alibaba for a caller that waits but briefly."""

    @property
    def limits(self):
        return dataclasses.replace(super().limits, timeout_s=0.3)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_every_item_gets_its_own_verdicts_in_its_place(serve, tmp_path, asynchronous):
    vendor = vendor_at(serve(task_s=0.1).url, asynchronous=asynchronous, max_items=7)
    batch = items(30)
    outcomes = judge(lane_of(vendor, tmp_path), batch)
    assert [told(outcome) for outcome in outcomes] == truths(batch)
    assert all(outcome.attempts == 1 for outcome in outcomes)
    assert all(outcome.answer.task_id for outcome in outcomes)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_second_run_calls_nobody_and_says_the_same(serve, tmp_path, asynchronous):
    running = serve(task_s=0.1)
    vendor = vendor_at(running.url, asynchronous=asynchronous)
    first = judge(lane_of(vendor, tmp_path), items(10))
    calls = running.stats()["calls"]
    again = vendor_at(running.url, asynchronous=asynchronous, max_items=3)
    lane = lane_of(again, tmp_path)
    assert judge(lane, items(10)) == first
    assert lane.counts["kept"] == 10
    assert running.stats()["calls"] == calls


def test_other_options_or_another_batch_are_asked_anew(serve, tmp_path):
    running = serve()
    judge(lane_of(vendor_at(running.url), tmp_path), items(2))
    judge(lane_of(vendor_at(running.url), tmp_path), items(2), "other")
    judge(lane_of(vendor_at(running.url, interval=2), tmp_path), items(2))
    assert running.stats()["calls"]["scan"] == 3


def test_the_same_item_twice_in_a_batch_is_paid_once(serve, tmp_path):
    running = serve()
    first, second = judge(lane_of(vendor_at(running.url), tmp_path), items(1) * 2)
    assert first is second
    assert running.stats()["billed_units"] == len(SCENES)


def test_one_data_id_for_two_images_gets_two_answers(serve, tmp_path):
    batch = [Item("same", url=item.url) for item in items(12)]
    outcomes = judge(lane_of(vendor_at(serve().url), tmp_path), batch)
    assert [told(outcome) for outcome in outcomes] == truths(batch)


def test_an_empty_batch_calls_nobody(serve, tmp_path):
    running = serve()
    assert judge(lane_of(vendor_at(running.url), tmp_path), []) == []
    assert running.stats()["calls"] == {}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="drop", nth=(1,)),
        Fault(kind="cut", nth=(1,)),
        Fault(kind="server_error", nth=(1, 2), status=502),
        Fault(kind="throttled", nth=(1,), retry_after_s=0),
        Fault(kind="malformed", nth=(1,)),
        Fault(kind="wrong_encoding", nth=(1,)),
        Fault(kind="huge", nth=(1,), size_bytes=11 * 2**20),
        Fault(kind="partial", nth=(1,)),
        Fault(kind="missing_item", nth=(1,)),
        Fault(kind="missing_scene", nth=(1,)),
        Fault(kind="duplicate", nth=(1,)),
        Fault(kind="out_of_order", nth=(1,)),
    ],
    ids=lambda fault: fault.kind,
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_fault_that_ends_costs_no_image_its_verdict(serve, tmp_path, asynchronous, fault):
    running = serve(fault, task_s=0.05)
    batch = items(6)
    vendor = vendor_at(running.url, asynchronous=asynchronous)
    outcomes = judge(lane_of(vendor, tmp_path), batch)
    assert [told(outcome) for outcome in outcomes] == truths(batch)
    assert max(running.stats()["tasks_per_data_id"].values(), default=1) <= 2


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_every_fault_at_once_loses_no_item_and_passes_none(serve, tmp_path, asynchronous):
    kinds = ("drop", "cut", "server_error", "malformed", "wrong_encoding", "partial")
    more = ("missing_item", "duplicate", "out_of_order", "missing_scene")
    faults = [Fault(kind=kind, probability=0.1) for kind in (*kinds, *more)]
    faults.append(Fault(kind="throttled", probability=0.1, retry_after_s=0))
    vendor = vendor_at(serve(*faults, task_s=0.1).url, asynchronous=asynchronous, max_items=5)
    batch = items(60)
    lane = lane_of(vendor, tmp_path, deadline_s=10.0)
    outcomes = judge(lane, batch)
    assert len(outcomes) == 60
    for outcome, truth in zip(outcomes, truths(batch), strict=True):
        unknown = ("vendor-timeout", "vendor-answer-malformed", "vendor-unavailable")
        assert told(outcome) in (truth, *unknown)
    assert sum(isinstance(outcome.answer, Judged) for outcome in outcomes) == lane.counts["judged"]


def test_a_vendor_that_never_answers_is_asked_a_few_times_and_no_more(serve, tmp_path):
    running = serve(Fault(kind="drop", after=True, operation="scan"))
    lane = lane_of(vendor_at(running.url), tmp_path, retries=Retries(tries=3, pause_s=0.01))
    outcomes = judge(lane, items(2))
    assert [told(outcome) for outcome in outcomes] == ["vendor-timeout"] * 2
    assert [outcome.attempts for outcome in outcomes] == [3, 3]
    assert running.stats()["calls"]["scan"] == lane.counts["unanswered_calls"] == 3


def test_an_answer_that_comes_too_late_is_a_timeout(serve, tmp_path):
    running = serve(Fault(kind="delay", delay_s=1.0, nth=(1,)))
    lane = lane_of(vendor_at(running.url, Hasty), tmp_path)
    assert [told(outcome) for outcome in judge(lane, items(2))] == truths(items(2))
    assert lane.counts["unanswered_calls"] == 1


def test_patience_ends_with_a_failure_that_may_be_tried_again(serve, tmp_path):
    running = serve(Fault(kind="throttled", retry_after_s=0))
    retries = Retries(tries=1, patience_s=0.2, pause_s=0.01)
    (outcome,) = judge(lane_of(vendor_at(running.url), tmp_path, retries=retries), items(1))
    assert told(outcome) == "vendor-throttled"
    assert outcome.attempts > 2
    running.set_faults(FaultSpec())
    (outcome,) = judge(lane_of(vendor_at(running.url), tmp_path), items(1))
    assert told(outcome) == truths(items(1))[0]


def test_a_vendor_that_cannot_be_reached_costs_nothing(tmp_path):
    retries = Retries(tries=1, patience_s=0.1, pause_s=0.02)
    lane = lane_of(vendor_at("http://127.0.0.1:9"), tmp_path, retries=retries)
    (outcome,) = judge(lane, items(1))
    assert told(outcome) == "vendor-unavailable"
    assert lane.counts["unanswered_calls"] == 0


def test_images_that_a_vendor_refuses_or_fails_on_fail_alone_and_stay_failed(serve, tmp_path):
    failures = {
        mark: Item(mark, url=f"https://img.example.com/{mark}.jpg")
        for mark in ("404", "download-failed")
    }
    running = serve()
    batch = [*items(3), Item("ftp", url="ftp://img.example.com/0.jpg"), *failures.values()]
    lane = lane_of(vendor_at(running.url), tmp_path)
    outcomes = judge(lane, batch)
    assert [told(outcome) for outcome in outcomes[:3]] == truths(items(3))
    assert told(outcomes[3]) == "vendor-refused-input"
    assert outcomes[3].attempts == 0
    calls = running.stats()["calls"]["scan"]
    assert calls == 1
    judge(lane_of(vendor_at(running.url), tmp_path), batch)
    assert running.stats()["calls"]["scan"] == calls


def test_bytes_are_uploaded_and_judged(serve, tmp_path):
    running = serve()
    batch = [*items(2), Item("bytes", content=JPEG), Item("same bytes", content=JPEG)]
    outcomes = judge(lane_of(vendor_at(running.url), tmp_path), batch)
    expected = {s: emulator.truth("alibaba", JPEG, s).suggestion for s in SCENES}
    assert [told(outcome) for outcome in outcomes] == [*truths(items(2)), expected, expected]
    assert running.stats()["calls"]["uploadcredentials"] == 1


@pytest.mark.parametrize(
    "keys",
    [Credentials("testid", "wrong"), Credentials("nobody", "testsecret")],
    ids=["secret", "key"],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_wrong_key_stops_the_lane_at_once_and_blames_no_image(
    serve, tmp_path, keys, asynchronous
):
    running = serve()
    vendor = vendor_at(running.url, asynchronous=asynchronous, max_items=2)
    lane = lane_of(vendor, tmp_path, keys=lambda: keys, share=Quota(5, None, 1))
    with pytest.raises(errors.VendorRefusedRequest) as raised:
        judge(lane, items(20))
    assert "wrong" not in str(raised.value)
    # While a key that nobody knows is looked up once more, the next call may already be under way.
    assert sum(running.stats()["calls"].values()) <= 2
    assert not list(tmp_path.rglob("*.json"))


def test_keys_that_change_while_the_lane_runs_are_looked_up_again(serve, tmp_path):
    running = serve()
    looked_up = iter([Credentials("nobody", "x"), KEYS])
    lane = lane_of(vendor_at(running.url), tmp_path, keys=lambda: next(looked_up))
    assert [told(outcome) for outcome in judge(lane, items(2))] == truths(items(2))


def test_temporary_keys_are_used_with_their_token(serve, tmp_path):
    keys = Credentials("tempid", "tempsecret", "temptoken")
    lane = lane_of(vendor_at(serve().url), tmp_path, keys=lambda: keys)
    assert [told(outcome) for outcome in judge(lane, items(2))] == truths(items(2))


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", ["after the ids are kept", "while results are looked for"])
def test_a_task_whose_id_was_received_is_never_submitted_again(serve, tmp_path, moment):
    running = serve(task_s=0.2)
    vendor = vendor_at(running.url, asynchronous=True)
    lane = lane_of(vendor, tmp_path)

    async def killed(*_):
        raise Killed

    if moment == "after the ids are kept":
        lane._wait_for = killed
    else:
        lane._query = killed
    with pytest.raises(Killed):
        judge(lane, items(5))
    outcomes = judge(lane_of(vendor, tmp_path), items(5))
    assert [told(outcome) for outcome in outcomes] == truths(items(5))
    assert set(running.stats()["tasks_per_data_id"].values()) == {1}
    assert running.stats()["calls"]["asyncscan"] == 1


def test_a_task_without_a_result_is_given_up_and_not_submitted_again(serve, tmp_path):
    running = serve(task_s=60.0)
    vendor = vendor_at(running.url, asynchronous=True)
    for _ in range(2):
        outcomes = judge(lane_of(vendor, tmp_path, deadline_s=0.2), items(3))
        assert [told(outcome) for outcome in outcomes] == ["vendor-timeout"] * 3
        assert all(outcome.answer.task_id for outcome in outcomes)
    assert set(running.stats()["tasks_per_data_id"].values()) == {1}


def test_a_result_that_the_vendor_no_longer_has_fails_the_item(serve, tmp_path):
    running = serve(task_s=0.01, result_life_s=0.0)
    vendor = vendor_at(running.url, asynchronous=True)
    outcomes = judge(lane_of(vendor, tmp_path), items(2))
    assert [told(outcome) for outcome in outcomes] == ["vendor-task-gone"] * 2
    assert set(running.stats()["tasks_per_data_id"].values()) == {1}


def test_results_that_were_delivered_are_read_at_once_and_not_asked_for(serve, tmp_path):
    running = serve(task_s=0.1)
    vendor = vendor_at(running.url, asynchronous=True)
    first = lane_of(vendor, tmp_path / "first")
    delivered = {}
    for outcome in judge(first, items(4)):
        verdicts = outcome.answer.verdicts
        results = [
            {"scene": v.scene, "label": v.label, "suggestion": v.suggestion, "rate": v.score * 100}
            for v in verdicts
        ]
        delivered[outcome.answer.task_id] = json.dumps({"code": 200, "results": results}).encode()
    asked = []

    def inbox(task_id):
        asked.append(task_id)
        return None if len(asked) < 3 else next(iter(delivered.values()))

    looked = running.stats()["calls"]["results"]
    callback = {"callback": "http://127.0.0.1:9/", "seed": "seed"}
    told_where = dataclasses.replace(vendor, **callback, first_look_s=600.0)
    outcomes = judge(lane_of(told_where, tmp_path / "second", inbox=inbox), items(4))
    assert all(isinstance(outcome.answer, Judged) for outcome in outcomes)
    assert running.stats()["calls"]["results"] == looked


def test_calls_in_flight_stay_within_the_quota(serve, tmp_path):
    running = serve(latency_s=0.05)
    vendor = vendor_at(running.url, max_items=1)
    judge(lane_of(vendor, tmp_path, share=Quota(1000, None, 4)), items(24))
    assert running.stats()["highest_in_flight"] == 4


def test_requests_hold_no_more_images_than_the_quota_has_in_a_second(serve, tmp_path):
    running = serve(images_per_second=10)
    vendor = vendor_at(running.url)
    outcomes = judge(lane_of(vendor, tmp_path, share=Quota(100, 10, 4)), items(20))
    assert [told(outcome) for outcome in outcomes] == truths(items(20))
    assert running.stats()["calls"]["scan"] == 2


def test_feedback_is_told_once_and_told_again_when_nothing_was_taken(serve, tmp_path):
    running = serve(Fault(kind="throttled", nth=(1,), retry_after_s=0, operation="feedback"))
    human = Human("https://img.example.com/0.jpg", "block", ("porn",))

    async def main():
        async with lane_of(vendor_at(running.url), tmp_path) as lane:
            await lane.feedback(human)

    asyncio.run(main())
    assert running.stats()["feedback_per_image"] == {human.url: 1}


def test_a_running_lane_serves_batches_at_once_from_any_thread(serve, tmp_path):
    vendor = vendor_at(serve(latency_s=0.02).url, max_items=5)
    with RunningLane(lane_of(vendor, tmp_path)) as running:
        futures = {n: running.submit(f"batch{n}", items(10, 10 * n)) for n in range(5)}
        for n, future in futures.items():
            assert [told(outcome) for outcome in future.result(30)] == truths(items(10, 10 * n))
        counts = collections.Counter(running.lane.counts)
    assert counts["judged"] == 50
    assert counts["calls"] == 10


def test_a_running_lane_that_is_closed_gives_up_what_is_under_way(serve, tmp_path):
    vendor = vendor_at(serve(latency_s=5.0).url)
    with RunningLane(lane_of(vendor, tmp_path)) as running:
        future = running.submit("batch", items(1))
    assert future.cancelled()


def test_requests_are_cut_by_number_size_and_by_what_must_go_alone():
    limits = Limits(10, 10_000, frozenset(), max_inline_bytes=10_000, max_request_bytes=40_000)
    small = items(25)
    assert [len(request) for request in cut(small, limits, 10)] == [10, 10, 5]
    large = [Item(str(n), content=b"x" * 9_000) for n in range(7)]
    assert [len(request) for request in cut(large, limits, 10)] == [3, 3, 1]
    alone = dataclasses.replace(limits, inline_alone=True)
    mixed = [small[0], large[0], small[1], large[1]]
    assert sorted(len(request) for request in cut(mixed, alone, 10)) == [1, 1, 2]
    by_url = dataclasses.replace(limits, max_inline_bytes=None)
    assert [len(request) for request in cut(large, by_url, 10)] == [7]


class Full(KeptAnswers):
    """Answers for which there is no room."""

    def write(self, batch_id, outcomes):
        raise OSError(28, "No space left on device")


def test_where_answers_cannot_be_kept_no_more_is_paid_for(serve, tmp_path):
    running = serve(latency_s=0.05)
    vendor = vendor_at(running.url, max_items=1)
    full = Full(str(tmp_path), vendor)
    lane = Lane(vendor, lambda: KEYS, Quota(1000, None, 4), full, retries=Retries(pause_s=0.01))
    with pytest.raises((OSError, errors.ConfigurationError)):
        judge(lane, items(60))
    assert running.stats()["calls"]["scan"] <= 8
