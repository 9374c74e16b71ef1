"""Alibaba Green: requests as the official SDK sends them, answers as the pages document them."""

import json
from urllib.parse import parse_qsl, urlsplit

import pytest
import recordings

from beam_moderation import errors
from beam_moderation.callbacks import proofs
from beam_moderation.vendors import alibaba_signatures as signatures
from beam_moderation.vendors import protocol
from beam_moderation.vendors.alibaba import Alibaba

RECORDINGS = recordings.of("alibaba")
CALLBACKS = {name: r for name, r in RECORDINGS.items() if name.startswith("callback_")}
UPLOADS = {name: r for name, r in RECORDINGS.items() if name.startswith("upload_")}
CALLS = {n: r for n, r in RECORDINGS.items() if n not in CALLBACKS and n not in UPLOADS}
KEYS = protocol.Credentials("testid", "testsecret")
NOW = 1715243415.0


def parametrized(table):
    return pytest.mark.parametrize("recording", table.values(), ids=table.keys())


def keys_of(recording):
    told = recording["credentials"]
    return protocol.Credentials(
        told["access_key_id"], told["access_key_secret"], told.get("security_token")
    )


def items_of(payload):
    return [protocol.Item(task["dataId"], url=task["url"]) for task in payload["tasks"]]


def task_of(*ids):
    return [
        protocol.Task(id_, [protocol.Item(f"item-{id_}", url="https://a.example/1.jpg")])
        for id_ in ids
    ]


def response(fields, status=200, headers=None):
    return protocol.Response(status, headers or {}, json.dumps(fields).encode())


def answered(*tasks, code=200):
    return response({"code": code, "msg": "m", "requestId": "R", "data": [*tasks]})


def result(scene="porn", label="normal", suggestion="pass", rate=99.9, **more):
    fields = {"scene": scene, "label": label, "suggestion": suggestion, "rate": rate}
    return {**fields, **more}


def one(vendor, **fields):
    """The answer to one item whose task has the fields."""
    item = protocol.Item("id0", url="https://img.example.com/0.jpg")
    task = {"code": 200, "dataId": "id0", "taskId": "img$a@b", **fields}
    (answer,) = vendor.read_scan([item], answered(task))
    return answer


def test_every_recording_is_used():
    operations = {recording["operation"] for recording in CALLS.values()}
    assert operations == {"sync", "async", "results", "feedback"}
    assert len(CALLBACKS) + len(UPLOADS) + len(CALLS) == len(RECORDINGS) == 29


@parametrized(CALLS)
def test_signature_is_the_one_of_the_sdk(recording):
    request = recording["request"]
    authorization = signatures.acs(
        request["method"],
        request["path"],
        dict(request["query_params"]),
        request["headers"],
        keys_of(recording),
    )
    assert authorization == request["headers"]["Authorization"]
    assert signatures.content_md5(request["body"].encode()) == request["headers"]["Content-MD5"]
    assert signatures.http_date(recording["frozen"]["epoch"]) == request["headers"]["Date"]


def built(recording):
    """The request that the recording's inputs lead to."""
    inputs, operation = recording["inputs"], recording["operation"]
    payload, signing = inputs["payload"], (keys_of(recording), recording["frozen"]["epoch"], "n")
    options = {"region": inputs["region"], "version": recording["api_version"]}
    if operation == "results":
        ((tasks, request),) = Alibaba(**options).query(task_of(*payload), *signing)
        assert [task.task_id for task in tasks] == payload
        return request
    if operation == "feedback":
        names = {"taskId": "task_id"}
        told = {names.get(name, name): value for name, value in payload.items()}
        return Alibaba(**options).feedback(protocol.Human(**told), *signing)
    first = payload["tasks"][0]
    vendor = Alibaba(
        scenes=tuple(payload["scenes"]),
        asynchronous=operation == "async",
        biz_type=payload.get("bizType"),
        callback=payload.get("callback"),
        seed=payload.get("seed"),
        interval=first.get("interval"),
        max_frames=first.get("maxFrames"),
        extras=first.get("extras", {}),
        client_info=json.loads(inputs.get("client_info", "{}")),
        **options,
    )
    return vendor.scan(items_of(payload), *signing)


def comparable(content):
    """A body without what this client does not send of an image."""
    if isinstance(content, list):
        return content
    tasks = [
        {name: value for name, value in task.items() if name not in ("time", "clientInfo")}
        for task in content.get("tasks", [])
    ]
    return {**content, "tasks": tasks}


@parametrized(CALLS)
def test_request_means_what_the_sdk_sends(recording):
    request, recorded = built(recording), recording["request"]
    url = urlsplit(request.url)
    assert (request.method, url.scheme, url.netloc) == ("POST", "https", recorded["host"])
    assert url.path == recorded["path"]
    parameters = dict(parse_qsl(url.query))
    for name, value in recorded["query_params"]:
        if name == "ClientInfo":
            assert json.loads(parameters[name]) == json.loads(value)
        else:
            assert parameters[name] == value
    assert comparable(json.loads(request.body)) == comparable(json.loads(recorded["body"]))
    kept = ("action", "version", "region-id", "signature-method", "signature-version")
    for name in (*(f"x-acs-{word}" for word in kept), "Date", "Accept"):
        assert request.headers[name] == recorded["headers"][name]


@parametrized(CALLS)
def test_request_is_signed_over_its_own_headers_with_a_nonce(recording):
    request = built(recording)
    url = urlsplit(request.url)
    expected = signatures.acs(
        "POST", url.path, dict(parse_qsl(url.query)), request.headers, keys_of(recording)
    )
    assert request.headers["Authorization"] == expected
    assert request.headers["x-acs-signature-nonce"].startswith("n")
    assert request.headers["Content-MD5"] == signatures.content_md5(request.body)


@parametrized(UPLOADS)
def test_upload_asks_for_credentials_and_puts_the_bytes_as_the_sdk_does(recording):
    lending, putting = recording["requests"]
    vendor = Alibaba(region=recording["inputs"]["region"])
    epoch = recording["frozen"]["epoch"]
    request = vendor.upload_grant(keys_of(recording), epoch, "n")
    assert urlsplit(request.url).path == lending["path"]
    assert request.body == lending["body"].encode()
    grant = vendor.read_upload_grant(response(recording["inputs"]["upload_credentials_response"]))
    key = recording["sdk_result"]["returned_url"].removeprefix(f"oss://{grant.place['bucket']}/")
    headers = putting["headers"]
    authorization = signatures.oss("PUT", grant.place["bucket"], key, headers, grant.credentials)
    assert authorization == headers["authorization"]
    put, item = vendor.upload(protocol.Item("a", content=b"\xff\xd8bytes"), grant, epoch)
    assert urlsplit(put.url).netloc == putting["host"]
    folder = "/upload%2F1234567890%2Fimages%2F"
    assert urlsplit(put.url).path.startswith(folder)
    assert putting["path"].startswith(folder)
    assert put.headers["x-oss-security-token"] == headers["x-oss-security-token"]
    assert put.headers["Content-Type"] == "image/jpeg"
    assert (put.body, item.data_id) == (b"\xff\xd8bytes", "a")
    assert item.stored.startswith("oss://oss-shanghai-green-upload/upload/1234567890/images/")
    _, again = vendor.upload(protocol.Item("b", content=b"\xff\xd8bytes"), grant, 0)
    assert again.stored == item.stored
    (task,) = json.loads(vendor.scan([item], KEYS, NOW, "n").body)["tasks"]
    assert task["url"] == item.stored


def test_images_go_to_no_store_but_the_vendors_own():
    lent = UPLOADS["upload_bytes"]["inputs"]["upload_credentials_response"]
    for endpoint in ("http://evil.example", "http://aliyuncs.com.evil.example", "http://10.0.0.1"):
        data = {**lent["data"], "ossEndpoint": endpoint}
        with pytest.raises(errors.VendorAnswerMalformed):
            Alibaba().read_upload_grant(response({**lent, "data": data}))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "SecurityTokenExpired", errors.VendorRefusedLogin),
        (403, "InvalidAccessKeyId", errors.VendorRefusedLogin),
        (403, "SignatureDoesNotMatch", errors.VendorRefusedRequest),
        (400, "EntityTooLarge", errors.VendorRefusedInput),
        (503, "ServiceUnavailable", errors.VendorUnavailable),
    ],
)
def test_store_that_does_not_take_the_bytes_says_why(status, code, expected):
    body = f"<Error><Code>{code}</Code></Error>".encode()
    with pytest.raises(errors.VendorError) as raised:
        Alibaba().read_upload(protocol.Response(status, {}, body))
    assert type(raised.value) is expected


@parametrized(CALLBACKS)
def test_checksum_of_a_callback_is_over_its_content_as_it_came(recording):
    inputs = recording["inputs"]
    checksum = proofs.checksum(inputs["uid"], inputs["seed"], inputs["content"])
    assert checksum == recording["checksum"]


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
        Alibaba().read_scan([item], response(fields, status))
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


def test_results_are_asked_for_a_hundred_at_a_time_each_with_a_nonce_of_its_own():
    tasks = task_of(*(f"t{n}" for n in range(250)))
    parts = Alibaba().query(tasks, KEYS, NOW, "n")
    assert [len(part) for part, _ in parts] == [100, 100, 50]
    assert len({request.headers["x-acs-signature-nonce"] for _, request in parts}) == 3


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


@pytest.mark.parametrize(
    "item",
    [
        protocol.Item("a"),
        protocol.Item("a", url="ftp://img.example.com/0.jpg"),
        protocol.Item("a", url="https://"),
        protocol.Item("a", url="https://img.example.com/a\tb.jpg"),
        protocol.Item("a", url="https://img.example.com/\ud800"),
        protocol.Item("a", url="https://img.example.com/" + "x" * 2048),
        protocol.Item("a", url="file:///etc/passwd"),
    ],
    ids=lambda item: repr(item.url)[:40],
)
def test_item_without_an_address_that_the_vendor_takes_is_refused(item):
    with pytest.raises(errors.VendorRefusedInput):
        Alibaba().scan([item], KEYS, NOW, "n")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-shanghai", "green.cn-shanghai.aliyuncs.com"),
        ("cn-hongkong", "green.aliyuncs.com"),
        ("eu-central-1", "green.ap-southeast-1.aliyuncs.com"),
    ],
)
def test_each_region_has_its_endpoint(region, host):
    request = Alibaba(region=region).upload_grant(KEYS, NOW, "n")
    assert urlsplit(request.url).netloc == host


def test_limits_are_the_newer_pages_and_the_older_ones_are_options():
    assert (Alibaba().limits.max_items, Alibaba().limits.max_bytes) == (100, 20_000_000)
    older = Alibaba(max_items=50, max_bytes=5_000_000).limits
    assert (older.max_items, older.max_bytes) == (50, 5_000_000)


@pytest.mark.parametrize(
    "options",
    [
        {"scenes": ()},
        {"scenes": ("porn", "nudity")},
        {"scenes": ("porn", "porn")},
        {"region": "mars-1"},
        {"version": "2015-01-01"},
        {"callback": "https://cb.example"},
        {"callback": "https://cb.example", "asynchronous": True},
        {"callback": "https://cb.example", "asynchronous": True, "seed": "a b"},
        {"crypt_type": "MD5"},
        {"interval": 0},
        {"max_items": 101},
        {"look_every_s": -1.0},
    ],
    ids=str,
)
def test_option_that_the_vendor_does_not_take_is_a_mistake_of_the_operator(options):
    with pytest.raises(errors.ConfigurationError, match="alibaba: "):
        Alibaba(**options)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-shanghai", "green.cn-shanghai.aliyuncs.com"),
        ("cn-hongkong", "green.aliyuncs.com"),
        ("cn-hangzhou-finance", "green.aliyuncs.com"),
        ("cn-shanghai-finance-1", "green.aliyuncs.com"),
        ("cn-shenzhen-finance-1", "green.aliyuncs.com"),
        ("cn-north-2-gov-1", "green.aliyuncs.com"),
        ("eu-west-1", "green.ap-southeast-1.aliyuncs.com"),
    ],
)
def test_a_region_is_asked_where_the_sdk_asks_it(region, host):
    items = [protocol.Item("a", url="https://a.example/1")]
    request = Alibaba(region=region).scan(items, KEYS, NOW, "n")
    assert urlsplit(request.url).netloc == host
    assert request.headers["x-acs-region-id"] == region


@pytest.mark.parametrize(
    "human",
    [
        protocol.Human("https://img.example.com/0.jpg", "review", ("porn",)),
        protocol.Human("https://img.example.com/0.jpg", "block"),
        protocol.Human("https://img.example.com/0.jpg", "block", ("qrcode",)),
    ],
)
def test_feedback_that_the_vendor_has_no_word_for_is_refused(human):
    with pytest.raises(errors.VendorRefusedInput):
        Alibaba().feedback(human, KEYS, NOW, "n")


def test_seed_and_keys_are_not_shown():
    vendor = Alibaba(asynchronous=True, callback="https://cb.example", seed="testsecret")
    request = vendor.scan([protocol.Item("a", url="https://a.example/1")], KEYS, NOW, "n")
    assert "testsecret" not in repr(vendor) + repr(request)
