"""What people decided, told to an emulated vendor once."""

import collections
import importlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vendor_jobs import KEYS, keys, vendor_at

from beam_moderation import decisions, emulator, errors, feedback
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota
from beam_moderation.vendors import Credentials, Retries

PIPELINES = pathlib.Path(__file__).parent.parent / "pipelines"
QUOTA = Quota(1000, None, 4)
HASTY = Retries(tries=3, patience_s=0.3, pause_s=0.01)


def rows(count, **more):
    """Decisions by three words in turn, as the reviewing tool's table has them."""
    return [
        {
            "uri": f"https://img.example.com/{n}.jpg",
            "suggestion": ("pass", "block")[n % 2],
            "scenes": ["porn"],
            "label": "",
            "vendor_label": "Porn",
            **more,
        }
        for n in range(count)
    ]


TOLD = []


def note(told):
    """Keeps what became of a decision, in the process that runs the pipeline too."""
    TOLD.append(told)


def send(folder, vendor, table, *, credentials=keys, quota=QUOTA, **options):
    """Tells the decisions of rows; returns what became of each, by URL."""
    TOLD.clear()
    options = {"quota": quota, "credentials": credentials, "retries": HASTY, **options}
    with beam.Pipeline("FnApiRunner") as pipeline:
        (
            pipeline
            | beam.Create([decisions.read_row(row) for row in table])
            | feedback.SendFeedback(vendor, str(folder), **options)
            | beam.Map(note)
        )
    states = collections.defaultdict(list)
    for told in TOLD:
        states[told.url].append((told.state, told.now))
    return states


@pytest.mark.parametrize("name", emulator.VENDORS)
def test_each_decision_is_told_once_however_often_it_is_sent(emulate, tmp_path, name):
    running = emulate(name)
    vendor, table = vendor_at(name, running.url), rows(12)
    first = send(tmp_path, vendor, [*table, table[3], table[3]])
    assert {state for states in first.values() for state in states} == {("taken", True)}
    assert sorted(map(len, first.values())) == [1] * 11 + [3]
    again = send(tmp_path, vendor, [*table, *rows(13)[12:]])
    assert again.pop("https://img.example.com/12.jpg") == [("taken", True)]
    assert {state for states in again.values() for state in states} == {("taken", False)}
    stats = running.stats()
    assert stats["feedback_per_image"] == {row["uri"]: 1 for row in rows(13)}


def test_two_decisions_on_one_image_are_both_told(emulate, tmp_path):
    running = emulate("alibaba")
    table = [{**rows(1)[0], "suggestion": word} for word in ("pass", "block")]
    send(tmp_path, vendor_at("alibaba", running.url), table)
    assert list(running.stats()["feedback_per_image"].values()) == [2]


def test_a_decisions_own_id_is_what_makes_it_one(emulate, tmp_path):
    running = emulate("alibaba")
    table = [{**rows(1)[0], "decision_id": "7", "note": note} for note in ("", "corrected")]
    send(tmp_path, vendor_at("alibaba", running.url), table)
    assert list(running.stats()["feedback_per_image"].values()) == [1]


def test_the_quota_of_feedback_is_kept(emulate, tmp_path):
    running = emulate("alibaba", feedback_per_second=20)
    quota = feedback.FEEDBACK_QUOTA
    assert quota.calls_per_second == 20
    told = send(tmp_path, vendor_at("alibaba", running.url), rows(45), quota=quota)
    assert {state for states in told.values() for state in states} == {("taken", True)}
    assert running.stats()["highest_feedback_per_second"] <= 20
    assert running.stats()["refused"] == {}


def test_what_the_vendor_never_takes_is_refused_for_good(emulate, tmp_path):
    running = emulate("alibaba")
    vendor = vendor_at("alibaba", running.url)
    table = [{**rows(1)[0], "suggestion": "review"}]
    for now in (True, False):
        (states,) = send(tmp_path, vendor, table).values()
        assert states == [("refused", now)]
    assert running.stats()["calls"] == {}


@pytest.mark.parametrize("after", [False, True], ids=["not taken", "taken"])
def test_a_call_without_an_answer_is_not_told_again_unasked(emulate, tmp_path, after):
    fault = Fault(kind="drop", operation="feedback", after=after)
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    vendor, table = vendor_at("alibaba", running.url), rows(3)
    for now in (True, False):
        told = send(tmp_path, vendor, table)
        assert {state for states in told.values() for state in states} == {("unknown", now)}
    count = 1 if after else 0
    assert sum(running.stats()["feedback_per_image"].values()) == 3 * count
    running.set_faults(FaultSpec())
    told = send(tmp_path, vendor, table, again=True)
    assert {state for states in told.values() for state in states} == {("taken", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {count + 1}


@pytest.mark.parametrize("kind", ["malformed", "wrong_encoding", "cut"])
def test_an_answer_that_cannot_be_read_leaves_a_decision_unknown(emulate, tmp_path, kind):
    fault = Fault(kind=kind, operation="feedback")
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    told = send(tmp_path, vendor_at("alibaba", running.url), rows(2))
    assert {state for states in told.values() for state in states} == {("unknown", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {1}


@pytest.mark.parametrize("kind", ["server_error", "throttled"])
def test_what_the_vendor_did_not_take_is_told_by_a_later_run(emulate, tmp_path, kind):
    fault = Fault(kind=kind, operation="feedback", retry_after_s=0)
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    vendor = vendor_at("alibaba", running.url)
    told = send(tmp_path, vendor, rows(2))
    assert {state for states in told.values() for state in states} == {("later", True)}
    running.set_faults(FaultSpec())
    told = send(tmp_path, vendor, rows(2))
    assert {state for states in told.values() for state in states} == {("taken", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {1}


def wrong_keys():
    return Credentials("testid", "wrong")


def test_a_wrong_key_stops_the_job_and_leaves_nothing_told_or_unknown(emulate, tmp_path):
    running = emulate("alibaba")
    vendor = vendor_at("alibaba", running.url)
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        send(tmp_path, vendor, rows(30), credentials=wrong_keys)
    told = send(tmp_path, vendor, rows(30))
    assert {state for states in told.values() for state in states} == {("taken", True)}


def test_feedback_has_one_lane():
    with pytest.raises(errors.ConfigurationError, match="one lane"):
        feedback.SendFeedback(vendor_at("alibaba", "x"), "m", quota=Quota(4, None, 4, lanes=2))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "uri"),
        ({"uri": "", "suggestion": "pass"}, "uri"),
        ({"uri": "u"}, "suggestion"),
        ({"uri": "u", "suggestion": "delete"}, "suggestion"),
        ({"uri": "u", "suggestion": "pass", "scenes": 7}, "scenes"),
        ({"uri": 7, "suggestion": "pass"}, "uri"),
    ],
)
def test_a_row_that_is_no_decision_says_why(row, reason):
    with pytest.raises(errors.ReferenceInvalid, match=reason):
        decisions.read_row(row)


def test_scenes_may_be_a_list_a_text_or_one():
    for more in ({"scenes": ["porn", "ad"]}, {"scenes": "porn, ad"}):
        human = decisions.read_row({"uri": "u", "suggestion": "block", **more}).human
        assert list(human.scenes) == ["porn", "ad"]
    assert list(
        decisions.read_row({"uri": "u", "suggestion": "block", "scene": "ad"}).human.scenes
    ) == ["ad"]


@pytest.fixture
def pipeline(monkeypatch):
    monkeypatch.syspath_prepend(str(PIPELINES))
    return importlib.import_module("feedback")


def arguments(folder, url):
    (folder / "keys.yaml").write_text(
        json.dumps({"alibaba": {"key_id": KEYS.key_id, "key_secret": KEYS.key_secret}})
    )
    table = pa.Table.from_pylist([*rows(30), {"uri": "https://x.example/", "suggestion": "?"}])
    pq.write_table(table, folder / "decisions.parquet", row_group_size=8)
    return [
        f"--decisions={folder / 'decisions.parquet'}",
        f"--markers={folder / 'markers'}",
        "--vendor=alibaba",
        f"--vendor_option=endpoint={url}",
        f"--credentials={folder / 'keys.yaml'}",
        "--qps=200",
    ]


def test_the_pipeline_tells_the_rows_of_a_parquet_table(emulate, pipeline, tmp_path):
    running = emulate("alibaba")
    asked = arguments(tmp_path, running.url)
    assert pipeline.run(asked) == {"taken": 30, "invalid": 1}
    assert pipeline.run(asked) == {"taken": 30, "invalid": 1}
    assert running.stats()["calls"] == {"feedback": 30}


def test_the_pipeline_needs_one_table(pipeline, tmp_path, emulate):
    asked = arguments(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(errors.ConfigurationError, match="name --decisions"):
        pipeline.run(asked[1:])
    with pytest.raises(errors.ConfigurationError, match="and not both"):
        pipeline.run([*asked, "--topic=t", "--brokers=h:9092"])


@pytest.mark.integration
def test_a_pipeline_that_is_killed_tells_nothing_twice(tmp_path):
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.1)) as running:
        asked = [sys.executable, str(PIPELINES / "feedback.py"), *arguments(tmp_path, running.url)]
        for count in sorted(random.sample(range(1, 25), 3)):
            with subprocess.Popen(asked, stdout=subprocess.DEVNULL) as process:
                while sum(running.stats()["feedback_per_image"].values()) < count:
                    assert process.poll() is None
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
        out = subprocess.run(asked, check=True, capture_output=True, text=True, env={**os.environ})
        told = running.stats()["feedback_per_image"]
        assert set(told.values()) == {1}
        unknown = 30 - int(out.stdout.split(" taken")[0].split()[-1])
        assert unknown <= 3 * 8
        again = subprocess.run([*asked, "--again"], check=True, capture_output=True, text=True)
        assert "30 taken" in again.stdout
        assert set(running.stats()["feedback_per_image"]) == {row["uri"] for row in rows(30)}
