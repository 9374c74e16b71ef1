"""The worker of a lane: it stands between bundles, pays for a batch once, and holds few bytes."""

import gc
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from apache_beam.transforms.window import GlobalWindow
from brightness import picture
from vendor_jobs import (
    KEYS,
    QUOTA,
    RETRIES,
    by_id,
    keys,
    read,
    rows,
    run,
    suggestions,
    truths,
    vendor_at,
    write_references,
)

import beam_moderation as bm
from beam_moderation import emulator, errors, messages, records, vendor_worker
from beam_moderation.quota import Quota
from beam_moderation.resumption import Resumption
from beam_moderation.vendor_moderation import ModerateWithVendor, _LaneFn
from beam_moderation.vendors import KeptAnswers, Lane, RunningLane, protocol, standing

HERE = pathlib.Path(__file__).parent


def urls(count, mark=""):
    return [f"https://img.example.com/{mark}{n}.jpg" for n in range(count)]


def batches(folder, uris, batch_size):
    return list(read(write_references(folder / "r.parquet", by_id(uris)), batch_size))


def job(vendor, answers, **options):
    options = {"credentials": keys, "retries": RETRIES, **options}
    return ModerateWithVendor(vendor, answers=str(answers), **options)._job


def bundle(function, of_lane):
    """What one bundle makes of batches."""
    function.start_bundle()
    place = (0, GlobalWindow())
    done = [out for element in of_lane for out in function.process(element, *place)]
    return [*done, *function.finish_bundle()]


def lanes_alive():
    return [thread for thread in threading.enumerate() if thread.name == "vendor-lane"]


def test_lanes_keep_their_pace_from_bundle_to_bundle(emulate, tmp_path):
    running = emulate("alibaba")
    vendor = vendor_at("alibaba", running.url)
    function = _LaneFn(
        job(vendor, tmp_path / "a", quota=Quota(4, None, 4, lanes=4)), Resumption(None)
    )
    todo = batches(tmp_path, urls(24), 2)
    before = lanes_alive()
    for start in range(0, 12, 4):
        bundle(function, enumerate(todo[start : start + 4]))
    assert len([lane for lane in lanes_alive() if lane not in before]) == 4
    assert running.stats()["calls"]["scan"] == 12
    assert running.stats()["highest_calls_per_second"] <= 4


def test_lanes_that_nobody_will_ask_again_are_closed_when_others_are_made(emulate, tmp_path):
    vendor = vendor_at("alibaba", emulate("alibaba").url)
    function = _LaneFn(job(vendor, tmp_path / "a", quota=Quota(100, lanes=3)), Resumption(None))
    todo = batches(tmp_path, urls(6), 2)
    bundle(function, enumerate(todo))
    made = lanes_alive()
    del function
    gc.collect()
    other = _LaneFn(job(vendor, tmp_path / "b", quota=Quota(100)), Resumption(None))
    bundle(other, [(0, todo[0])])
    assert len(lanes_alive()) <= len(made) - 3 + 1


def test_a_lane_that_works_is_not_closed_for_another():
    class Busy:
        idle, closed = False, False

        def close(self):
            self.closed = True

    first, second = Busy(), Busy()
    standing.acquire("first", 0, user := Busy(), lambda: first)
    del user
    gc.collect()
    standing.acquire("second", 0, second, lambda: second)
    assert not first.closed
    first.idle = True
    standing.acquire("third", 0, second, Busy)
    assert first.closed
    assert not second.closed


def worker_of(vendor, answers, **options):
    paced = Lane(vendor, lambda: KEYS, QUOTA, KeptAnswers(str(answers), vendor), retries=RETRIES)
    rules, fetcher = options.pop("rules", bm.Policy.default()), options.pop("fetcher", bm.Fetcher())
    lane = RunningLane(paced).start()
    return vendor_worker.VendorWorker(vendor, lane, fetcher, rules, "run", fit=False, **options)


def test_a_bundle_that_is_done_again_joins_what_the_failed_one_left_under_way(emulate, tmp_path):
    running = emulate("alibaba", latency_s=0.3)
    work = worker_of(vendor_at("alibaba", running.url), tmp_path / "a")
    (batch,) = batches(tmp_path, urls(3), 3)
    first = work.begin(batch, "outcome")
    assert work.begin(batch, "outcome") is first
    assert not work.idle
    first.result()
    again = work.begin(batch, "outcome").result()
    assert again.outcome.images.num_rows == 3
    assert running.stats()["calls"] == {"scan": 1}
    work.close()
    assert work.idle


def block(*places):
    """The same nine messages, cut into batches at some of their places."""
    sent = [
        messages.Message(offset, 0, b"", json.dumps({"data_id": f"{offset}", "uri": uri}).encode())
        for offset, uri in enumerate(urls(9))
    ]
    for first, after in itertools.pairwise((0, *places, 9)):
        cut = messages.MessageBatch("refs", 0, tuple(sent[first:after]), block=(0, 9))
        yield messages.parse_references(cut)


def test_a_stream_that_is_cut_otherwise_is_paid_for_once(emulate, tmp_path):
    running = emulate("alibaba")
    for places in [(4,), (2, 3, 7), ()]:
        lane = job(vendor_at("alibaba", running.url), tmp_path / "a", quota=QUOTA).make_worker(0)
        judged = [lane.begin(batch, batch.id).result().outcome.images for batch in block(*places)]
        lane.close()
        assert sum(images.num_rows for images in judged) == 9
    assert running.stats()["images"] == 9


def test_a_lane_that_was_refused_is_asked_again_by_the_next_bundle(emulate, tmp_path):
    running = emulate("alibaba")
    found = {"keys": protocol.Credentials("testid", "wrongsecret")}
    vendor = vendor_at("alibaba", running.url)
    function = _LaneFn(
        job(vendor, tmp_path / "a", quota=QUOTA, credentials=lambda: found["keys"]),
        Resumption(None),
    )
    (batch,) = batches(tmp_path, urls(2), 2)
    with pytest.raises(errors.VendorRefusedRequest):
        bundle(function, [(0, batch)])
    found["keys"] = keys()
    (done,) = bundle(function, [(0, batch)])
    assert done.value.images.num_rows == 2


def test_the_runner_is_told_of_every_whole_second_of_throttling(tmp_path):
    work = worker_of(vendor_at("alibaba", "http://127.0.0.1:9"), tmp_path)
    told = []
    for _ in range(10):
        work._lane.lane.pacer.throttled_s += 0.3
        told.append(work.take_counts().get("vendor_throttled_s", 0))
    assert (sum(told), max(told)) == (3, 1)
    work.close()


@pytest.mark.parametrize(
    ("uri", "reachable"),
    [
        ("https://img.example.com/1.jpg", True),
        ("http://8.8.8.8/1.jpg", True),
        ("http://10.0.0.7/1.jpg", False),
        ("http://127.0.0.1:8080/1.jpg", False),
        ("http://[::1]/1.jpg", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("http://localhost/1.jpg", False),
        ("http://minio.internal:9000/1.jpg", False),
        ("http://minio.internal/1.jpg", False),
        ("http://93.184.216.34/1.jpg", False),
        ("ftp://img.example.com/1.jpg", False),
        (f"https://img.example.com/{'x' * 2048}", False),
    ],
)
def test_only_urls_of_the_public_web_are_given_to_a_vendor(uri, reachable):
    policy = bm.AddressPolicy(("minio.internal:9000",), ("93.184.216.0/24",))
    assert vendor_worker.is_reachable(uri, bm.Filesystems.of(policy=policy)) is reachable


def test_bytes_are_sent_where_no_url_may_be_shown(emulate, tmp_path):
    running = emulate("huawei")
    image = picture(30)
    sent = {"inline": image}
    references = write_references(tmp_path / "r.parquet", {"url": "http://127.0.0.1:1/x"}, sent)
    run(references, tmp_path / "out", vendor_at("huawei", running.url), send_bytes=True)
    assert suggestions(tmp_path / "out") == truths("huawei", sent)
    (dead,) = rows(tmp_path / "out", "dead_letters")
    assert (dead.data_id, dead.stage) == ("url", "fetch")
    assert running.stats()["calls"] == {"image": 1}


def test_no_policy_passes_what_the_vendor_holds_against_the_whole_image(tmp_path):
    normal = {"scenes": {"porn": {"Normal": "pass", "Porn": "pass"}}, "override_vendors": True}
    work = worker_of(vendor_at("tencent", "http://127.0.0.1:9"), tmp_path, rules=bm.Policy(normal))
    finding = [records.Finding("Normal", 1.0)]
    told = [
        protocol.Verdict("porn", "Normal", 1.0, suggestion, "", finding, {}, floor)
        for suggestion, floor in [("block", "block"), ("block", "pass"), ("pass", "pass")]
    ]
    assert [work._suggestion(verdict) for verdict in told] == ["block", "pass", "pass"]
    work.close()


OBJECTS = {
    "alibaba": ("oss://photos/a/1 2.jpg", {"bucket": "photos"}),
    "tencent": ("cos://photos-1250000000/a/1 2.jpg", {}),
    "huawei": ("obs://photos/a/1 2.jpg", {"bucket": "photos"}),
}
SENT = {
    "alibaba": "oss://photos/a/1 2.jpg",
    "tencent": "a/1 2.jpg",
    "huawei": "https://photos.obs.cn-north-4.myhuaweicloud.com/a/1%202.jpg",
}


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_in_the_operators_bucket_goes_by_its_key_and_nothing_else_does(
    emulate, tmp_path, name
):
    uri, options = OBJECTS[name]
    scheme = uri.partition("://")[0]
    running = emulate(name, bucket="photos")
    others = {"other": f"{scheme}://other-1250000000/a.jpg", "up": f"{uri}/../../b"}
    references = write_references(tmp_path / "r.parquet", {"own": uri, **others})
    run(references, tmp_path / "out", vendor_at(name, running.url, **options))
    assert suggestions(tmp_path / "out") == truths(name, {"own": SENT[name]})
    dead = rows(tmp_path / "out", "dead_letters")
    assert {(row.data_id, row.stage) for row in dead} == {("other", "fetch"), ("up", "fetch")}


def test_an_object_that_scores_high_is_frozen_where_that_was_asked_for(emulate, tmp_path):
    from beam_moderation.vendors.tencent import Freeze

    running = emulate("tencent")
    uris = {mark: f"cos://photos-1250000000/porn-{mark}.jpg" for mark in ("block", "pass")}
    vendor = vendor_at("tencent", running.url, freeze=Freeze(porn_score=90))
    run(write_references(tmp_path / "r.parquet", uris), tmp_path / "out", vendor)
    frozen = {
        row.data_id: json.loads(row.detail)["JobsDetail"]["ForbidState"]
        for row in rows(tmp_path / "out", "scenes")
    }
    assert frozen == {"block": "1", "pass": "0"}


MEASURE = """
import resource, sys
from vendor_jobs import *
from beam_moderation import vendor_worker
import beam_moderation as bm
vendor_worker._PART_BYTES = 4_000_000
folder, url, name = sys.argv[1:]
vendor = vendor_at(name, url, max_items=4)
files = bm.Filesystems.of(roots=[folder], base=f"file://{folder}/")
source = bm.Fetcher(files, bm.FetchLimits(buffer_bytes=4_000_000, concurrency=2))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
write_references(f"{folder}/few.parquet", {"warm": "image"})
run(f"{folder}/few.parquet", f"{folder}/few", vendor, fetcher=source)
before = peak()
run(f"{folder}/r.parquet", f"{folder}/out", vendor, batch_size=16, fetcher=source)
print(peak() - before)
"""


@pytest.mark.integration
def test_images_that_are_fetched_take_little_memory_however_many_wait(tmp_path):
    image = picture(3, size=(1000, 1000), kind="BMP")
    (tmp_path / "image").write_bytes(image)
    count = 240_000_000 // len(image)
    write_references(tmp_path / "r.parquet", {f"id{n}": "image" for n in range(count)})
    with emulator.spawn("alibaba") as running:
        running.stats()
        program = [sys.executable, "-c", MEASURE, str(tmp_path), running.url, "alibaba"]
        exact = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
        done = subprocess.run(
            program, check=False, capture_output=True, text=True, cwd=HERE, env=exact
        )
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "out", "images")) == count
    print(f"{int(done.stdout)} MB for {count * len(image) / 1e6:.0f} MB of images")  # noqa: T201
    assert int(done.stdout) < 130
