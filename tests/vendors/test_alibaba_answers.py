"""What Alibaba's answers mean, and what of them is no answer."""

import json

import pytest
import recordings

from beam_moderation import errors
from beam_moderation.vendors import protocol
from beam_moderation.vendors.alibaba import Alibaba

KEYS = protocol.Credentials("testid", "testsecret")
NOW = 1715243415.0


def task_of(*ids):
    return [
        protocol.Task(id_, [protocol.Item(f"item-{id_}", url="https://a.example/1.jpg")])
        for id_ in ids
    ]


def answered(*tasks, code=200):
    return recordings.json_response({"code": code, "msg": "m", "requestId": "R", "data": [*tasks]})


def result(scene="porn", label="normal", suggestion="pass", rate=99.9, **more):
    fields = {"scene": scene, "label": label, "suggestion": suggestion, "rate": rate}
    return {**fields, **more}


def one(vendor, **fields):
    """The answer to one item whose task has the fields."""
    item = protocol.Item("id0", url="https://img.example.com/0.jpg")
    task = {"code": 200, "dataId": "id0", "taskId": "img$a@b", **fields}
    (answer,) = vendor.read_scan([item], answered(task))
    return answer


def test_content_of_a_callback_is_an_answer():
    (task,) = task_of("img$1")
    content = {"code": 200, "taskId": "img$1", "results": [result()]}
    ((item, answer),) = Alibaba().read_callback(task, json.dumps(content).encode())
    assert item is task.items[0]
    assert answer.verdicts[0].suggestion == "pass"


def test_score_is_the_confidence_in_the_label_that_is_given():
    answer = one(Alibaba(), results=[result(rate=99.9)])
    verdict = answer.verdicts[0]
    assert (verdict.label, verdict.suggestion, verdict.score) == ("normal", "pass", 0.999)
    assert verdict.findings == [("normal", 0.999)]
    assert (answer.task_id, answer.request_id, answer.billed_units) == ("img$a@b", "R", 1)


def test_further_fields_of_an_answer_are_kept():
    more = {
        "frames": [{"rate": 80.1, "url": "http://f.example/1.jpg"}],
        "hintWordsInfo": [{"context": "w"}],
        "qrcodeData": ["q"],
        "ocrData": ["line"],
        "logoData": [{"name": "l", "x": 1, "y": 2, "w": 3, "h": 4}],
        "sfaceData": [{"faces": [{"id": "f", "name": "n", "rate": 90}]}],
    }
    vendor = Alibaba(scenes=("ad",))
    extras = {"hitLibInfo": [{"context": "c", "libCode": "1", "libName": "n"}]}
    told = result("ad", "spam", "block", 80.5, sublabel="s", **more)
    verdict = one(vendor, results=[told], extras=extras, storedUrl="https://s.example").verdicts[0]
    assert verdict.detail == {**more, "extras": extras, "storedUrl": "https://s.example"}
    assert verdict.sub_label == "s"


def test_scene_without_a_verdict_fails_the_item():
    answer = one(Alibaba(scenes=("porn", "ad")), results=[result("porn")])
    assert isinstance(answer.error, errors.VendorAnswerMalformed)
    assert answer.scene == "ad"


def test_scenes_that_a_policy_adds_are_kept():
    answer = one(Alibaba(biz_type="b"), results=[result("porn"), result("live")])
    assert [verdict.scene for verdict in answer.verdicts] == ["porn", "live"]
    assert answer.billed_units == 2


@pytest.mark.parametrize(
    "told",
    [
        [],
        [result(suggestion="PASS")],
        [result(suggestion=None)],
        [result(label="fine")],
        [result(label="")],
        [result(rate=100.1)],
        [result(rate=None)],
        [result(), result(label="porn", suggestion="block")],
        {"porn": "pass"},
        None,
    ],
    ids=str,
)
def test_what_is_not_documented_never_passes(told):
    answer = one(Alibaba(), results=told)
    assert isinstance(answer.error, errors.VendorAnswerMalformed)


def test_new_label_that_is_blocked_is_kept():
    answer = one(Alibaba(), results=[result(label="brand_new", suggestion="block", rate=90)])
    assert (answer.verdicts[0].label, answer.verdicts[0].suggestion) == ("brand_new", "block")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (400, errors.VendorRefusedInput),
        (401, errors.VendorRefusedInput),
        (403, errors.VendorRefusedInput),
        (404, errors.VendorRefusedInput),
        (411, errors.VendorRefusedRequest),
        (480, errors.VendorFailedInput),
        (500, errors.VendorUnavailable),
        (581, errors.VendorTimeout),
        (586, errors.VendorFailedInput),
        (588, errors.VendorThrottled),
        (589, errors.VendorRefusedInput),
        (590, errors.VendorRefusedInput),
        (592, errors.VendorUnavailable),
        (594, errors.VendorTaskGone),
        (596, errors.VendorRefusedRequest),
        (499, errors.VendorRefusedInput),
        (599, errors.VendorUnavailable),
        (0, errors.VendorAnswerMalformed),
        ("x", errors.VendorAnswerMalformed),
    ],
)
def test_code_of_an_item_says_what_to_do_about_it(code, expected):
    answer = one(Alibaba(), code=code, results=[result()])
    assert type(answer.error) is expected


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (200, {"code": 400}, errors.VendorRefusedRequest),
        (200, {"code": 588}, errors.VendorThrottled),
        (200, {"code": 596}, errors.VendorRefusedRequest),
        (200, {"code": 500}, errors.VendorUnavailable),
        (200, {"code": 200, "data": {}}, errors.VendorAnswerMalformed),
        (200, {}, errors.VendorAnswerMalformed),
        (400, {"Code": "InvalidAction.NotFound"}, errors.VendorRefusedRequest),
        (400, {"Code": "InvalidTimeStamp.Expired"}, errors.VendorRefusedRequest),
        (400, {"Code": "SignatureDoesNotMatch"}, errors.VendorRefusedRequest),
        (404, {"Code": "InvalidAccessKeyId.NotFound"}, errors.VendorRefusedLogin),
        (400, {"Code": "InvalidSecurityToken.Expired"}, errors.VendorRefusedLogin),
        (400, {"Code": "Throttling.User"}, errors.VendorThrottled),
        (503, {"Code": "ServiceUnavailable"}, errors.VendorUnavailable),
        (500, {"code": 200, "data": []}, errors.VendorUnavailable),
    ],
    ids=str,
)
def test_error_of_the_whole_request_is_raised(status, fields, expected):
    item = protocol.Item("a", url="https://img.example.com/0.jpg")
    with pytest.raises(errors.VendorError) as raised:
        Alibaba().read_scan([item], recordings.json_response(fields, status))
    assert type(raised.value) is expected


def test_asynchronous_scan_answers_with_tasks_and_their_query_with_verdicts():
    vendor = Alibaba(asynchronous=True)
    items = [protocol.Item(f"id{n}", url=f"https://img.example.com/{n}.jpg") for n in range(3)]
    submitted = [
        {"code": 200, "dataId": "id1", "taskId": "t1"},
        {"code": 200, "dataId": "id0", "taskId": "t0"},
        {"code": 200, "dataId": "id2"},
    ]
    answers = vendor.read_scan(items, answered(*submitted))
    assert [getattr(answer, "task_id", None) for answer in answers] == ["t0", "t1", None]
    assert isinstance(answers[2].error, errors.VendorAnswerMalformed)
    tasks = task_of("t0", "t1", "t2", "t3")
    results = [
        {"code": 280, "taskId": "t1", "dataId": "x"},
        {"code": 200, "taskId": "t0", "results": [result()]},
        {"code": 594, "taskId": "t3"},
    ]
    found = {item.data_id: answer for item, answer in vendor.read_query(tasks, answered(*results))}
    assert found["item-t0"].verdicts[0].suggestion == "pass"
    assert isinstance(found["item-t1"], protocol.Pending)
    assert isinstance(found["item-t3"].error, errors.VendorTaskGone)
    assert "item-t2" not in found


def test_ids_in_a_request_are_unique_and_short_and_answers_find_their_way_back():
    url = "https://img.example.com/0.jpg"
    ids = ["same", "same", "x" * 300, "a\nb", ""]
    items = [protocol.Item(id_, url=url) for id_ in ids]
    sent = json.loads(Alibaba().scan(items, KEYS, NOW, "n").body)["tasks"]
    wire_ids = [task["dataId"] for task in sent]
    assert wire_ids[0] == "same"
    assert len(set(wire_ids)) == 5
    assert all(0 < len(id_) <= 128 for id_ in wire_ids)
    told = [
        {"code": 200, "dataId": id_, "results": [result(rate=place)]}
        for place, id_ in enumerate(wire_ids)
    ]
    answers = Alibaba().read_scan(items, answered(*reversed(told)))
    assert [answer.verdicts[0].score for answer in answers] == [0, 0.01, 0.02, 0.03, 0.04]
