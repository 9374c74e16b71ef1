"""What people decided, told to an emulated vendor once."""

import collections

import apache_beam as beam
import emulator_calls as calls
import pytest
from vendor_jobs import KEYS, decided_rows, keys, vendor_at

from beam_moderation import decisions, emulator, errors, feedback, quota
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota
from beam_moderation.vendors import Credentials, Retries
from beam_moderation.vendors.protocol import Response

QUOTA = Quota(1000, None, 4)
HASTY = Retries(tries=3, patience_s=0.3, pause_s=0.01)
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
    vendor, table = vendor_at(name, running.url), decided_rows(12)
    first = send(tmp_path, vendor, [*table, table[3], table[3]])
    assert {state for states in first.values() for state, _ in states} == {"taken"}
    assert all(("taken", True) in states for states in first.values())
    assert sorted(map(len, first.values())) == [1] * 11 + [3]
    again = send(tmp_path, vendor, [*table, *decided_rows(13)[12:]])
    assert again.pop("https://img.example.com/12.jpg") == [("taken", True)]
    assert {state for states in again.values() for state in states} == {("taken", False)}
    stats = running.stats()
    assert stats["feedback_per_image"] == {row["uri"]: 1 for row in decided_rows(13)}


def test_two_decisions_on_one_image_are_both_told(emulate, tmp_path):
    running = emulate("alibaba")
    table = [{**decided_rows(1)[0], "suggestion": word} for word in ("pass", "block")]
    send(tmp_path, vendor_at("alibaba", running.url), table)
    assert list(running.stats()["feedback_per_image"].values()) == [2]


def test_a_decisions_own_id_is_what_makes_it_one(emulate, tmp_path):
    running = emulate("alibaba")
    table = [{**decided_rows(1)[0], "decision_id": "7", "note": note} for note in ("", "corrected")]
    send(tmp_path, vendor_at("alibaba", running.url), table)
    assert list(running.stats()["feedback_per_image"].values()) == [1]


def test_the_quota_of_feedback_is_kept(emulate, tmp_path, monkeypatch):
    """Where calls leave: a busy emulator sees some of them late, and then bunched."""
    turns, sent = {}, quota.Turn.sent
    monkeypatch.setattr(quota.Turn, "sent", lambda turn: (sent(turn), turns.setdefault(turn)))
    vendor = vendor_at("alibaba", emulate("alibaba").url)
    told = send(tmp_path, vendor, decided_rows(45), quota=feedback.FEEDBACK_QUOTA)
    assert {state for states in told.values() for state in states} == {("taken", True)}
    left = sorted(turn.left_at for turn in turns)
    assert len(left) == 45
    assert all(later - first > 1 for first, later in zip(left, left[20:], strict=False))


def test_what_the_vendor_never_takes_is_refused_for_good(emulate, tmp_path):
    running = emulate("alibaba")
    vendor = vendor_at("alibaba", running.url)
    table = [{**decided_rows(1)[0], "suggestion": "review"}]
    for now in (True, False):
        (states,) = send(tmp_path, vendor, table).values()
        assert states == [("refused", now)]
    assert running.stats()["calls"] == {}


@pytest.mark.parametrize("after", [False, True], ids=["not taken", "taken"])
def test_a_call_without_an_answer_is_not_told_again_unasked(emulate, tmp_path, after):
    fault = Fault(kind="drop", operation="feedback", after=after)
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    vendor, table = vendor_at("alibaba", running.url), decided_rows(3)
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
    told = send(tmp_path, vendor_at("alibaba", running.url), decided_rows(2))
    assert {state for states in told.values() for state in states} == {("unknown", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {1}


def test_a_decision_that_the_vendor_failed_on_may_have_been_taken(emulate, tmp_path):
    fault = Fault(kind="server_error", operation="feedback", after=True)
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    told = send(tmp_path, vendor_at("alibaba", running.url), decided_rows(2))
    assert {state for states in told.values() for state in states} == {("unknown", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {1}


def test_what_the_vendor_did_not_take_is_told_by_a_later_run(emulate, tmp_path):
    fault = Fault(kind="throttled", operation="feedback", retry_after_s=0)
    running = emulate("alibaba", faults=FaultSpec(faults=[fault]))
    vendor = vendor_at("alibaba", running.url)
    told = send(tmp_path, vendor, decided_rows(2))
    assert {state for states in told.values() for state in states} == {("later", True)}
    running.set_faults(FaultSpec())
    told = send(tmp_path, vendor, decided_rows(2))
    assert {state for states in told.values() for state in states} == {("taken", True)}
    assert set(running.stats()["feedback_per_image"].values()) == {1}


def wrong_keys():
    return Credentials("testid", "wrong")


def test_a_wrong_key_stops_the_job_and_leaves_nothing_told_or_unknown(emulate, tmp_path):
    running = emulate("alibaba")
    vendor = vendor_at("alibaba", running.url)
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        send(tmp_path, vendor, decided_rows(30), credentials=wrong_keys)
    told = send(tmp_path, vendor, decided_rows(30))
    assert {state for states in told.values() for state in states} == {("taken", True)}


def test_a_vendor_that_cannot_be_reached_was_told_nothing(tmp_path):
    told = send(tmp_path, vendor_at("alibaba", "http://127.0.0.1:9"), decided_rows(2))
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
    block = decided_rows(2)[1]
    bad = [{**block, "uri": f"https://x.example/{n}", **b} for n, b in enumerate(BAD[name])]
    told = send(tmp_path, vendor_at(name, running.url), [*bad, *decided_rows(5)])
    assert [told[row["uri"]] for row in bad] == [[("refused", True)]] * len(bad)
    assert [told[row["uri"]] for row in decided_rows(5)] == [[("taken", True)]] * 5
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
    decision = decisions.read_row(decided_rows(1)[0])
    with pytest.raises(errors.VendorRefusedRequest):
        worker.begin(decision).result()
    keys_now.pop(0)
    with pytest.raises(errors.VendorRefusedRequest):
        worker.begin(decision).result()
    worker.renew()
    assert worker.begin(decision).result().state == "taken"
    worker.close()
    assert worker.idle


def test_feedback_has_one_lane():
    with pytest.raises(errors.ConfigurationError, match="one lane"):
        feedback.SendFeedback(
            vendor_at("alibaba", "http://x"), "m", quota=Quota(4, None, 4, lanes=2)
        )
