"""Deliveries of a vendor: proved, kept, and taken once."""

import contextlib
import http.client
import json
import os
import pathlib
import pickle
import re
import socket
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from deliveries import SEED, UID, files, form, post, result, serving
from vendor_jobs import KEYS, vendor_at

from beam_moderation import callbacks, errors, quota, vendors
from beam_moderation.callbacks import proofs, service
from beam_moderation.callbacks.proofs import checksum
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.vendors import protocol

VECTORS = sorted((pathlib.Path(__file__).parent / "vectors").glob("alibaba_callback_*.json"))


@pytest.fixture
def serve():
    """Starts the service on a free port; returns its URL. All stop after the test."""
    with contextlib.ExitStack() as stack:

        def start(proof, store, **limits):
            app = service.app(proof, store, "/cb", service.ServiceLimits(**limits))
            return stack.enter_context(serving(app)) + "/cb"

        yield start


@pytest.fixture
def alibaba(serve, tmp_path):
    """The service for one account of Alibaba, and the folder that it keeps results in."""
    folder = callbacks.Folder(str(tmp_path / "in"))
    return serve(callbacks.Checksum(UID, SEED), folder), folder


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_recorded_deliveries_are_kept_as_they_came(serve, tmp_path, path):
    recorded = json.loads(path.read_text())
    given = recorded["inputs"]
    folder = callbacks.Folder(str(tmp_path))
    url = serve(callbacks.Checksum(given["uid"], given["seed"]), folder)
    body = recorded["request"]["body"].encode()
    assert post(url, body) == 200
    assert folder(json.loads(given["content"])["taskId"]) == given["content"].encode()


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_recorded_delivery_with_another_content_seed_or_uid_is_refused(serve, tmp_path, path):
    recorded = json.loads(path.read_text())
    given, body = recorded["inputs"], recorded["request"]["body"]
    folder = callbacks.Folder(str(tmp_path))
    url = serve(callbacks.Checksum(given["uid"], given["seed"]), folder)
    other = serve(callbacks.Checksum(given["uid"] + "0", given["seed"]), folder)
    another = serve(callbacks.Checksum(given["uid"], given["seed"] + "0"), folder)
    assert post(url, body.replace("code", "cod3").encode()) == 403
    assert [post(place, body.encode()) for place in (other, another)] == [403, 403]
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"checksum=1", 400),
        (b"checksum=1&content=%FF", 400),
        (b"checksum=1&checksum=2&content=3", 400),
        (b"\xff\xfe", 400),
        (form(result(), checksum=""), 403),
        (form(result(), checksum=checksum(UID, SEED, result()).upper()), 403),
        (form("no JSON"), 400),
        (form("[]"), 400),
        (form('{"code": 200}'), 400),
        (form('{"taskId": 7}'), 400),
    ],
)
def test_what_is_no_delivery_is_refused_and_not_kept(alibaba, tmp_path, body, status):
    url, _ = alibaba
    assert post(url, body) == status
    assert files(tmp_path) == []


def test_a_repeat_is_taken_and_changes_nothing(alibaba, tmp_path):
    url, folder = alibaba
    assert post(url, form(result())) == 200
    (before,) = files(tmp_path)
    stamp = before.stat().st_mtime_ns, before.stat().st_ino
    assert [post(url, form(result())) for _ in range(3)] == [200] * 3
    (after,) = files(tmp_path)
    assert (after.stat().st_mtime_ns, after.stat().st_ino) == stamp
    assert folder("img$1@2") == result().encode()


def test_results_of_many_tasks_are_kept_apart_under_harmless_names(alibaba, tmp_path):
    url, folder = alibaba
    names = ["img$1@2", "../../etc/passwd", "a/b", "图", "x" * 5000]
    for name in names:
        assert post(url, form(result(name))) == 200
    assert [json.loads(folder(name))["taskId"] for name in names] == names
    assert folder("unknown") is None
    assert all(re.fullmatch(r"[0-9a-f]{32}\.result", path.name) for path in files(tmp_path))
    assert len(files(tmp_path)) == len(names)


def test_nothing_is_taken_that_cannot_be_kept(serve, tmp_path):
    (tmp_path / "in").write_text("no folder")
    url = serve(callbacks.Checksum(UID, SEED), callbacks.Folder(str(tmp_path / "in")))
    assert post(url, form(result())) == 503
    (tmp_path / "in").unlink()
    assert post(url, form(result())) == 200


def test_a_result_is_on_the_disk_before_it_is_taken(alibaba, monkeypatch, tmp_path):
    url, _ = alibaba
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file)), fsync(file)))
    assert post(url, form(result())) == 200
    (kept,) = files(tmp_path)
    numbers = {status.st_ino for status in synced}
    assert {kept.stat().st_ino, kept.parent.stat().st_ino} <= numbers


def test_a_body_that_is_too_large_is_not_read_to_its_end(serve, tmp_path):
    folder = callbacks.Folder(str(tmp_path))
    url = serve(callbacks.Checksum(UID, SEED), folder, max_bytes=1000)
    assert post(url, form(result(padding="x" * 1000))) == 413
    assert post(url, iter([b"x" * 500] * 4)) == 413
    assert post(url, form(result())) == 200
    assert len(files(tmp_path)) == 1


def test_a_body_that_does_not_come_is_not_waited_for(serve, tmp_path):
    url = serve(callbacks.Checksum(UID, SEED), callbacks.Folder(str(tmp_path)), timeout_s=0.1)
    host, port = urllib.parse.urlsplit(url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /cb HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        assert b" 408 " in connection.recv(1000)


def test_more_posts_than_a_second_has_room_for_are_told_to_come_again(serve, tmp_path):
    url = serve(callbacks.Checksum(UID, SEED), callbacks.Folder(str(tmp_path)), per_second=2)
    statuses = [post(url, b"") for _ in range(20)]
    assert 429 in statuses
    assert statuses[:2] == [400, 400]


def test_strangers_do_not_keep_the_vendors_deliveries_out(serve, tmp_path):
    folder = callbacks.Folder(str(tmp_path))
    url = serve(callbacks.Checksum(UID, SEED), folder, per_second=1)
    assert 429 in [post(url, form(result(), seed="guess")) for _ in range(20)]
    assert [post(url, form(result(f"t{n}"))) for n in range(20)] == [200] * 20
    assert post(url, form(result(), seed="guess")) == 429
    assert len(files(tmp_path)) == 20


def test_other_methods_and_paths_are_not_there(alibaba):
    url, _ = alibaba
    assert post(url, b"", "GET") == 405
    assert post(url + "x", b"") == 404


@pytest.fixture
def tencent(serve, emulate, tmp_path):
    """An emulated account of Tencent, and the service that asks it."""
    running = emulate("tencent", task_s=0.02)
    vendor = vendor_at("tencent", running.url, scenes=("terrorism",), asynchronous=True)
    folder = callbacks.Folder(str(tmp_path / "in"))
    return running, vendor, serve(callbacks.Confirmation(vendor, lambda: KEYS), folder), folder


def submit(vendor, url):
    """A job of Tencent's."""
    item = protocol.Item("a", url=url)
    request = vendor.scan([item], KEYS, time.time(), "n")
    address = urllib.parse.urlsplit(request.url)
    with contextlib.closing(http.client.HTTPConnection(address.netloc)) as connection:
        connection.request("POST", address.path, request.body, dict(request.headers))
        response = connection.getresponse()
        body = protocol.Response(response.status, {}, response.read())
    (answer,) = vendor.read_scan([item], body)
    return protocol.Task(answer.task_id, [item])


def named(job_id):
    return json.dumps({"code": 0, "data": {"trace_id": job_id, "result": 0}})


def until_taken(url, body):
    status = 503
    while status == 503:
        status = post(url, body)
    return status


def test_tencents_own_word_is_kept_and_not_that_of_the_post(tencent):
    running, vendor, url, folder = tencent
    task = submit(vendor, "https://img.example.com/porn-block.jpg")
    assert until_taken(url, named(task.task_id)) == 200
    asked = running.stats()["calls"]["query"]
    porn = vendors.Tencent("b-1", "r", scenes=("porn",), asynchronous=True)
    ((_, answer),) = porn.read_callback(task, folder(task.task_id))
    assert [verdict.suggestion for verdict in answer.verdicts] == ["block"]
    assert post(url, named(task.task_id)) == 200
    assert running.stats()["calls"]["query"] == asked


def test_a_job_that_is_not_finished_is_to_be_delivered_again(emulate, serve, tmp_path):
    running = emulate("tencent", task_s=60.0)
    vendor = vendor_at("tencent", running.url, asynchronous=True)
    folder = callbacks.Folder(str(tmp_path))
    url = serve(callbacks.Confirmation(vendor, lambda: KEYS), folder)
    task = submit(vendor, "https://img.example.com/a.jpg")
    assert post(url, named(task.task_id)) == 503
    assert folder(task.task_id) is None


@pytest.mark.parametrize(
    ("body", "status", "queries"),
    [
        (named("si0123456789"), 403, 1),
        (named("../../report/badcase"), 400, 0),
        (named("a?b"), 400, 0),
        (b"[]", 400, 0),
        (b"{}", 400, 0),
        (json.dumps({"JobsDetail": {"JobId": ""}}), 400, 0),
    ],
)
def test_a_forged_post_costs_tencent_at_most_a_query(tencent, body, status, queries):
    running, _, url, folder = tencent
    assert post(url, body) == status
    assert sum(running.stats()["calls"].values()) == queries
    assert folder("si0123456789") is None


def test_posts_of_an_unknown_job_cause_one_query(tencent):
    running, _, url, _ = tencent
    assert [post(url, named("si0123456789")) for _ in range(5)] == [403] * 5
    assert running.stats()["calls"] == {"query": 1}


def test_forged_posts_cause_no_more_queries_than_the_quota(emulate, serve, tmp_path):
    running = emulate("tencent")
    vendor = vendor_at("tencent", running.url, asynchronous=True)
    proof = callbacks.Confirmation(vendor, lambda: KEYS, quota.Quota(3, max_in_flight=2))
    url = serve(proof, callbacks.Folder(str(tmp_path)), timeout_s=2.0)
    with ThreadPoolExecutor(20) as pool:
        statuses = set(pool.map(lambda n: post(url, named(f"si{n}")), range(20)))
    assert statuses == {403, 503}
    assert running.stats()["highest_calls_per_second"] <= 3
    assert running.stats()["highest_in_flight"] <= 2


def test_many_unknown_jobs_are_forgotten_and_not_all_remembered(monkeypatch):
    unknown = proofs._Unknown()
    monkeypatch.setattr(proofs, "_UNKNOWN_IDS", 2)
    for job_id in ("a", "b", "c"):
        unknown.add(job_id)
    assert ["a" in unknown, "b" in unknown, "c" in unknown] == [False, True, True]
    monkeypatch.setattr(proofs, "_UNKNOWN_FOR_S", 0.0)
    unknown.add("d")
    assert "d" not in unknown


def test_while_tencent_does_not_answer_nothing_is_taken(tencent):
    running, vendor, url, _ = tencent
    task = submit(vendor, "https://img.example.com/a.jpg")
    running.set_faults(FaultSpec(faults=[Fault(kind="server_error", operation="query")]))
    assert post(url, named(task.task_id)) == 503
    running.set_faults(FaultSpec())
    assert until_taken(url, named(task.task_id)) == 200


def test_an_inbox_travels_to_workers_and_shows_no_result(tmp_path):
    folder = callbacks.Folder(str(tmp_path))
    folder.keep("t", b"content")
    assert pickle.loads(pickle.dumps(folder))("t") == b"content"
    assert "content" not in repr(folder)


def test_results_are_kept_in_object_stores_too():
    folder = callbacks.open_store("memory://in")
    folder.keep("t", b"content")
    assert (folder("t"), folder("u"), folder.has("t"), folder.has("u")) == (
        b"content",
        None,
        True,
        False,
    )


@pytest.mark.parametrize("place", ["kafka://", "kafka://host:9092", "kafka://h/a/b", "nosuch://x"])
def test_a_place_that_cannot_be_is_a_mistake(place):
    with pytest.raises(errors.ConfigurationError):
        callbacks.open_store(place)
