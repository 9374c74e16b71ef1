"""A backfill by a vendor that is killed at random and started again pays for next to nothing twice.

What no client can know is whether a request whose answer it did not live to see was judged: those
that were in flight at the kill are sent, and paid, again. Nothing else is.
"""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from vendor_jobs import by_id, rows, suggestions, truths, write_references

from beam_moderation import emulator, vendors
from beam_moderation.vendors import kept

pytestmark = pytest.mark.integration

PROGRAM = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]
KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "testid", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "testsecret"}
URLS = by_id([f"https://img.example.com/{n}.jpg" for n in range(400)])
KILLS, IN_FLIGHT, MAX_ITEMS = 3, 4, 5


def start(folder, url, mode):
    options = {"max_items": MAX_ITEMS, "first_look_s": 0.2, "look_every_s": 0.2}
    arguments = ["backfill", folder / "r.parquet", "--out", folder / "out", "--vendor", "alibaba"]
    arguments += ["--scene", "porn", "--scene", "ad", "--mode", mode, "--endpoint", url]
    arguments += ["--qps", 200, "--max-in-flight", IN_FLIGHT, "--batch-size", 40]
    arguments += [f"--vendor-option={name}={value}" for name, value in options.items()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], env={**os.environ, **KEYS}, **pipes)


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


def paid_twice(stats):
    return {data_id for data_id, count in stats["judged_per_data_id"].items() if count > 1}


@pytest.mark.parametrize("round_", range(3))
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_only_what_was_in_flight_at_a_kill_is_paid_again(tmp_path, mode, round_):
    write_references(tmp_path / "r.parquet", URLS)
    settings = emulator.Settings(latency_s=0.1, task_s=0.5)
    with emulator.spawn("alibaba", settings) as running:
        in_flight = set()
        for _ in range(KILLS):
            process = start(tmp_path, running.url, mode)
            images = running.stats()["images"] + random.randint(1, len(URLS) // (KILLS + 1))
            assert kill(process, running, images), process.communicate()
            judged = running.stats()["judged_per_data_id"].keys()
            lost = judged - known(tmp_path)
            assert len(lost - in_flight) <= IN_FLIGHT * MAX_ITEMS
            in_flight |= lost
        out, err = (process := start(tmp_path, running.url, mode)).communicate(timeout=120)
        assert process.returncode == 0, err
        stats = running.stats()
        assert paid_twice(stats) <= in_flight
        assert stats["billed_units"] <= 2 * (len(URLS) + KILLS * IN_FLIGHT * MAX_ITEMS)
        again = stats["billed_units"] // 2 - len(URLS)
        print(f"{KILLS} kills, {len(in_flight)} images in flight, {again} paid again")  # noqa: T201
        assert suggestions(tmp_path / "out") == truths("alibaba", URLS)
        assert len(rows(tmp_path / "out", "images")) == len(URLS)

        out, err = (process := start(tmp_path, running.url, mode)).communicate(timeout=120)
        assert (process.returncode, f"{len(URLS)} were there already" in out) == (0, True), err
        assert running.stats() == stats
