"""Every reference ends exactly once, and none passes unsaid, whatever the vendor does wrong."""

import pytest
from brightness import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from vendor_jobs import rows, run, suggestions, truths, vendor_at, write_references

from beam_moderation import emulator
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.vendors import Retries

RANDOM = ("drop", "cut", "server_error", "malformed", "wrong_encoding", "partial", "missing_item")
MORE = ("duplicate", "out_of_order", "missing_scene")
AFTER = ("drop", "server_error", "throttled")

URLS = {f"url{n}": f"https://img.example.com/{n}.jpg" for n in range(50)}
BYTES = {f"inline{n}": picture(n * 20) for n in range(10)}
FAILING = {
    mark: f"https://img.example.com/image-{mark}.jpg"
    for mark in ("missing", "broken", "slow", "unjudged")
}
LOST = {"text": b"<html>", "empty": b""}


def every_fault(seed, probability):
    """Everything that can go wrong does, and some of it after the vendor did the work."""
    kinds = [Fault(kind=kind, probability=probability) for kind in (*RANDOM, *MORE)]
    after = [Fault(kind=k, probability=probability, after=True, retry_after_s=0) for k in AFTER]
    throttled = Fault(kind="throttled", probability=probability, retry_after_s=0)
    late = Fault(kind="delay", probability=probability, delay_s=0.05)
    huge = Fault(kind="huge", probability=probability / 4, size_bytes=11 * 2**20)
    return FaultSpec(seed=seed, faults=[*kinds, *after, throttled, late, huge])


def assert_all_are_there(name, out):
    """Each reference is one image or one dead letter, and what is judged is what was said."""
    told, dead = suggestions(out), rows(out, "dead_letters")
    judged = [row.data_id for row in rows(out, "images")]
    assert sorted([*judged, *(row.data_id for row in dead)]) == sorted(
        [*URLS, *BYTES, *FAILING, *LOST]
    )
    images = {key: image for key, image in {**URLS, **BYTES}.items() if key in judged}
    assert told == truths(name, images)
    codes = {row.data_id: row.code for row in dead}
    assert (codes.pop("text"), codes.pop("empty")) == ("format-unsupported", "image-empty")
    assert {*codes.values()} <= {
        "vendor-answer-malformed",
        "vendor-failed-input",
        "vendor-refused-input",
        "vendor-throttled",
        "vendor-timeout",
        "vendor-unavailable",
    }


def judge(folder, name, url, asynchronous):
    references = write_references(folder / "r.parquet", {**URLS, **FAILING}, {**BYTES, **LOST})
    vendor = vendor_at(name, url, asynchronous=asynchronous)
    retries = Retries(tries=3, patience_s=2.0, pause_s=0.01)
    run(references, folder / "out", vendor, batch_size=9, retries=retries, deadline_s=3.0)


@pytest.mark.parametrize("name", emulator.VENDORS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_every_fault_at_once_loses_nothing_and_doubles_nothing(
    emulate, tmp_path, name, asynchronous
):
    running = emulate(name, faults=every_fault(1, 0.08))
    judge(tmp_path, name, running.url, asynchronous)
    assert_all_are_there(name, tmp_path / "out")
    assert sum(running.stats()["faults"].values()) > 3


@pytest.mark.parametrize("name", emulator.VENDORS)
def test_a_vendor_that_only_fails_passes_nothing(emulate, tmp_path, name):
    running = emulate(name, faults=every_fault(2, 1.0))
    judge(tmp_path, name, running.url, asynchronous=False)
    assert not rows(tmp_path / "out", "scenes")
    assert_all_are_there(name, tmp_path / "out")


@pytest.mark.integration
@pytest.mark.parametrize("name", emulator.VENDORS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), probability=st.floats(0, 0.5), asynchronous=st.booleans())
def test_any_mix_of_faults_loses_nothing_and_doubles_nothing(
    tmp_path_factory, name, seed, probability, asynchronous
):
    folder = tmp_path_factory.mktemp("faults")
    spec = every_fault(seed, probability)
    with emulator.serve(name, emulator.Settings(faults=spec)) as running:
        judge(folder, name, running.url, asynchronous)
        assert_all_are_there(name, folder / "out")
