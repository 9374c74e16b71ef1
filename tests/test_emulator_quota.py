"""The emulated vendors' quota, and the life of their tasks."""

import re

import emulator_calls as calls
import pytest
from emulator_calls import BLOCKED, MISSING, URLS, Emulate, url_input

from beam_moderation import emulator
from beam_moderation.emulator.ledger import Ledger, OverQuota, SlidingSecond

pytest_plugins = ["beam_moderation.emulator.pytest_plugin", "emulator_accounts"]


def test_sliding_second_forgets_what_is_a_second_old() -> None:
    window = SlidingSecond()
    for now in (0.0, 0.5, 0.999):
        window.add(now)
    assert window.count(0.999) == 3
    assert window.count(1.0) == 2
    window.add(1.25, 2)
    assert (window.count(1.5), window.highest) == (3, 4)


def test_sliding_second_takes_what_comes_out_of_order_as_the_latest() -> None:
    window = SlidingSecond()
    window.add(5.0)
    window.add(4.0)
    assert (window.count(5.5), window.count(6.0)) == (2, 0)


def test_ledger_accepts_exactly_the_rate() -> None:
    ledger = Ledger(emulator.Settings(calls_per_second=2))
    ledger.admit_call("scan", now=0.0)
    ledger.admit_call("scan", now=0.5)
    with pytest.raises(OverQuota):
        ledger.admit_call("scan", now=0.9)
    ledger.admit_call("scan", now=1.0)
    with pytest.raises(OverQuota):
        ledger.admit_call("scan", now=1.0)


def test_ledger_accepts_exactly_so_many_calls_in_flight() -> None:
    ledger = Ledger(emulator.Settings(max_in_flight=1))
    with ledger.call("scan", "scan", now=0.0):
        ledger.admit_call("scan", now=0.0)
        with ledger.call("scan", "scan", now=0.0), pytest.raises(OverQuota):
            ledger.admit_call("scan", now=0.0)
    assert ledger.stats()["highest_in_flight"] == 2
    assert ledger.stats()["in_flight"] == 0


def test_feedback_has_a_rate_of_its_own() -> None:
    ledger = Ledger(emulator.Settings(feedback_per_second=1, calls_per_second=1))
    ledger.admit_call("scan", now=0.0)
    ledger.admit_call("feedback", now=0.0)
    with pytest.raises(OverQuota):
        ledger.admit_call("feedback", now=0.0)


def test_call_over_quota_gets_the_vendors_own_refusal(emulate: Emulate) -> None:
    none = {"calls_per_second": 0}
    alibaba = calls.scan(emulate("alibaba", **none).url, BLOCKED)
    assert (alibaba.status, alibaba.json["Code"]) == (400, "Throttling.User")
    tencent = calls.batch(emulate("tencent", **none).url, url_input(BLOCKED))
    assert tencent.status == 503
    assert "<Code>SlowDown</Code>" in tencent.text
    huawei = calls.judge(emulate("huawei", **none).url, BLOCKED)
    assert (huawei.status, huawei.json["error_code"]) == (429, "APIG.0308")


def test_alibaba_refuses_images_over_quota_with_code_588(emulate: Emulate) -> None:
    running = emulate("alibaba", images_per_second=3)
    assert calls.scan(running.url, *URLS[:3]).json["code"] == 200
    answer = calls.scan(running.url, *URLS[:4])
    assert (answer.status, answer.json["code"]) == (200, 588)
    assert running.stats()["refused"] == {"588": 1}
    assert running.stats()["images"] == 3


@pytest.mark.integration
def test_emulator_in_a_process_of_its_own_answers_and_counts() -> None:
    with emulator.spawn("alibaba", emulator.Settings(calls_per_second=1)) as running:
        assert calls.scan(running.url, BLOCKED).json["code"] == 200
        assert running.stats()["calls"] == {"scan": 1}


def test_documented_quota_is_that_of_the_vendor() -> None:
    assert emulator.Settings.documented("alibaba").calls_per_second == 50
    assert emulator.Settings.documented("huawei").max_in_flight == 10


def test_alibaba_task_is_pending_then_done_then_expired(emulate: Emulate) -> None:
    now = [1_000_000_000.0]
    url = emulate("alibaba", clock=lambda: now[0], clock_skew_s=1e12, task_s=10).url
    items = calls.scan(url, BLOCKED, MISSING, operation="asyncscan").json["data"]
    task_ids = [item["taskId"] for item in items]

    def codes() -> list[int]:
        return [item["code"] for item in calls.alibaba(url, "results", task_ids).json["data"]]

    assert codes() == [280, 280]
    now[0] += 15
    assert codes() == [200, 404]
    now[0] += 3600
    assert codes() == [594, 594]


def test_tencent_job_is_audited_later_and_kept_a_month(emulate: Emulate) -> None:
    now = [1_000_000_000.0]
    url = emulate("tencent", clock=lambda: now[0], task_s=10).url
    window = (0, 2**40)
    body = f"<Request><Input>{url_input(BLOCKED)}</Input><Conf><Async>1</Async></Conf></Request>"
    answer = calls.tencent(url, "POST", "/image/auditing", body, window=window).text
    assert "<State>Submitted</State>" in answer
    path = "/image/auditing/" + re.findall("<JobId>(.*?)</JobId>", answer)[0]

    def state() -> list[str]:
        return re.findall(
            r"<State>(\w+)|<Code>(R\w+)", calls.tencent(url, "GET", path, window=window).text
        )[0]

    assert state() == ("Auditing", "")
    now[0] += 15
    assert state() == ("Success", "")
    now[0] += 31 * 86_400
    assert state() == ("", "ResourceNotFound")


def test_huawei_job_counts_to_the_backlog_until_it_is_done(emulate: Emulate) -> None:
    now = [1_000_000_000.0]
    clock = {"clock": lambda: now[0], "clock_skew_s": 1e12}
    url = emulate("huawei", **clock, task_s=10, max_jobs=2).url
    job_ids = [calls.judge(url, BLOCKED, path="batch/jobs").json["result"]["job_id"] for _ in "12"]
    refused = calls.judge(url, BLOCKED, path="batch/jobs")
    assert (refused.status, refused.json["error_code"]) == (400, "AIS.0031")
    path = f"/v1.0/moderation/image/batch?job_id={job_ids[0]}"
    assert calls.huawei(url, "GET", path).json["result"]["status"] == "running"
    now[0] += 15
    result = calls.huawei(url, "GET", path).json["result"]
    assert (result["status"], result["items"][0]["suggestion"]) == ("finish", "block")
    assert calls.judge(url, BLOCKED, path="batch/jobs").status == 200
    jobs = calls.huawei(url, "GET", "/v1.0/moderation/image/batch/jobs?status=finish").json
    assert [job["job_id"] for job in jobs["result"]] == job_ids
    now[0] += 1800
    assert calls.huawei(url, "GET", path).json["error_code"] == "AIS.0030"


def test_statistics_count_tasks_and_bills_by_data_id(emulate: Emulate) -> None:
    running = emulate("alibaba")
    calls.scan(running.url, BLOCKED, operation="asyncscan", scenes=["porn", "ad"])
    calls.scan(running.url, BLOCKED, URLS[0])
    stats = running.stats()
    assert stats["tasks_per_data_id"] == {"d0": 1}
    assert stats["judged_per_data_id"] == {"d0": 2, "d1": 1}
    assert stats["billed_units"] == 4
    assert stats["calls"] == {"asyncscan": 1, "scan": 1}
    assert stats["highest_in_flight"] == 1
