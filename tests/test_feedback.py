"""What people decided, told to an emulated vendor once."""

import collections
import importlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import time
import uuid

import apache_beam as beam
import emulator_calls as calls
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from vendor_jobs import KEYS, keys, vendor_at

from beam_moderation import decisions, durable_files, emulator, errors, feedback, vendors
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota
from beam_moderation.vendors import Credentials, Retries
from beam_moderation.vendors.protocol import Response

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
            "label": "Porn",
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
            | beam.Create(table, reshuffle=False)
            | feedback.SendFeedback(vendor, str(folder), **options)
            | beam.Map(note)
        )
    states = collections.defaultdict(list)
    for told in TOLD:
        states[told.url].append((told.state, told.by_this_run))
    return states


@pytest.mark.parametrize("name", emulator.VENDORS)
def test_each_decision_is_told_once_however_often_it_is_sent(emulate, tmp_path, name):
    running = emulate(name)
    vendor, table = vendor_at(name, running.url), rows(12)
    first = send(tmp_path, vendor, [*table, table[3], table[3]])
    assert {state for states in first.values() for state, _ in states} == {"taken"}
    assert all(("taken", True) in states for states in first.values())
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


def test_a_decision_that_the_vendor_failed_on_may_have_been_taken(emulate, tmp_path):
    fault = Fault(kind="server_error", operation="feedback", after=True)
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    told = send(tmp_path, vendor_at("alibaba", running.url), rows(2))
    assert {state for states in told.values() for state in states} == {("unknown", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {1}


def test_what_the_vendor_did_not_take_is_told_by_a_later_run(emulate, tmp_path):
    fault = Fault(kind="throttled", operation="feedback", retry_after_s=0)
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


def test_a_vendor_that_cannot_be_reached_was_told_nothing(tmp_path):
    told = send(tmp_path, vendor_at("alibaba", "http://127.0.0.1:9"), rows(2))
    assert {state for states in told.values() for state in states} == {("later", True)}


BAD = {
    "alibaba": [
        {"scenes": ["qrcode"]},
        {"scenes": []},
        {"uri": "oss/x"},
        {"uri": f"https://x.example/{'x' * 3000}"},
        {"suggestion": "review"},
    ],
    "tencent": [
        {"label": ""},
        {"scenes": []},
        {"scenes": ["qrcode"]},
        {"uri": "photos/1.jpg"},
        {"label": "a\x00b"},
    ],
    "huawei": [{"scenes": ["qrcode"]}, {"uri": "obs://b/1.jpg"}, {"suggestion": "review"}],
}


@pytest.mark.parametrize("name", emulator.VENDORS)
def test_a_decision_that_the_vendor_cannot_take_is_refused_and_stops_no_other(
    emulate, tmp_path, name
):
    running = emulate(name)
    block = rows(2)[1]
    bad = [{**block, "uri": f"https://x.example/{n}", **b} for n, b in enumerate(BAD[name])]
    told = send(tmp_path, vendor_at(name, running.url), [*bad, *rows(5)])
    assert [told[row["uri"]] for row in bad] == [[("refused", True)]] * len(bad)
    assert [told[row["uri"]] for row in rows(5)] == [[("taken", True)]] * 5
    assert running.stats()["calls"]["feedback"] == 5


ARGUMENT = {
    "alibaba": b'{"code": 400, "msg": "BAD_REQUEST"}',
    "tencent": b"<Error><Code>InvalidArgument</Code></Error>",
    "huawei": b'{"error_code": "AIS.0012", "error_msg": "illegal"}',
}
KEY = {
    "alibaba": b'{"Code": "SignatureDoesNotMatch"}',
    "tencent": b"<Error><Code>SignatureDoesNotMatch</Code></Error>",
    "huawei": b'{"error_code": "AIS.0004", "error_msg": "no rights"}',
}


@pytest.mark.parametrize("name", emulator.VENDORS)
def test_a_refused_field_is_the_decisions_fault_and_a_refused_key_is_not(name):
    vendor = vendor_at(name, "http://127.0.0.1:9")
    with pytest.raises(errors.VendorRefusedInput):
        vendor.read_feedback(Response(400, {}, ARGUMENT[name]))
    with pytest.raises(errors.VendorRefusedRequest):
        vendor.read_feedback(Response(403, {}, KEY[name]))


def test_the_emulated_alibaba_refuses_feedback_on_no_address(emulate):
    running = emulate("alibaba")
    for wrong in ({"url": "nowhere"}, {"url": 7}, {"label": 7}):
        content = {"suggestion": "pass", "url": "https://x.example/1", **wrong}
        assert calls.alibaba(running.url, "feedback", content).json["code"] == 400
    assert running.stats()["feedback_per_image"] == {}


def test_a_mended_key_is_used_by_the_next_bundle(emulate, tmp_path):
    running = emulate("alibaba")
    keys_now = [wrong_keys(), KEYS]
    job = feedback._FeedbackJob(
        vendor_at("alibaba", running.url), lambda: keys_now[0], str(tmp_path), QUOTA, HASTY, False
    )
    worker = job.make_worker()
    decision = decisions.read_row(rows(1)[0])
    with pytest.raises(errors.VendorRefusedRequest):
        worker.begin(decision).result()
    keys_now.pop(0)
    with pytest.raises(errors.VendorRefusedRequest):
        worker.begin(decision).result()
    worker.renew()
    assert worker.begin(decision).result().state == "taken"
    worker.close()
    assert worker.idle


def test_accounts_have_markers_of_their_own(tmp_path):
    decision = decisions.read_row(rows(1)[0])
    accounts = [
        vendors.Alibaba(region="cn-shanghai"),
        vendors.Alibaba(region="cn-beijing"),
        vendors.Tencent("a-1", "ap-guangzhou"),
        vendors.Tencent("b-1", "ap-guangzhou"),
        vendors.Huawei("cn-north-4"),
    ]
    markers = [decisions.Markers(str(tmp_path), vendor) for vendor in accounts]
    assert [one.begin(decision) for one in markers] == [None] * 5
    assert [one.begin(decision) for one in markers] == ["unknown"] * 5


def test_markers_on_an_object_store_are_made_once():
    markers = decisions.Markers(f"memory://{uuid.uuid4().hex}", vendors.Alibaba())
    decision = decisions.read_row(rows(1)[0])
    assert markers.begin(decision) is None
    markers.end(decision, decisions.TAKEN)
    assert markers.begin(decision) == "taken"
    markers.forget(decision)
    assert markers.begin(decision) is None


class Heedless(MemoryFileSystem):
    """An object store's filesystem that writes whatever `mode` says."""

    protocol = "heedless"

    def pipe_file(self, path, value, mode="overwrite", **options):
        super().pipe_file(path, value)


def test_a_filesystem_that_does_not_heed_create_replaces_no_marker():
    filesystem = Heedless()
    assert durable_files.create(filesystem, "/m/1", b"first")
    assert not durable_files.create(filesystem, "/m/1", b"second")
    assert filesystem.cat_file("/m/1") == b"first"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "what"}', b"\xff"])
def test_of_a_damaged_marker_nothing_is_known(content):
    filesystem, folder = MemoryFileSystem(), uuid.uuid4().hex
    markers = decisions.Markers(f"memory://{folder}", vendors.Alibaba())
    decision = decisions.read_row(rows(1)[0])
    markers.begin(decision)
    (path,) = filesystem.find(f"/{folder}")
    filesystem.pipe_file(path, content)
    assert markers.begin(decision) == "unknown"


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


def test_a_number_may_be_a_decisions_id():
    ids = [
        decisions.read_row({"uri": "u", "suggestion": "pass", "decision_id": name}).id
        for name in (7, "7", 8)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_the_label_of_a_row_is_the_vendors_as_in_the_table_scenes():
    human = decisions.read_row(
        {"uri": "u", "suggestion": "pass", "label": "Porn", "right_label": "Normal"}
    ).human
    assert (human.vendor_label, human.label) == ("Porn", "Normal")


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


def arguments(folder, url, table=None):
    (folder / "keys.yaml").write_text(
        json.dumps({"alibaba": {"key_id": KEYS.key_id, "key_secret": KEYS.key_secret}})
    )
    table = table or [*rows(30), {"uri": "https://x.example/", "suggestion": "?"}]
    pq.write_table(pa.Table.from_pylist(table), folder / "decisions.parquet", row_group_size=8)
    return [
        f"--decisions={folder / 'decisions.parquet'}",
        f"--markers={folder / 'markers'}",
        "--vendor=alibaba",
        f"--vendor_option=endpoint={url}",
        f"--credentials={folder / 'keys.yaml'}",
        "--qps=200",
    ]


def test_the_pipeline_tells_the_rows_of_a_parquet_table(emulate, pipeline, tmp_path, capsys):
    running = emulate("alibaba")
    asked = arguments(tmp_path, running.url)
    assert pipeline.run(asked) == {"taken": 30, "invalid": 1}
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["url"], json.loads(line)["state"]) == ("https://x.example/", "invalid")
    assert pipeline.run([*asked, f"--out={tmp_path / 'untold.jsonl'}"]) == {
        "taken-earlier": 30,
        "invalid": 1,
    }
    assert (tmp_path / "untold.jsonl").read_text() == f"{line}\n"
    assert running.stats()["calls"] == {"feedback": 30}


@pytest.mark.parametrize(
    ("bad", "code"), [([], 0), ([{"uri": "https://x/", "suggestion": "?"}], 1)]
)
def test_the_exit_code_says_whether_all_was_taken(
    emulate, pipeline, tmp_path, monkeypatch, capsys, bad, code
):
    asked = arguments(tmp_path, emulate("alibaba").url, [*rows(3), *bad])
    monkeypatch.setattr(sys, "argv", ["feedback.py", *asked])
    assert pipeline.main() == code
    assert "3 taken" in capsys.readouterr().out


def test_a_cell_that_is_not_utf_8_costs_its_row_alone(emulate, pipeline, tmp_path):
    running = emulate("alibaba")
    asked = arguments(tmp_path, running.url)
    uris = [b"https://x.example/1", b"\xff", b"https://x.example/2"]
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array(uris, pa.binary()).buffers())
    scenes = pa.array([["porn"]] * 3)
    table = pa.table(
        {
            "uri": broken,
            "suggestion": ["pass"] * 3,
            "scenes": scenes,
            "decision_id": [1, 2, 3],
            "photo": uris,
        }
    )
    pq.write_table(table, tmp_path / "decisions.parquet")
    assert pipeline.run(asked) == {"taken": 2, "invalid": 1}


def mistakes(pipeline, monkeypatch, capsys, asked):
    """The one line of an error."""
    monkeypatch.setattr(sys, "argv", ["feedback.py", *asked])
    assert pipeline.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_mistake_ends_in_one_line(emulate, pipeline, tmp_path, monkeypatch, capsys):
    asked = arguments(tmp_path, emulate("alibaba").url)

    def line(*more):
        return mistakes(pipeline, monkeypatch, capsys, [*asked, *more])

    assert "no file matches" in line("--decisions=/nowhere.parquet")
    assert "no such option: --agian; did you mean --again?" in line("--agian")
    assert "no such option: --again_" in line("--again_")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no table PAR1")
    assert "cannot read" in line(f"--decisions={tmp_path / 'damaged.parquet'}")
    pq.write_table(pa.table({"uri": ["u"]}), tmp_path / "half.parquet")
    assert "has no column 'suggestion'" in line(f"--decisions={tmp_path / 'half.parquet'}")
    (tmp_path / "keys.yaml").write_text('{"alibaba": {"key_id": "testid", "key_secret": "other"}}')
    assert "SignatureDoesNotMatch" in line()


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
        untold = tmp_path / "untold.jsonl"
        out = subprocess.run(
            [*asked, f"--out={untold}"], check=False, capture_output=True, text=True
        )
        assert out.returncode == 1
        told = running.stats()["feedback_per_image"]
        assert set(told.values()) == {1}
        lines = [json.loads(line) for line in untold.read_text().splitlines()]
        unknown = {line["url"] for line in lines if line["state"] == "unknown"}
        assert len(unknown) <= 3 * 8
        assert told.keys() | unknown == {row["uri"] for row in rows(30)}
        again = subprocess.run([*asked, "--again"], check=False, capture_output=True, text=True)
        assert again.returncode == 1
        finally_told = running.stats()["feedback_per_image"]
        assert finally_told == {
            row["uri"]: told.get(row["uri"], 0) + (row["uri"] in unknown) for row in rows(30)
        }
