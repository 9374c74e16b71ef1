"""A backfill by a vendor that is killed at random and started again pays for next to nothing twice.

What no client can know is whether a request whose answer it did not live to see was judged: those
that were in flight at the kill are sent, and paid, again. Nothing else is.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from typing import NamedTuple

import pytest
from vendor_jobs import SCENES, by_id, rows, suggestions, truths, write_references

from beam_moderation import emulator, vendors
from beam_moderation.vendors import kept

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PROGRAM = """
import vendor_jobs
from beam_moderation import cli, vendors
vendors.VENDORS.update(tencent=vendor_jobs.QuickTencent, huawei=vendor_jobs.QuickHuawei)
cli.main()
"""
KEYS = {
    name: value
    for first, second in (
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"),
        ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
    )
    for name, value in ((first, "testid"), (second, "testsecret"))
}
URLS = by_id([f"https://img.example.com/{n}.jpg" for n in range(400)])
KILLS, IN_FLIGHT = 3, 4


class Killed(NamedTuple):
    """A backfill to be killed: its options, and the images of its largest request."""

    vendor: str
    mode: str
    options: tuple[str, ...]
    batch_size: int
    max_items: int


ALIBABA = ("max_items=5", "first_look_s=0.2", "look_every_s=0.2")
BACKFILLS = [
    Killed("alibaba", "sync", ALIBABA, 40, 5),
    Killed("alibaba", "async", ALIBABA, 40, 5),
    Killed("tencent", "sync", ("region=ap-guangzhou", "bucket=photos-125"), 5, 5),
    Killed("tencent", "async", ("region=ap-guangzhou", "bucket=photos-125"), 5, 5),
    Killed("huawei", "sync", ("region=cn-north-4",), 40, 10),
    Killed("huawei", "async", ("region=cn-north-4",), 5, 5),
]
"""What of Tencent and Huawei cannot be set is bounded by the batch; a job of Huawei's is one."""


@contextlib.contextmanager
def started(folder, url, backfill):
    """A backfill that runs, and does not outlive a test that fails."""
    arguments = ["backfill", folder / "r.parquet", "--out", folder / "out"]
    arguments += ["--vendor", backfill.vendor, "--mode", backfill.mode, "--endpoint", url]
    arguments += ["--qps", 200, "--images-per-second", 10_000, "--max-in-flight", IN_FLIGHT]
    arguments += ["--batch-size", backfill.batch_size]
    arguments += [f"--scene={scene}" for scene in SCENES[backfill.vendor]]
    arguments += [f"--vendor-option={option}" for option in backfill.options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    program = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    with subprocess.Popen(program, env={**os.environ, **KEYS}, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(folder, url, backfill):
    """Runs a backfill to its end; returns what it printed."""
    with started(folder, url, backfill) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def kill(process, running, images):
    """Kills a backfill once the vendor has judged so many images; returns whether it came to it."""
    while running.stats()["images"] < images:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    process.kill()
    process.communicate()
    while running.stats()["in_flight"]:
        time.sleep(0.005)
    return True


def known(folder):
    """The ids of the images whose verdict, or whose task's id, was kept."""
    kept_keys = set()
    for file in folder.glob("out/_answers/*/*/*.json"):
        kept_keys |= json.loads(file.read_text()).keys()
    keys = {i: kept.item_key(vendors.Item(i, url=url)) for i, url in URLS.items()}
    return {data_id for data_id, key in keys.items() if key in kept_keys}


def judged(stats):
    """How often each image was judged, by its id; Huawei knows its URL alone."""
    ids = {url: data_id for data_id, url in URLS.items()}
    return {ids.get(name, name): count for name, count in stats["judged_per_data_id"].items()}


def paid_twice(stats):
    return {data_id for data_id, count in judged(stats).items() if count > 1}


@pytest.mark.parametrize("round_", range(3))
@pytest.mark.parametrize("backfill", BACKFILLS, ids=lambda b: f"{b.vendor}-{b.mode}")
def test_only_what_was_in_flight_at_a_kill_is_paid_again(tmp_path, backfill, round_):
    write_references(tmp_path / "r.parquet", URLS)
    settings = emulator.Settings(latency_s=0.1, task_s=0.5)
    at_once, scenes = IN_FLIGHT * backfill.max_items, len(SCENES[backfill.vendor])
    with emulator.spawn(backfill.vendor, settings) as running:
        in_flight = set()
        for _ in range(KILLS):
            images = running.stats()["images"] + random.randint(1, len(URLS) // (KILLS + 1))
            with started(tmp_path, running.url, backfill) as process:
                assert kill(process, running, images), process.communicate()
            lost = judged(running.stats()).keys() - known(tmp_path)
            assert len(lost - in_flight) <= at_once
            in_flight |= lost
        finish(tmp_path, running.url, backfill)
        stats = running.stats()
        assert paid_twice(stats) <= in_flight
        assert stats["billed_units"] <= scenes * (len(URLS) + KILLS * at_once)
        again = stats["billed_units"] // scenes - len(URLS)
        print(f"{KILLS} kills, {len(in_flight)} images in flight, {again} paid again")  # noqa: T201
        assert suggestions(tmp_path / "out") == truths(backfill.vendor, URLS)
        assert len(rows(tmp_path / "out", "images")) == len(URLS)

        assert f"{len(URLS)} were there already" in finish(tmp_path, running.url, backfill)
        assert running.stats() == stats
