"""Requests to Alibaba Green as the official SDK sends them, and what is never sent."""

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
        tasks = [protocol.Task(id_, [protocol.Item(id_)]) for id_ in payload]
        return Alibaba(**options).query(tasks, *signing)
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
    grant = vendor.read_upload_grant(
        recordings.json_response(recording["inputs"]["upload_credentials_response"])
    )
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
            Alibaba().read_upload_grant(recordings.json_response({**lent, "data": data}))


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


def test_limits_are_the_newer_pages_and_the_older_ones_are_options():
    assert (Alibaba().limits.max_items, Alibaba().limits.max_bytes) == (100, 20_000_000)
    assert "WEBP" in Alibaba().limits.formats
    older = Alibaba(max_items=50, max_bytes=5_000_000, formats=("PNG", "JPEG", "BMP", "GIF")).limits
    assert (older.max_items, older.max_bytes) == (50, 5_000_000)
    assert "WEBP" not in older.formats


@pytest.mark.parametrize(
    "options",
    [
        {"scenes": ()},
        {"scenes": ("porn", "nudity")},
        {"scenes": ("porn", "porn")},
        {"scenes": "porn"},
        {"region": "mars-1"},
        {"version": "2015-01-01"},
        {"callback": "https://cb.example"},
        {"callback": "https://cb.example", "asynchronous": True},
        {"callback": "https://cb.example", "asynchronous": True, "seed": "a b"},
        {"crypt_type": "MD5"},
        {"interval": 0},
        {"max_items": 101},
        {"max_frames": "3"},
        {"formats": ("PNG", "TIFF")},
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
        ("eu-central-1", "green.ap-southeast-1.aliyuncs.com"),
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
