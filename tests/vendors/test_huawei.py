"""Requests to Huawei Moderation as the official SDK sends them, and what is never sent."""

import base64
import dataclasses
import json
import pickle
import re

import pytest
import recordings

from beam_moderation import errors
from beam_moderation.vendors import huawei_signatures, protocol
from beam_moderation.vendors.huawei import Huawei

RECORDINGS = recordings.of("huawei")
REQUESTS = [name for name, recording in RECORDINGS.items() if "request" in recording]
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
        return vendor.query([task], credentials(recording), now, "")
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


def test_every_recording_is_used():
    answers = {name for name, recording in RECORDINGS.items() if "response" in recording}
    assert {*BUILT, *SIGNATURE_ONLY, *answers} == {*RECORDINGS}
    assert {*SIGNATURE_ONLY} <= {*SIGNED}
    assert len(RECORDINGS) == 35


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
    v3 = Huawei("x", api_version="v3", project_id="p", event_type="album")
    assert pickle.loads(pickle.dumps(v3)) == v3
    assert (Huawei("x").provider, v3.provider) == ("huawei/v1.0", "huawei/v3")
