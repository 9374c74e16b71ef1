"""Keys and tokens that end while a lane runs: renewed in time, once, or the lane stops."""

import asyncio
import time
import types

import pytest
from vendor_jobs import QUOTA, RETRIES, vendor_at

from beam_moderation import emulator, errors
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.vendors import Credentials, Item, Judged, KeptAnswers, Lane, Retries, lease

EVERY_VENDOR = pytest.mark.parametrize("name", emulator.VENDORS)
OLD = Credentials("tempid", "tempsecret", "temptoken")
NEW = Credentials("tempid", "tempsecret", "newtoken")


def items(count, mark=""):
    return [Item(f"{mark}{n}", url=f"https://img.example.com/{mark}{n}.jpg") for n in range(count)]


def judge(name, url, folder, keys, between, retries=RETRIES, **options):
    """Judges two batches by one lane, with something that happens between them."""
    vendor = vendor_at(name, url, **options)

    async def main():
        kept = KeptAnswers(str(folder), vendor)
        async with Lane(vendor, keys, QUOTA, kept, retries=retries) as lane:
            first = await lane.judge("first", items(3, "first"))
            between()
            return [*first, *await lane.judge("second", items(12, "second"))]

    outcomes = asyncio.run(main())
    assert all(isinstance(outcome.answer, Judged) for outcome in outcomes)


@EVERY_VENDOR
def test_a_token_that_ends_while_the_lane_runs_is_looked_up_again_and_costs_no_image(
    emulate, tmp_path, name
):
    known = {"tempid": ("tempsecret", "temptoken")}
    running = emulate(name, temporary_keys=known)
    now = [OLD]

    def expire():
        known["tempid"] = ("tempsecret", "newtoken")
        now[0] = NEW

    judge(name, running.url, tmp_path, lambda: now[0], expire)
    assert sum(running.stats()["refused"].values()) >= 1
    assert set(running.stats()["judged_per_data_id"].values()) == {1}


@EVERY_VENDOR
def test_a_token_that_ended_and_is_all_there_is_stops_the_lane(emulate, tmp_path, name):
    known = {"tempid": ("tempsecret", "temptoken")}
    running = emulate(name, temporary_keys=known)
    with pytest.raises(errors.VendorRefusedLogin):
        judge(name, running.url, tmp_path, lambda: OLD, known.clear)
    assert len(running.stats()["judged_per_data_id"]) == 3


USER = Credentials("testid", "testsecret", domain="domain1")


def log_in(running, folder, between, **options):
    """Judges by Huawei with a user's name and password."""
    more = {"iam_endpoint": running.url}
    judge("huawei", running.url, folder, lambda: USER, between, **more, **options)


def test_a_token_of_iam_is_renewed_before_it_ends(emulate, tmp_path, monkeypatch):
    passed = [0.0]
    clock = types.SimpleNamespace(time=lambda: time.time() + passed[0])
    monkeypatch.setattr(lease, "time", clock)
    running = emulate("huawei", token_life_s=180.0, clock=clock.time)

    def two_minutes_later():
        assert running.stats()["calls"]["token"] == 1
        passed[0] = 61.0

    log_in(running, tmp_path, two_minutes_later)
    assert running.stats()["calls"] == {"token": 2, "batch": 3}
    assert running.stats()["refused"] == {}


def test_a_token_of_iam_that_is_refused_is_renewed_once_for_all_calls(emulate, tmp_path):
    passed = [0.0]
    running = emulate("huawei", clock=lambda: time.time() + passed[0])

    def revoked():
        passed[0] = 86_401.0

    log_in(running, tmp_path, revoked)
    stats = running.stats()
    assert stats["calls"]["token"] == 2
    assert 1 <= stats["refused"]["APIG.0301"] <= 2
    assert set(stats["judged_per_data_id"].values()) == {1}


def test_a_login_that_fails_on_the_vendors_side_costs_no_image_a_try(emulate, tmp_path):
    spec = FaultSpec(faults=[Fault(kind="server_error", operation="token", nth=(1, 2, 3, 4, 5))])
    running = emulate("huawei", faults=spec)
    retries = Retries(tries=1, pause_s=0.001)
    log_in(running, tmp_path, lambda: None, retries=retries)
    assert running.stats()["calls"]["token"] == 6
