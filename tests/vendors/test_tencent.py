"""Requests to Tencent COS CI as the official SDK sends them, and what is never sent."""

import base64
import dataclasses
import datetime
import pickle
import re
import xml.etree.ElementTree as ET

import pytest
import recordings

from beam_moderation import errors
from beam_moderation.vendors import protocol, tencent_signatures
from beam_moderation.vendors.tencent import Freeze, Tencent

RECORDINGS = recordings.of("tencent")
REQUESTS = [name for name, recording in RECORDINGS.items() if "request" in recording]
SIGNATURE_ONLY = {"single"}
"""Calls for one image by GET, which the batch takes the place of; their signatures are checked."""

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
    request = vendor(recording).query(
        [task], credentials(recording), recording["frozen"]["epoch"], ""
    )
    recordings.assert_same_place(request, recording)
    assert request.body == b""
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


def test_every_recording_is_used():
    answers = {name for name, recording in RECORDINGS.items() if "response" in recording}
    kinds = {name.partition("_")[0] for name in REQUESTS}
    assert kinds == {"batch", "feedback", "query", *SIGNATURE_ONLY}
    assert {*REQUESTS, *answers} == {*RECORDINGS}
    assert len(RECORDINGS) == 27


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


def test_data_id_of_512_bytes_goes_out_as_it_is():
    (input_,) = sent(protocol.Item("é" * 256, url="http://x/1.jpg"))
    assert input_.findtext("DataId") == "é" * 256


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
