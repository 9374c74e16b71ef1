"""What Tencent's answers mean: recorded ones, hostile ones, and such as the pages leave open."""

import re
import xml.etree.ElementTree as ET

import pytest
import recordings

from beam_moderation import errors, records
from beam_moderation.vendors import protocol, tencent_answers
from beam_moderation.vendors.tencent import Tencent

RECORDINGS = recordings.of("tencent")
ANSWERS = [name for name, recording in RECORDINGS.items() if "response" in recording]
BUCKET, REGION = "examplebucket-1250000000", "ap-guangzhou"
KEYS = protocol.Credentials("testid", "testsecret")

EXPECTED = {
    "batch_async_submitted": [
        ("pending", "j1"),
        ("failed", "j2", errors.VendorFailedInput, "ResourceDownloadFailed", None),
    ],
    "batch_empty_error_body": (errors.VendorUnavailable, ""),
    "batch_http_403": (errors.VendorRefusedRequest, "SignatureDoesNotMatch"),
    "batch_http_503": (errors.VendorThrottled, "SlowDown"),
    "batch_ocr_lists": [
        ("judged", "j1", {"ad": ("Ads", 0.88, "review", "")}),
    ],
    "batch_one_job": [("judged", "j1", {"porn": ("xxx", 1.0, "block", "SexyHigh")})],
    "batch_scene_code_nonzero": [("failed", "j1", errors.VendorUnavailable, "-1", "porn")],
    "batch_two_jobs_one_failed": [
        (
            "judged",
            "j1",
            {"porn": ("Normal", 0.97, "pass", ""), "ad": ("Ads", 0.7, "review", "")},
        ),
        ("failed", None, errors.VendorRefusedInput, "InvalidArgument", None),
    ],
    "query_auditing": [("pending", "j1")],
    "query_success": [("judged", "j1", {"porn": ("Normal", 0.99, "pass", "")})],
}
"""What each recorded answer means, for the scenes that its images were judged for."""


def told(answer):
    if isinstance(answer, protocol.Pending):
        return "pending", answer.task_id
    if isinstance(answer, protocol.Failed):
        return "failed", answer.task_id, type(answer.error), answer.error.vendor_code, answer.scene
    verdicts = {v.scene: (v.label, v.score, v.suggestion, v.sub_label) for v in answer.verdicts}
    return "judged", answer.task_id, verdicts


def read(name):
    """The answers of a recording to the images that it is about."""
    operation = name.removeprefix("response_").partition("_")[0]
    expected = EXPECTED[name.removeprefix("response_")]
    expected = expected if isinstance(expected, list) else []
    scenes = {scene for line in expected if line[0] == "judged" for scene in line[2]}
    reader = Tencent(BUCKET, REGION, scenes=sorted(scenes, reverse=True) or ["porn"])
    items = [protocol.Item(f"d{place}") for place in range(1, len(expected) + 1)]
    response = recordings.response(RECORDINGS[name])
    if operation == "batch":
        return reader.read_scan(items, response)
    return [answer for _, answer in reader.read_query([protocol.Task("j1", items)], response)]


@pytest.mark.parametrize("name", ANSWERS)
def test_recorded_answer_means_what_the_vendor_documents(name):
    expected = EXPECTED[name.removeprefix("response_")]
    if isinstance(expected, list):
        answers = read(name)
        assert [told(answer) for answer in answers] == expected
        assert {answer.request_id for answer in answers} == {"REQ1"}
    else:
        with pytest.raises(errors.VendorError) as raised:
            read(name)
        assert (type(raised.value), raised.value.vendor_code) == expected


def test_every_recorded_answer_is_read():
    assert {f"response_{name}" for name in EXPECTED} == {*ANSWERS}


def test_detail_keeps_lists_numbers_and_what_is_said_of_the_image():
    (answer,) = read("response_batch_ocr_lists")
    (verdict,) = answer.verdicts
    location = {"X": 1.5, "Y": 2.0, "Height": 30.0, "Width": 40.0, "Rotate": 0.1}
    assert verdict.detail["OcrResults"] == [
        {"Text": "a", "Keywords": ["k1", "k2"], "Location": location},
        {"Text": "b", "Location": location},
    ]
    assert verdict.detail["LibResults"] == [{"ImageId": "i1", "Score": 99.0}]
    of_image = verdict.detail["JobsDetail"]
    assert of_image["ListInfo"] == {
        "ListResults": [{"ListType": "1", "ListName": "bl", "Entity": "e"}]
    }
    assert (of_image["Label"], of_image["Result"], of_image["Score"]) == ("Ads", "2", 88.0)


def test_single_ocr_result_and_single_keyword_are_lists():
    judged, _ = read("response_batch_two_jobs_one_failed")
    ad = next(verdict for verdict in judged.verdicts if verdict.scene == "ad")
    (result,) = ad.detail["OcrResults"]
    assert (result["Text"], result["Keywords"]) == ("加微信", ["微信"])


def test_findings_have_the_scenes_word_with_the_vendors_score():
    judged, _ = read("response_batch_two_jobs_one_failed")
    porn = next(verdict for verdict in judged.verdicts if verdict.scene == "porn")
    assert porn.findings == [records.Finding("Porn", 0.03), records.Finding("Normal", 0.97)]
    (hit,) = read("response_batch_one_job")[0].verdicts
    assert hit.findings == [records.Finding("Porn", 1.0), records.Finding("xxx", 1.0)]


def answered(*jobs, scenes=("porn",), items=None):
    body = f"<Response>{''.join(f'<JobsDetail>{job}</JobsDetail>' for job in jobs)}</Response>"
    items = items or [protocol.Item("d1", url="http://x/1.jpg")]
    reader = Tencent(BUCKET, REGION, scenes=scenes)
    return reader.read_scan(items, protocol.Response(200, {}, body.encode()))


PORN = "<PornInfo><Code>0</Code><HitFlag>{}</HitFlag><Score>{}</Score></PornInfo>"


@pytest.mark.parametrize(("flag", "suggestion"), [("0", "pass"), ("1", "block"), ("2", "review")])
def test_hit_flag_is_the_suggestion(flag, suggestion):
    (answer,) = answered(f"<DataId>d1</DataId>{PORN.format(flag, 50)}")
    assert [verdict.suggestion for verdict in answer.verdicts] == [suggestion]


@pytest.mark.parametrize(
    "info",
    [
        PORN.format(3, 50),
        PORN.format("", 50),
        PORN.format("pass", 50),
        PORN.format(0, ""),
        PORN.format(0, 101),
        PORN.format(0, -1),
        PORN.format(0, "NaN"),
        PORN.format(0, "1e999"),
        PORN.format(0, "<Deep>1</Deep>"),
        "<PornInfo/>",
        "<PornInfo>0</PornInfo>",
        "<AdsInfo><HitFlag>0</HitFlag><Score>0</Score></AdsInfo>",
        "",
        PORN.format(0, 0) * 2,
    ],
)
def test_scene_without_a_documented_verdict_is_malformed(info):
    try:
        (answer,) = answered(f"<DataId>d1</DataId><State>Success</State>{info}")
    except errors.VendorAnswerMalformed:
        return
    assert isinstance(answer, protocol.Failed)
    assert isinstance(answer.error, errors.VendorAnswerMalformed)


def test_image_blocked_for_no_scene_passes_none():
    job = f"<DataId>d1</DataId><Result>1</Result><Label>Spam</Label>{PORN.format(0, 1)}"
    (answer,) = answered(job)
    assert [verdict.suggestion for verdict in answer.verdicts] == ["block"]
    assert answer.verdicts[0].detail["JobsDetail"]["Label"] == "Spam"


def test_image_blocked_for_a_scene_that_nobody_asked_for_may_pass_another():
    ads = "<AdsInfo><HitFlag>1</HitFlag><Score>99</Score></AdsInfo>"
    (answer,) = answered(f"<DataId>d1</DataId><Result>1</Result>{PORN.format(0, 1)}{ads}")
    assert [verdict.suggestion for verdict in answer.verdicts] == ["pass"]


def test_state_that_is_not_final_is_pending():
    (answer,) = answered(
        f"<DataId>d1</DataId><JobId>j</JobId><State>New</State>{PORN.format(0, 1)}"
    )
    assert answer == protocol.Pending("j", None)


def test_unknown_code_of_an_image_is_malformed_and_quoted_in_part():
    (answer,) = answered(f"<DataId>d1</DataId><Code>Sur\nprise{'!' * 99}</Code>")
    assert isinstance(answer.error, errors.VendorAnswerMalformed)
    assert answer.error.vendor_code == "Sur?prise" + "!".replace("!", "?") * 55


def test_answers_without_ids_go_by_their_place():
    items = [protocol.Item("d1", url="http://x/1"), protocol.Item("d2", url="http://x/2")]
    first, second = answered(PORN.format(0, 1), "<Code>ResourceNotFound</Code>", items=items)
    assert first.verdicts[0].suggestion == "pass"
    assert isinstance(second.error, errors.VendorRefusedInput)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "0">]><Response>&b;</Response>', "vendor-answer-malformed"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1/x"><Response/>', "vendor-answer-malformed"),
        (b'<?xml version="1.0" encoding="gbk"?><Response/>', "vendor-answer-malformed"),
        (b'<?xml version="1.0" encoding="none"?><Response/>', "vendor-answer-malformed"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "vendor-answer-malformed"),
        (b"<Error><Code>Odd</Code></Error>", "vendor-answer-malformed"),
        (b"<Error><Code>AccessDenied</Code></Error>", "vendor-refused-login"),
    ],
)
def test_hostile_xml_with_status_200_is_no_answer(body, code):
    with pytest.raises(errors.VendorError) as raised:
        Tencent(BUCKET, REGION).read_scan([], protocol.Response(200, {}, body))
    assert raised.value.code == code


def test_query_of_an_unknown_job_says_that_it_is_gone():
    body = b"<Error><Code>ResourceNotFound</Code></Error>"
    task = protocol.Task("j", [protocol.Item("a")])
    with pytest.raises(errors.VendorTaskGone):
        Tencent(BUCKET, REGION).read_query([task], protocol.Response(404, {}, body))


def test_query_answered_with_another_job_fails_its_images():
    task = protocol.Task("j9", [protocol.Item("a")])
    body = RECORDINGS["response_query_success"]["response"]["body"].encode()
    ((_, answer),) = Tencent(BUCKET, REGION).read_query([task], protocol.Response(200, {}, body))
    assert isinstance(answer.error, errors.VendorAnswerMalformed)
    assert answer.task_id == "j9"


def test_callback_is_read_from_the_query_that_confirmed_it():
    task = protocol.Task("j1", [protocol.Item("a")])
    body = RECORDINGS["response_query_success"]["response"]["body"].encode()
    reader = Tencent(BUCKET, REGION, scenes=["porn"])
    ((_, answer),) = reader.read_callback(task, body)
    assert told(answer) == EXPECTED["query_success"][0]


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": 0, "data": {"trace_id": "j1", "data_id": "d"}}',
        b'{"EventName": "ReviewImage", "JobsDetail": {"JobId": "j1"}}',
        b'{"EventName": "ReviewImage", "JobsDetail": [{"JobId": "j1"}]}',
    ],
)
def test_callback_names_its_job(body):
    assert tencent_answers.delivered_job(body) == "j1"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"data": {"trace_id": 1}}', b"\xff"])
def test_callback_without_a_job_is_malformed(body):
    with pytest.raises(errors.VendorAnswerMalformed):
        tencent_answers.delivered_job(body)


def wires(*items):
    """The ids that items go out with."""
    request = Tencent(BUCKET, REGION).scan(items, KEYS, 1715243415.5, "")
    return [input_.findtext("DataId") for input_ in ET.fromstring(request.body).iter("Input")]


@pytest.mark.parametrize("data_id", ["é" * 257, "a\rb", " a", "a\x00b", "\ud800", ""])
def test_data_id_that_would_not_come_back_is_hashed_and_mapped_back(data_id):
    image = protocol.Item(data_id, url="http://x/1.jpg")
    (wire,) = wires(image)
    assert re.fullmatch("[0-9a-f]{32}", wire)
    (answer,) = answered(f"<DataId>{wire}</DataId>{PORN.format(2, 80)}", items=[image])
    assert answer.verdicts[0].suggestion == "review"


def test_data_id_that_comes_twice_has_two_answers():
    items = [protocol.Item("a", url="http://x/1"), protocol.Item("a", url="http://x/2")]
    jobs = [
        f"<DataId>{wire}</DataId>{PORN.format(flag, 9)}"
        for wire, flag in zip(wires(*items), "12", strict=True)
    ]
    answers = answered(*reversed(jobs), items=items)
    assert [answer.verdicts[0].suggestion for answer in answers] == ["block", "review"]
