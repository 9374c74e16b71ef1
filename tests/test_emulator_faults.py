"""The emulated vendors' callbacks, and what they break on demand."""

import hashlib
import http.client
import http.server
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import emulator_calls as calls
import pytest
from emulator_calls import BLOCKED, URLS, Emulate, Faulty, Urls, one_fault, url_input

from beam_moderation import emulator
from beam_moderation.emulator.faults import FaultPlan

pytest_plugins = ["beam_moderation.emulator.pytest_plugin", "emulator_accounts"]


class Receiver:
    """A server on loopback that answers a number of posts with 500 and the next with 200."""

    def __init__(self, refusals: int, expected: int) -> None:
        self.posts: list[tuple[Any, bytes]] = []
        self.done = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((self.headers, body))
                self.send_response(500 if len(receiver.posts) <= refusals else 200)
                self.end_headers()
                if len(receiver.posts) == expected:
                    receiver.done.set()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    receivers: list[Receiver] = []

    def start(refusals: int, expected: int) -> Receiver:
        receivers.append(Receiver(refusals, expected))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.server.shutdown()
        receiver.server.server_close()


def test_alibaba_repeats_a_callback_until_it_is_taken(
    emulate: Emulate, receive: Callable[..., Receiver]
) -> None:
    receiver = receive(refusals=2, expected=3)
    running = emulate("alibaba", task_s=0, callback_interval_s=0, uid="42")
    calls.scan(running.url, BLOCKED, operation="asyncscan", callback=receiver.url, seed="seed_1")
    assert receiver.done.wait(10)
    assert len({body for _, body in receiver.posts}) == 1
    form = dict(urllib.parse.parse_qsl(receiver.posts[0][1].decode(), strict_parsing=True))
    expected = hashlib.sha256(f"42seed_1{form['content']}".encode()).hexdigest()
    assert form["checksum"] == expected
    content = json.loads(form["content"])
    assert content["results"][0]["suggestion"] == "block"
    assert {"code", "msg", "dataId", "taskId", "results"} <= content.keys()


@pytest.mark.parametrize("version", ["Detail", "Simple"])
def test_tencent_posts_the_result_as_json(
    emulate: Emulate, receive: Callable[..., Receiver], version: str
) -> None:
    receiver = receive(refusals=0, expected=1)
    url = emulate("tencent", task_s=0, callback_version=version).url
    conf = f"<Async>1</Async><Callback>{receiver.url}</Callback>"
    submitted = calls.batch(url, url_input(BLOCKED, "<DataId>d0</DataId>"), conf=conf).text
    assert receiver.done.wait(10)
    headers, body = receiver.posts[0]
    assert headers["X-Ci-Content-Version"] == version
    document = json.loads(body)
    job_id = re.findall("<JobId>(.*?)</JobId>", submitted)[0]
    if version == "Simple":
        data = document["data"]
        assert (document["code"], data["trace_id"], data["result"]) == (0, job_id, 1)
        assert data["porn_info"]["hit_flag"] == 1
    else:
        assert document["JobsDetail"]["JobId"] == job_id
        assert document["JobsDetail"]["PornInfo"]["HitFlag"] == 1


def test_fault_sends_a_taken_callback_again(
    emulate: Emulate, receive: Callable[..., Receiver]
) -> None:
    receiver = receive(refusals=0, expected=2)
    faults = one_fault("duplicate", operation="callback")
    url = emulate("alibaba", task_s=0, faults=faults).url
    calls.scan(url, BLOCKED, operation="asyncscan", callback=receiver.url, seed="s")
    assert receiver.done.wait(10)
    assert receiver.posts[0][1] == receiver.posts[1][1]


def test_fault_hits_the_named_calls_of_the_named_operation() -> None:
    plan = FaultPlan(one_fault("delay", operation="scan", nth=(2, 4)))
    assert [bool(plan.draw("scan")) for _ in range(5)] == [False, True, False, True, False]
    assert not any(plan.draw("results") for _ in range(5))


def test_fault_by_chance_hits_the_same_calls_in_every_run() -> None:
    def hits(seed: int) -> list[bool]:
        faults = (emulator.Fault(kind="drop", probability=0.2),)
        plan = FaultPlan(emulator.FaultSpec(seed=seed, faults=faults))
        return [bool(plan.draw("scan")) for _ in range(1000)]

    assert hits(1) == hits(1) != hits(2)
    assert 150 < sum(hits(1)) < 250


def test_spec_is_read_from_yaml(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("seed: 7\nfaults:\n  - {kind: throttled, nth: [3], retry_after_s: 2}\n")
    fault = emulator.read_faults(path).faults[0]
    assert (fault.kind, fault.nth, fault.retry_after_s) == ("throttled", (3,), 2)


def test_dropped_call_gets_no_byte_and_is_not_seen_by_the_vendor(emulate: Emulate) -> None:
    running = emulate("alibaba", faults=one_fault("drop", nth=(1,)))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        calls.scan(running.url, BLOCKED)
    assert running.stats()["billed_units"] == 0
    assert calls.scan(running.url, BLOCKED).json["code"] == 200


def test_call_dropped_after_the_work_is_billed(emulate: Emulate) -> None:
    running = emulate("alibaba", faults=one_fault("drop", after=True))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        calls.scan(running.url, BLOCKED)
    assert running.stats()["billed_units"] == 1
    assert running.stats()["faults"] == {"drop": 1}


def test_cut_answer_ends_before_its_length(faulty: Faulty) -> None:
    url = faulty("alibaba", "cut")
    with pytest.raises(http.client.IncompleteRead):
        calls.scan(url, BLOCKED)


def test_throttled_answer_says_when_to_come_again(faulty: Faulty) -> None:
    url = faulty("huawei", "throttled", retry_after_s=3)
    answer = calls.judge(url, BLOCKED)
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    faulty("huawei", "throttled")
    assert "retry-after" not in calls.judge(url, BLOCKED).headers


def test_server_error_has_the_status_of_the_fault(faulty: Faulty) -> None:
    url = faulty("tencent", "server_error", status=502)
    answer = calls.batch(url, url_input(BLOCKED))
    assert answer.status == 502
    assert "<Code>InternalError</Code>" in answer.text


def test_malformed_answer_is_half_of_one(faulty: Faulty) -> None:
    answer = calls.scan(faulty("alibaba", "malformed"), BLOCKED)
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json  # noqa: B018


def test_answer_in_the_wrong_encoding_is_not_utf_8(faulty: Faulty) -> None:
    answers = [
        calls.scan(faulty("alibaba", "wrong_encoding"), BLOCKED),
        calls.batch(faulty("tencent", "wrong_encoding"), url_input(BLOCKED)),
    ]
    for answer in answers:
        assert answer.status == 200
        with pytest.raises(UnicodeDecodeError):
            answer.body.decode()


def test_huge_answer_is_a_good_one_without_a_length(faulty: Faulty) -> None:
    url = faulty("alibaba", "huge", size_bytes=1_000_000)
    answer = calls.scan(url, BLOCKED)
    assert len(answer.body) > 900_000
    assert "content-length" not in answer.headers
    assert answer.json["code"] == 200


def test_items_of_an_answer_go_missing_twice_or_astray(faulty: Faulty) -> None:
    def data_ids(kind: str) -> list[str]:
        answer = calls.scan(faulty("alibaba", kind), *URLS[:3])
        return [item["dataId"] for item in answer.json["data"]]

    assert data_ids("missing_item") == ["d0", "d1"]
    assert data_ids("duplicate") == ["d0", "d0", "d1", "d2"]
    assert data_ids("out_of_order") == ["d2", "d1", "d0"]


def test_partial_answer_holds_failed_items(faulty: Faulty) -> None:
    alibaba, tencent, huawei = (faulty(vendor, "partial") for vendor in emulator.VENDORS)
    items = calls.scan(alibaba, *URLS[:2]).json["data"]
    assert [item["code"] for item in items] == [500, 200]
    assert "results" not in items[0]
    answer = calls.batch(tencent, *map(url_input, URLS[:2])).text
    assert re.findall(r"<State>(\w+)", answer) == ["Failed", "Success"]
    items = calls.judge(huawei, *URLS[:2]).json["result"]
    assert [item.get("error_code") for item in items] == ["AIS.0401", None]


def test_scene_goes_missing(faulty: Faulty) -> None:
    alibaba, tencent, huawei = (faulty(vendor, "missing_scene") for vendor in emulator.VENDORS)
    items = calls.scan(alibaba, *URLS[:2], scenes=["porn", "ad"]).json["data"]
    assert [len(item["results"]) for item in items] == [1, 2]
    answer = calls.batch(tencent, *map(url_input, URLS[:2])).text
    assert (answer.count("<PornInfo>"), answer.count("<AdsInfo>")) == (2, 1)
    items = calls.judge(huawei, *URLS[:2], categories=["porn", "ad"]).json["result"]
    assert [list(item["detail"]) for item in items] == [["porn"], ["porn", "ad"]]


def test_faults_are_shown_replaced_and_cleared_over_http(urls: Urls) -> None:
    url = urls["alibaba"]
    body = b"seed: 3\nfaults: [{kind: delay, delay_s: 0}]"
    assert calls.send(url, "PUT", "/_faults", {}, body).status == 200
    shown = calls.send(url, "GET", "/_faults").json
    assert (shown["seed"], shown["faults"][0]["kind"]) == (3, "delay")
    assert calls.send(url, "PUT", "/_faults", {}, b"faults: [{kind: nothing}]").status == 400
    assert calls.send(url, "DELETE", "/_faults").json["faults"] == []
