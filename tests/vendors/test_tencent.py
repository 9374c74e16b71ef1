import base64
import dataclasses
import datetime
import pickle
import re
import xml.etree.ElementTree as ET

import pytest
import recordings

from beam_moderation import errors, records
from beam_moderation.vendors import protocol, tencent_answers, tencent_signatures
from beam_moderation.vendors.tencent import Freeze, Tencent

RECORDINGS = recordings.of("tencent")
REQUESTS = [name for name, recording in RECORDINGS.items() if "request" in recording]
ANSWERS = [name for name, recording in RECORDINGS.items() if "response" in recording]
BUCKET, REGION = "examplebucket-1250000000", "ap-guangzhou"
KEYS = protocol.Credentials("testid", "testsecret")
NOW = 1715243415.5


def credentials(recording):
    told = recording["credentials"]
    return protocol.Credentials(told["secret_id"], told["secret_key"], told.get("token"))


def vendor(recording, fields=None):
    """The vendor with the options that a recording was made with, or one image of it."""
    fields, conf = fields or {}, recording["inputs"].get("Conf", {})
    freeze = conf.get("Freeze")
    return Tencent(
        bucket=recording["inputs"]["bucket"],
        region=recording["inputs"]["region"],
        biz_type=conf.get("BizType"),
        detect_type="DetectType" in conf,
        asynchronous=bool(conf.get("Async")),
        callback=conf.get("Callback"),
        freeze=Freeze(freeze["PornScore"], freeze["AdsScore"]) if freeze else None,
        interval=fields.get("Interval"),
        max_frames=fields.get("MaxFrames"),
        large_image_detect=bool(fields.get("LargeImageDetect")),
        user_info=fields.get("UserInfo", {}),
        sign_host=recording["case"] != "no_sign_host",
        signature_lifetime_s=10_000,
    )


def item(fields):
    content = fields.get("Content")
    return protocol.Item(
        fields.get("DataId", "not recorded"),
        url=fields.get("Url"),
        object_key=fields.get("Object"),
        content=base64.b64decode(content) if content else None,
    )


def our_body(recording):
    """The body of our requests for each image alone, put together; no DataId that they lack."""
    inputs = []
    for fields in recording["inputs"]["Input"]:
        body = vendor(recording, fields).scan([item(fields)], KEYS, NOW, "").body.decode()
        head, input_, tail = re.fullmatch(r"(.*?)(<Input>.*</Input>)(.*)", body, re.DOTALL).groups()
        inputs.append(input_ if "DataId" in fields else re.sub("<DataId>.*</DataId>", "", input_))
    return head + "".join(inputs) + tail


@pytest.mark.parametrize("name", REQUESTS)
def test_signature_is_that_of_the_sdk_for_the_same_headers(name):
    recording = RECORDINGS[name]
    request, recorded = recording["request"], recording["request"]["headers"]["Authorization"]
    names = re.search("q-header-list=([^&]*)", recorded)[1].split(";")
    signature = tencent_signatures.cos(
        request["method"],
        request["path"],
        dict(request["query_params"]),
        recordings.signed_headers(recording, names),
        credentials(recording),
        tuple(recording["frozen"]["sign_window"]),
    )
    assert signature == recorded


@pytest.mark.parametrize("name", [name for name in REQUESTS if name.startswith("batch_")])
def test_batch_has_the_bytes_of_the_sdk(name):
    recorded = RECORDINGS[name]["request"]["body"]
    if name == "batch_async_requested_but_dropped":
        recorded = recorded.replace("<Conf>", "<Conf><Async>1</Async>")
    assert our_body(RECORDINGS[name]) == recorded


@pytest.mark.parametrize(
    "name",
    ["async_forced", "content_base64", "hundred_inputs", "url_xml_escape", "userinfo_large_freeze"],
)
def test_batch_is_the_request_of_the_sdk_with_its_signature(name):
    recording = RECORDINGS[f"batch_{name}"]
    inputs = recording["inputs"]["Input"]
    request = vendor(recording, inputs[0]).scan(
        [item(fields) for fields in inputs], KEYS, recording["frozen"]["epoch"], ""
    )
    recordings.assert_same_place(request, recording)
    assert request.body.decode() == recording["request"]["body"]
    assert request.headers["Authorization"] == recording["request"]["headers"]["Authorization"]


@pytest.mark.parametrize("name", ["batch_no_sign_host", "batch_one_url", "batch_sts_token"])
def test_batch_signs_the_headers_that_the_sdk_signs(name):
    recording = RECORDINGS[name]
    items = [item(fields) for fields in recording["inputs"]["Input"]]
    request = vendor(recording).scan(items, credentials(recording), NOW, "")
    recordings.assert_same_place(request, recording)
    names = re.compile("q-header-list=[^&]*&")
    recorded = recording["request"]["headers"]
    assert names.findall(request.headers["Authorization"]) == names.findall(
        recorded["Authorization"]
    )
    assert request.headers.get("x-ci-security-token") == recorded.get("x-ci-security-token")
    assert request.headers["Content-Length"] == str(len(request.body))


@pytest.mark.parametrize("name", [name for name in REQUESTS if name.startswith("query_")])
def test_query_is_the_request_of_the_sdk(name):
    recording = RECORDINGS[name]
    task = protocol.Task(recording["inputs"]["JobID"], [protocol.Item("a")])
    ((tasks, request),) = vendor(recording).query(
        [task], credentials(recording), recording["frozen"]["epoch"], ""
    )
    recordings.assert_same_place(request, recording)
    assert (tasks, request.body) == ([task], b"")
    assert request.headers["Authorization"] == recording["request"]["headers"]["Authorization"]


def test_feedback_is_the_request_of_the_sdk():
    recording = RECORDINGS["feedback_image_badcase"]
    inputs = recording["inputs"]
    human = protocol.Human(
        inputs["Url"],
        "pass",
        scenes=["porn"],
        vendor_label=inputs["Label"],
        task_id=inputs["JobId"],
        moderated_at=datetime.datetime.fromisoformat(inputs["ModerationTime"]),
    )
    request = vendor(recording).feedback(human, KEYS, recording["frozen"]["epoch"], "")
    recordings.assert_same_place(request, recording)
    assert request.body.decode() == recording["request"]["body"]
    assert request.headers["Authorization"] == recording["request"]["headers"]["Authorization"]


def test_feedback_without_a_label_names_the_scene():
    human = protocol.Human("http://x/1.jpg", "block", scenes=["ad"], vendor_label="Normal")
    body = Tencent(BUCKET, REGION).feedback(human, KEYS, NOW, "").body.decode()
    assert "<SuggestedLabel>Ads</SuggestedLabel>" in body
    assert "<Label>Normal</Label>" in body


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


def test_every_recording_is_used():
    assert {f"response_{name}" for name in EXPECTED} == set(ANSWERS)
    assert set(REQUESTS) | set(ANSWERS) == set(RECORDINGS)
    assert len(RECORDINGS) == 27


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


def sent(*items, **options):
    request = Tencent(BUCKET, REGION, **options).scan(items, KEYS, NOW, "")
    return ET.fromstring(request.body).findall("Input")


def test_content_goes_before_object_and_object_before_url():
    both = protocol.Item("a", url="http://x/1", object_key="k.jpg")
    (with_object,) = sent(both)
    (with_content,) = sent(dataclasses.replace(both, content=b"abc"))
    assert [child.tag for child in with_object] == ["DataId", "Object"]
    assert [child.tag for child in with_content] == ["DataId", "Content"]
    assert with_content.findtext("Content") == "YWJj"


@pytest.mark.parametrize("data_id", ["é" * 257, "a\rb", " a", "a\x00b", "\ud800", ""])
def test_data_id_that_would_not_come_back_is_hashed_and_mapped_back(data_id):
    image = protocol.Item(data_id, url="http://x/1.jpg")
    (input_,) = sent(image)
    wire = input_.findtext("DataId")
    assert re.fullmatch("[0-9a-f]{32}", wire)
    (answer,) = answered(f"<DataId>{wire}</DataId>{PORN.format(2, 80)}", items=[image])
    assert answer.verdicts[0].suggestion == "review"


def test_data_id_of_512_bytes_goes_out_as_it_is():
    (input_,) = sent(protocol.Item("é" * 256, url="http://x/1.jpg"))
    assert input_.findtext("DataId") == "é" * 256


def test_data_id_that_comes_twice_has_two_answers():
    items = [protocol.Item("a", url="http://x/1"), protocol.Item("a", url="http://x/2")]
    wires = [input_.findtext("DataId") for input_ in sent(*items)]
    jobs = [
        f"<DataId>{wire}</DataId>{PORN.format(flag, 9)}"
        for wire, flag in zip(wires, "12", strict=True)
    ]
    answers = answered(*reversed(jobs), items=items)
    assert [answer.verdicts[0].suggestion for answer in answers] == ["block", "review"]


@pytest.mark.parametrize(
    "item_",
    [
        protocol.Item("a"),
        protocol.Item("a", url=""),
        protocol.Item("a", url="http://x/\x01"),
        protocol.Item("a", object_key="k\x00.jpg"),
        protocol.Item("a", object_key="k\r.jpg"),
        protocol.Item("a", url="http://x/\ufffe"),
    ],
)
def test_image_that_cannot_be_sent_is_refused_before_it_is(item_):
    with pytest.raises(errors.VendorRefusedInput):
        sent(item_)


def test_request_freezes_nothing_by_default_and_says_that_it_is_synchronous():
    body = Tencent(BUCKET, REGION).scan([protocol.Item("a", url="http://x")], KEYS, NOW, "").body
    assert b"<Conf><Async>0</Async></Conf>" in body


def test_endpoint_replaces_the_host_that_is_called_and_signed():
    local = Tencent(BUCKET, REGION, endpoint="http://127.0.0.1:8080/")
    request = local.scan([protocol.Item("a", url="http://x")], KEYS, NOW, "")
    assert request.url == "http://127.0.0.1:8080/image/auditing"
    assert request.headers["Host"] == "127.0.0.1:8080"


@pytest.mark.parametrize(
    "options",
    [
        {"scenes": []},
        {"scenes": ["nudity"]},
        {"scenes": ["porn", "porn"]},
        {"scenes": ["quality"], "detect_type": True},
        {"callback": "http://x"},
        {"interval": 0},
        {"max_frames": 0},
        {"user_info": {"Name": "x"}},
        {"user_info": {"Room": "é" * 65}},
    ],
)
def test_option_that_the_vendor_does_not_take_is_refused(options):
    with pytest.raises(errors.ConfigurationError, match="tencent: "):
        Tencent(BUCKET, REGION, **options)


@pytest.mark.parametrize("score", [-1, 101])
def test_freeze_score_out_of_range_is_refused(score):
    with pytest.raises(errors.ConfigurationError):
        Freeze(ads_score=score)


def test_large_images_are_taken_only_where_they_are_shrunk():
    assert Tencent(BUCKET, REGION).limits.max_bytes == 5_000_000
    assert Tencent(BUCKET, REGION, large_image_detect=True).limits.max_bytes == 31_999_999


def test_vendor_can_be_pickled_and_does_not_show_its_callback():
    vendor_ = Tencent(BUCKET, REGION, asynchronous=True, callback="https://x/unguessable")
    assert pickle.loads(pickle.dumps(vendor_)) == vendor_
    assert "unguessable" not in repr(vendor_)
