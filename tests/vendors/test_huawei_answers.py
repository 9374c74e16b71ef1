"""What Huawei's answers mean: recorded ones, and such as the pages leave open."""

import json

import pytest
import recordings

from beam_moderation import errors, records
from beam_moderation.vendors import protocol
from beam_moderation.vendors.huawei import Huawei

RECORDINGS = recordings.of("huawei")
ANSWERS = [name for name, recording in RECORDINGS.items() if "response" in recording]
KEYS = protocol.Credentials("testid", "testsecret")
NOW = 1715243415.5
V1_SCENES = ("politics", "terrorism", "porn")
EXPECTED = {
    "v1_response_batch_gateway_bad_token": (errors.VendorRefusedLogin, "APIG.0301"),
    "v1_response_batch_gateway_throttled": (errors.VendorThrottled, "APIG.0308"),
    "v1_response_batch_one_url_failed": [
        ("failed", None, errors.VendorRefusedInput, "AIS.0024", None),
        ("judged", None, {"porn": ("normal", 0.0, "pass")}),
    ],
    "v1_response_batch_request_failed": (errors.VendorRefusedRequest, "AIS.0005"),
    "v1_response_batch_two_ok": [
        (
            "judged",
            None,
            {
                "politics": ("yyy", 0.8756, "block"),
                "terrorism": ("yyy", 0.268, "block"),
                "porn": ("normal", 1.0, "block"),
            },
        ),
        (
            "judged",
            None,
            {
                "politics": ("yyy", 0.8756, "review"),
                "terrorism": ("yyy", 0.268, "review"),
                "porn": ("normal", 1.0, "pass"),
            },
        ),
    ],
    "v1_response_result_finish": [
        ("judged", "job-1", {"porn": ("normal", 0.99, "pass")}),
        ("failed", "job-1", errors.VendorFailedInput, "AIS.0029", None),
    ],
    "v1_response_result_job_gone": (errors.VendorTaskGone, "AIS.0030"),
    "v1_response_result_running": [("pending", "job-1"), ("pending", "job-1")],
    "v1_response_submit_ok": [("pending", "job-1"), ("pending", "job-1")],
    "v1_response_submit_too_many_jobs": (errors.VendorThrottled, "AIS.0031"),
    "v3_response_batch_mixed": [
        ("judged", None, {"porn": ("sexual_act", 0.9979, "block")}),
        ("failed", None, errors.VendorRefusedInput, "AIS.0024", None),
    ],
}
"""What each recorded answer means, for the scenes that its images were judged for."""


def told(answer):
    if isinstance(answer, protocol.Pending):
        return "pending", answer.task_id
    if isinstance(answer, protocol.Failed):
        return "failed", answer.task_id, type(answer.error), answer.error.vendor_code, answer.scene
    verdicts = {v.scene: (v.label, v.score, v.suggestion) for v in answer.verdicts}
    return "judged", answer.task_id, verdicts


def images(body):
    """The images that a recorded answer is about."""
    result = body.get("results", body.get("result"))
    entries = result.get("items") if isinstance(result, dict) else result
    return [
        protocol.Item(entry.get("data_id", f"d{place}"), url=entry.get("url", "https://b/1"))
        for place, entry in enumerate(entries or [{}, {}])
    ]


def read(name):
    recording = RECORDINGS[name]
    version, _, operation, _ = name.split("_", 3)
    items = images(json.loads(recording["response"]["body"]))
    wide = name == "v1_response_batch_two_ok"
    v3 = {"api_version": "v3", "event_type": "album", "project_id": "p"} if version == "v3" else {}
    vendor = Huawei(
        "cn-north-4",
        scenes=V1_SCENES if wide else ("porn",),
        asynchronous=operation != "batch",
        **v3,
    )
    response = recordings.response(recording)
    if operation != "result":
        return vendor.read_scan(items, response)
    return [answer for _, answer in vendor.read_query([protocol.Task("job-1", items)], response)]


@pytest.mark.parametrize("name", ANSWERS)
def test_recorded_answer_means_what_the_vendor_documents(name):
    expected = EXPECTED[name]
    if isinstance(expected, list):
        answers = read(name)
        assert [told(answer) for answer in answers] == expected
        assert {answer.request_id for answer in answers} <= {"RQ1", "r"}
    else:
        with pytest.raises(errors.VendorError) as raised:
            read(name)
        assert (type(raised.value), raised.value.vendor_code) == expected


def test_every_recorded_answer_is_read():
    assert {*EXPECTED} == {*ANSWERS}


def answered(*results, scenes=("porn",), items=None, **options):
    items = items or [protocol.Item("d1", url="https://b/1")]
    body = json.dumps({"result": results}).encode()
    vendor = Huawei("cn-north-4", scenes=scenes, **options)
    return vendor.read_scan(items, protocol.Response(200, {}, body))


def result(suggestion="pass", url="https://b/1", **detail):
    return {"url": url, "suggestion": suggestion, "detail": detail}


PORN = [
    {"label": "normal", "confidence": 0.6},
    {"label": "sexy", "confidence": 0.3},
    {"label": "porn", "confidence": 0.1},
]


def test_label_of_a_category_that_is_not_passed_is_no_normal_one():
    told_ = {**result("review", porn=PORN), "category_suggestions": {"porn": "review"}}
    (answer,) = answered(told_)
    (verdict,) = answer.verdicts
    assert (verdict.label, verdict.score, verdict.suggestion) == ("sexy", 0.3, "review")
    assert verdict.findings == [records.Finding(e["label"], e["confidence"]) for e in PORN]


def test_detail_keeps_faces_and_the_suggestions_of_all_categories():
    face = {"label": "x", "confidence": 0.97, "face_detail": {"x": 1, "y": 2, "w": 3, "h": 4}}
    told_ = {**result("block", politics=[face]), "category_suggestions": {"politics": "block"}}
    (answer,) = answered(told_, scenes=["politics"])
    assert answer.verdicts[0].detail == {
        "detail": [face],
        "suggestion": "block",
        "category_suggestions": {"politics": "block"},
    }


@pytest.mark.parametrize(
    ("suggestion", "label"), [("pass", "normal"), ("review", "unknown"), ("block", "unknown")]
)
def test_empty_detail_keeps_the_suggestion_and_has_no_number(suggestion, label):
    (answer,) = answered(result(suggestion, porn=[]))
    (verdict,) = answer.verdicts
    assert (verdict.label, verdict.score, verdict.suggestion) == (label, 0.0, suggestion)
    assert verdict.findings == []


def test_image_blocked_for_no_category_passes_none():
    told_ = {**result("block", porn=[]), "category_suggestions": {"porn": "pass"}}
    (answer,) = answered(told_)
    assert answer.verdicts[0].suggestion == "block"


@pytest.mark.parametrize(
    "told_",
    [
        {"url": "https://b/1"},
        {"url": "https://b/1", "suggestion": None, "detail": {"porn": []}},
        result("PASS", porn=[]),
        result("pass"),
        result("pass", politics=[]),
        result("pass", porn=None),
        result("pass", porn={}),
        result("pass", porn=[{"label": "normal"}]),
        result("pass", porn=[{"confidence": 1}]),
        result("pass", porn=[{"label": "normal", "confidence": "1"}]),
        result("pass", porn=[{"label": "normal", "confidence": True}]),
        result("pass", porn=[{"label": "normal", "confidence": 1.01}]),
        result("pass", porn=[{"label": "normal", "confidence": -0.01}]),
        {**result("pass", porn=[]), "category_suggestions": {"porn": "fine"}},
        {**result("pass", porn=[]), "error_code": "AIS.9999"},
        {**result("pass", porn=[]), "error_code": 7},
        {**result("pass", porn=[]), "url": "https://b/2"},
    ],
)
def test_image_without_a_documented_verdict_is_malformed(told_):
    (answer,) = answered(told_)
    assert isinstance(answer, protocol.Failed)
    assert isinstance(answer.error, errors.VendorAnswerMalformed)


@pytest.mark.parametrize("code", ["AIS.0011", "AIS.0501", "AIS.0028"])
def test_request_code_beside_one_image_blames_the_image(code):
    (answer,) = answered({"url": "https://b/1", "error_code": code})
    assert type(answer.error) is errors.VendorRefusedInput


def test_account_code_beside_one_image_blames_the_account():
    (answer,) = answered({"url": "https://b/1", "error_code": "AIS.0032"})
    assert str(answer.error) == (
        "huawei did not judge the image: the free calls are used up (AIS.0032)"
    )
    assert isinstance(answer.error, errors.VendorRefusedRequest)


def test_equal_urls_in_a_request_have_their_answers_in_order():
    items = [protocol.Item("a", url="https://b/1"), protocol.Item("b", url="https://b/1")]
    blocked, reviewed = result("block", porn=[]), result("review", porn=[])
    answers = answered(blocked, reviewed, items=items)
    assert [answer.verdicts[0].suggestion for answer in answers] == ["block", "review"]


def test_url_is_known_again_with_its_host_and_its_escapes_respelt():
    (answer,) = answered(
        result("review", "https://Bucket.obs/%E5%9B%BE.jpg", porn=[]),
        items=[protocol.Item("a", url="https://bucket.obs/图.jpg")],
    )
    assert answer.verdicts[0].suggestion == "review"


def test_answers_without_urls_go_by_their_place():
    items = [protocol.Item("a", url="https://b/1"), protocol.Item("b", url="https://b/2")]
    first, second = result("review", porn=[]), {"error_code": "AIS.0022"}
    del first["url"]
    answers = answered(first, second, items=items)
    assert answers[0].verdicts[0].suggestion == "review"
    assert isinstance(answers[1].error, errors.VendorRefusedInput)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_bytes_are_judged_at_once_even_where_urls_go_in_jobs(asynchronous):
    vendor = Huawei("cn-north-4", scenes=["porn"], asynchronous=asynchronous)
    item = protocol.Item("a", url="https://b/1", content=b"abc")
    request = vendor.scan([item], KEYS, NOW, "")
    assert request.url.endswith("/v1.0/moderation/image")
    assert json.loads(request.body) == {"image": "YWJj", "categories": ["porn"]}
    body = json.dumps({"result": {"suggestion": "review", "detail": {"porn": PORN}}}).encode()
    (answer,) = vendor.read_scan([item], protocol.Response(200, {"x-request-id": "R"}, body))
    assert told(answer) == ("judged", None, {"porn": ("normal", 0.6, "review")})
    assert answer.request_id == "R"


@pytest.mark.parametrize("status", ["done", "", None, 1])
def test_job_whose_status_is_not_documented_is_malformed(status):
    body = json.dumps({"result": {"job_id": "j", "status": status}}).encode()
    task = protocol.Task("j", [protocol.Item("a", url="https://b/1")])
    with pytest.raises(errors.VendorAnswerMalformed):
        Huawei("cn-north-4", asynchronous=True).read_query([task], protocol.Response(200, {}, body))


def test_failed_job_has_no_verdict_on_any_of_its_images():
    body = json.dumps({"result": {"job_id": "j", "status": "failed"}}).encode()
    task = protocol.Task("j", [protocol.Item("a", url="https://b/1")])
    vendor = Huawei("cn-north-4", asynchronous=True)
    ((_, answer),) = vendor.read_query([task], protocol.Response(200, {}, body))
    assert told(answer) == ("failed", "j", errors.VendorUnavailable, "", None)


def test_answer_on_another_job_is_malformed():
    body = json.dumps({"result": {"job_id": "other", "status": "running"}}).encode()
    task = protocol.Task("j", [protocol.Item("a", url="https://b/1")])
    with pytest.raises(errors.VendorAnswerMalformed):
        Huawei("cn-north-4", asynchronous=True).read_query([task], protocol.Response(200, {}, body))
