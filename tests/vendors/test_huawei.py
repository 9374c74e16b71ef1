import base64
import dataclasses
import json
import pickle
import re

import pytest
import recordings

from beam_moderation import errors, records
from beam_moderation.vendors import huawei_signatures, protocol
from beam_moderation.vendors.huawei import Huawei

RECORDINGS = recordings.of("huawei")
REQUESTS = [name for name, recording in RECORDINGS.items() if "request" in recording]
ANSWERS = [name for name, recording in RECORDINGS.items() if "response" in recording]
SIGNED = [name for name in REQUESTS if "Authorization" in RECORDINGS[name]["request"]["headers"]]
SIGNATURE_ONLY = {
    "iam_projects_by_region",
    "v1_jobs_running",
    "v2_batch_two_urls",
    "v2_result_one",
    "v2_submit_one",
}
"""Calls that the product has no use for; their signatures are checked all the same."""

BUILT = sorted({*REQUESTS} - SIGNATURE_ONLY)
KEYS = protocol.Credentials("testid", "testsecret")
NOW = 1715243415.5


def credentials(recording):
    told = recording["credentials"]
    return protocol.Credentials(
        told.get("ak", ""),
        told.get("sk", ""),
        told.get("security_token"),
        login_token=told.get("token"),
    )


def built(name):
    """Our request for what a recorded one asks."""
    recording = RECORDINGS[name]
    version, _, operation = name.partition("_")
    operation = operation.partition("_")[0]
    inputs = {**recording["inputs"], **(recording["inputs"].get("body") or {})}
    now = recording.get("frozen", {}).get("epoch", NOW)
    v3 = version == "v3"
    vendor = Huawei(
        region=inputs["region"],
        scenes=scenes(inputs),
        api_version="v3" if v3 else "v1.0",
        asynchronous=operation in ("submit", "result"),
        threshold=inputs.get("threshold") or None,
        moderation_rule=inputs.get("moderation_rule"),
        ad_glossaries=inputs.get("ad_glossaries", []),
        biz_type=inputs.get("biz_type"),
        event_type=inputs.get("event_type"),
        project_id=recording["credentials"].get("project_id"),
    )
    if operation == "result":
        job_id = inputs.get("job_id") or recording["request"]["query"].partition("=")[2]
        task = protocol.Task(job_id, [protocol.Item("a")])
        ((_, request),) = vendor.query([task], credentials(recording), now, "")
        return request
    if inputs.get("url"):
        vendor = dataclasses.replace(vendor, moderation_rule="default")
    return vendor.scan(items(inputs), credentials(recording), now, "")


def scenes(inputs):
    """The categories of a recording; those that its server would choose, by name."""
    categories = inputs.get("categories", ["politics", "terrorism"])
    return ["politics", "terrorism", "porn"] if categories == ["all"] else categories


def items(inputs):
    if image := inputs.get("image"):
        return [protocol.Item("a", content=base64.b64decode(image))]
    urls = inputs.get("urls") or [inputs["url"]]
    told = [url if isinstance(url, dict) else {"url": url, "data_id": "a"} for url in urls]
    return [protocol.Item(url["data_id"], url=url["url"]) for url in told]


@pytest.mark.parametrize("name", SIGNED)
def test_signature_is_that_of_the_sdk_for_the_same_headers(name):
    recording = RECORDINGS[name]
    request, recorded = recording["request"], recording["request"]["headers"]["Authorization"]
    names = re.search("SignedHeaders=([^,]*)", recorded)[1].split(";")
    signature = huawei_signatures.sdk_hmac(
        request["method"],
        request["path"],
        dict(request["query_params"]),
        recordings.signed_headers(recording, names),
        (request["body"] or "").encode(),
        credentials(recording),
    )
    assert signature == recorded
    assert (
        huawei_signatures.sdk_date(recording["frozen"]["epoch"])
        == recording["frozen"]["x_sdk_date"]
    )


@pytest.mark.parametrize("name", [name for name in BUILT if name != "iam_token_password"])
def test_request_means_what_the_recorded_one_means(name):
    recording, request = RECORDINGS[name], built(name)
    recordings.assert_same_place(request, recording)
    recorded = recording["request"]
    body = recorded.get("body_json") or json.loads(recorded.get("body") or "null")
    if body is None:
        assert request.body == b""
        return
    if name.startswith("v1"):
        body["categories"] = scenes(body)
    if body.get("threshold") == "":
        del body["threshold"]
    ours = json.loads(request.body)
    if recording["inputs"].get("url"):
        del ours["moderation_rule"]
    assert ours == body


@pytest.mark.parametrize("name", [name for name in BUILT if name != "iam_token_password"])
def test_request_proves_who_sends_it(name):
    recording, request = RECORDINGS[name], built(name)
    recorded = recording["request"]["headers"]
    for header in ("X-Auth-Token", "X-Sdk-Date", "X-Security-Token", "X-Project-Id"):
        assert request.headers.get(header) == recorded.get(header)
    if "Authorization" not in recorded:
        assert "Authorization" not in request.headers
        return
    names = re.search("SignedHeaders=([^,]*)", request.headers["Authorization"])[1].split(";")
    assert {*names} == {name.lower() for name in request.headers} - {"authorization"}
    our_names = re.search("SignedHeaders=([^,]*)", recorded["Authorization"])[1].split(";")
    assert {*names} == {*our_names} - {"user-agent"}


@pytest.mark.parametrize(
    "name",
    [
        "v1_batch_security_token",
        "v1_batch_ten_urls",
        "v1_batch_two_urls_categories",
        "v1_batch_unicode_url",
        "v1_submit_two_urls",
        "v3_batch_biz_type",
        "v3_batch_two_urls",
        "v3_image_base64",
    ],
)
def test_body_has_the_bytes_of_the_sdk(name):
    assert built(name).body.decode() == RECORDINGS[name]["request"]["body"]


LOGIN = protocol.Credentials("user1", 'pass"word', domain="domain1")


def test_login_is_the_request_of_the_sdk():
    recording = RECORDINGS["iam_token_password"]
    request = Huawei("cn-north-1").login(LOGIN, NOW, "")
    recordings.assert_same_place(request, recording)
    assert request.body.decode() == recording["request"]["body"]


def test_login_is_not_needed_for_a_key_pair():
    assert Huawei("cn-north-1").login(KEYS, NOW, "") is None


def login_response(status=201, body=None, **headers):
    told = {"token": {"expires_at": "2024-05-10T08:30:15.000000Z"}} if body is None else body
    return protocol.Response(status, headers, json.dumps(told).encode())


def test_login_grants_the_token_of_the_header_until_it_ends():
    vendor = Huawei("cn-north-1")
    token = RECORDINGS["iam_token_password"]["sdk_result"]["token_from_header_X-Subject-Token"]
    grant = vendor.read_login(LOGIN, login_response(**{"x-subject-token": token}))
    assert grant.expires_at == 1715243415 + 86_400
    item = protocol.Item("a", url="https://b/1")
    request = vendor.scan([item], grant.credentials, NOW, "")
    assert request.headers["X-Auth-Token"] == token
    assert not {"Authorization", "X-Sdk-Date"} & {*request.headers}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (login_response(), errors.VendorAnswerMalformed),
        (login_response(body={}, **{"x-subject-token": "T"}), errors.VendorAnswerMalformed),
        (
            login_response(body={"token": {"expires_at": "soon"}}, **{"x-subject-token": "T"}),
            errors.VendorAnswerMalformed,
        ),
        (login_response(401, {"error": {"code": 401}}), errors.VendorRefusedLogin),
        (login_response(500, {}), errors.VendorUnavailable),
    ],
)
def test_login_without_a_token_fails(response, error):
    with pytest.raises(error):
        Huawei("cn-north-1").read_login(LOGIN, response)


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


def test_every_recording_is_used():
    assert {*EXPECTED} == {*ANSWERS}
    assert {*BUILT, *SIGNATURE_ONLY, *ANSWERS} == {*RECORDINGS}
    assert {*SIGNATURE_ONLY} <= {*SIGNED}
    assert len(RECORDINGS) == 35


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


V3 = Huawei(
    "cn-north-4",
    scenes=["porn", "terrorism"],
    api_version="v3",
    event_type="album",
    project_id="p",
)


def answered_v3(*results, items):
    body = json.dumps({"request_id": "r", "results": results}).encode()
    return V3.read_scan(items, protocol.Response(200, {}, body))


def test_v3_ids_that_the_vendor_does_not_take_are_hashed_and_mapped_back():
    ids = ["ok_-9", "a" * 31, "a b", "", "ok_-9"]
    items = [protocol.Item(id_, url=f"https://b/{place}") for place, id_ in enumerate(ids)]
    sent = json.loads(V3.scan(items, KEYS, NOW, "").body)["urls"]
    wires = [url["data_id"] for url in sent]
    assert wires[0] == "ok_-9"
    assert len({*wires}) == len(wires)
    assert all(re.fullmatch("[0-9a-f]{30}", wire) for wire in wires[1:])
    results = [
        {"data_id": wire, "error_code": code}
        for wire, code in zip(
            wires, ["AIS.0021", "AIS.0022", "AIS.0023", "AIS.0024", "AIS.0025"], strict=True
        )
    ]
    answers = answered_v3(*reversed(results), items=items)
    assert [answer.error.vendor_code for answer in answers] == [
        result_["error_code"] for result_ in results
    ]


def test_v3_scene_has_the_worst_of_its_details_and_passes_without_any():
    details = [
        {"category": "porn", "suggestion": "review", "label": "sexy", "confidence": 0.99},
        {"category": "porn", "suggestion": "block", "label": "nude", "confidence": 0.8},
    ]
    told_ = {"data_id": "a", "suggestion": "block", "category": "porn", "details": details}
    (answer,) = answered_v3(told_, items=[protocol.Item("a", url="https://b/1")])
    assert told(answer)[2] == {"porn": ("nude", 0.8, "block"), "terrorism": ("normal", 0.0, "pass")}
    assert answer.verdicts[0].findings == [("nude", 0.8), ("sexy", 0.99)]


def test_v3_image_blocked_without_a_detail_passes_no_scene():
    told_ = {"data_id": "a", "suggestion": "block", "details": []}
    (answer,) = answered_v3(told_, items=[protocol.Item("a", url="https://b/1")])
    assert {verdict.suggestion for verdict in answer.verdicts} == {"block"}


def test_v3_image_by_its_bytes_is_judged_alone():
    item = protocol.Item("a", content=b"abc")
    request = V3.scan([item], KEYS, NOW, "")
    assert request.url.endswith("/v3/p/moderation/image")
    body = json.dumps({"request_id": "r", "result": {"suggestion": "pass"}}).encode()
    (answer,) = V3.read_scan([item], protocol.Response(200, {}, body))
    assert {verdict.suggestion for verdict in answer.verdicts} == {"pass"}


def test_feedback_says_pass_or_block_for_the_scenes():
    human = protocol.Human("https://b/1", "block", scenes=["porn"])
    request = Huawei("cn-north-4").feedback(human, KEYS, NOW, "")
    assert request.url.endswith(".com/v1.1/moderation/image/feedback")
    assert json.loads(request.body) == {
        "suggestion": "block",
        "url": "https://b/1",
        "categories": ["porn"],
    }


def test_feedback_that_says_review_is_not_sent():
    with pytest.raises(errors.VendorRefusedInput):
        Huawei("cn-north-4").feedback(protocol.Human("https://b/1", "review"), KEYS, NOW, "")


def test_image_without_bytes_or_url_is_refused_before_it_is_sent():
    with pytest.raises(errors.VendorRefusedInput):
        Huawei("cn-north-4").scan([protocol.Item("a", object_key="k")], KEYS, NOW, "")


@pytest.mark.parametrize(("asynchronous", "most"), [(False, 10), (True, 500)])
def test_more_urls_than_a_request_takes_are_not_sent(asynchronous, most):
    vendor = Huawei("cn-north-4", asynchronous=asynchronous)
    items = [protocol.Item(str(n), url=f"https://b/{n}") for n in range(most + 1)]
    assert vendor.limits.max_items == most
    assert vendor.scan(items[:most], KEYS, NOW, "").body.count(b"https://") == most
    with pytest.raises(ValueError, match=f"{most + 1} images, at most {most}"):
        vendor.scan(items, KEYS, NOW, "")


def test_bytes_beside_other_images_are_not_sent():
    items = [protocol.Item("a", content=b"a"), protocol.Item("b", url="https://b/1")]
    assert Huawei("cn-north-4").limits.inline_alone
    with pytest.raises(ValueError, match="request of its own"):
        Huawei("cn-north-4").scan(items, KEYS, NOW, "")


def test_rule_makes_each_image_a_request():
    vendor = Huawei("cn-north-4", moderation_rule="strict", ad_glossaries=["g"], scenes=["ad"])
    assert vendor.limits.max_items == 1
    request = vendor.scan([protocol.Item("a", url="https://b/1")], KEYS, NOW, "")
    assert json.loads(request.body) == {
        "url": "https://b/1",
        "categories": ["ad"],
        "moderation_rule": "strict",
        "ad_glossaries": ["g"],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"scenes": []},
        {"scenes": ["all"]},
        {"scenes": ["porn", "porn"]},
        {"scenes": ["image_text"]},
        {"scenes": ["ad"], "asynchronous": True},
        {"api_version": "v2"},
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"biz_type": "x"},
        {"event_type": "album"},
        {"moderation_rule": "x", "asynchronous": True},
        {"api_version": "v3", "project_id": "p"},
        {"api_version": "v3", "event_type": "album"},
        {"api_version": "v3", "project_id": "p", "event_type": "party"},
        {"api_version": "v3", "project_id": "p", "event_type": "album", "asynchronous": True},
        {"api_version": "v3", "project_id": "p", "event_type": "album", "threshold": 0.5},
        {"api_version": "v3", "project_id": "p", "event_type": "album", "scenes": ["ad"]},
    ],
)
def test_option_that_the_vendor_does_not_take_is_refused(options):
    with pytest.raises(errors.ConfigurationError, match="huawei: "):
        Huawei("cn-north-4", **options)


def test_endpoint_replaces_the_host_that_is_called_and_signed():
    vendor = Huawei("cn-north-4", endpoint="http://127.0.0.1:8080", iam_endpoint="http://[::1]:9/")
    request = vendor.scan([protocol.Item("a", url="https://b/1")], KEYS, NOW, "")
    assert request.url == "http://127.0.0.1:8080/v1.0/moderation/image/batch"
    assert request.headers["Host"] == "127.0.0.1:8080"
    assert vendor.login(LOGIN, NOW, "").url == "http://[::1]:9/v3/auth/tokens"


def test_vendor_can_be_pickled_and_names_its_version():
    assert pickle.loads(pickle.dumps(V3)) == V3
    assert (Huawei("x").provider, V3.provider) == ("huawei/v1.0", "huawei/v3")
