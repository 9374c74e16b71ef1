"""The emulated vendors: what they judge, limit and count."""

import base64
import pathlib
import re
from typing import Any

import emulator_calls as calls
import pytest
from emulator_calls import BLOCKED, JPEG, MISSING, URLS, Emulate, Urls, url_input

from beam_moderation import emulator

pytest_plugins = ["beam_moderation.emulator.pytest_plugin", "emulator_accounts"]


@pytest.mark.parametrize("vendor", emulator.VENDORS)
def test_mark_in_the_url_decides_for_its_scene(vendor: str) -> None:
    image = "https://img.example.com/porn-block/ad-review.jpg"
    assert emulator.truth(vendor, image, "porn").suggestion == "block"
    assert emulator.truth(vendor, image, "ad").suggestion == "review"


def test_mark_inside_a_longer_word_decides_nothing() -> None:
    suggestions = {
        emulator.truth("alibaba", f"https://img.example.com/{i}/upload-block", "load").suggestion
        for i in range(50)
    }
    assert suggestions == {"pass", "review", "block"}


def test_bytes_are_judged_by_their_content_and_not_by_a_name() -> None:
    assert emulator.truth("tencent", JPEG + b" porn-block ", "porn").suggestion == "block"


def test_four_of_five_images_without_a_mark_pass() -> None:
    urls = [f"https://img.example.com/{i}.jpg" for i in range(2000)]
    passed = sum(emulator.truth("huawei", url, "porn").suggestion == "pass" for url in urls)
    assert 1500 < passed < 1700


def test_alibaba_answers_the_truth(urls: Urls) -> None:
    items = calls.scan(urls["alibaba"], *URLS).json["data"]
    for url, item in zip(URLS, items, strict=True):
        result, true = item["results"][0], emulator.truth("alibaba", url, "porn")
        found = (result["suggestion"], result["label"], result["rate"] / 100)
        assert found == (true.suggestion, true.label, pytest.approx(true.score))


def test_tencent_answers_the_truth(urls: Urls) -> None:
    answer = calls.batch(urls["tencent"], *map(url_input, URLS)).text
    infos = re.findall(r"<PornInfo>.*?</PornInfo>", answer)
    for url, info in zip(URLS, infos, strict=True):
        true = emulator.truth("tencent", url, "porn")
        hit = {"pass": 0, "block": 1, "review": 2}[true.suggestion]
        assert f"<HitFlag>{hit}</HitFlag><Score>{round(true.score * 100)}</Score>" in info
        assert f"<SubLabel>{true.sub_label}</SubLabel>" in info


def test_huawei_answers_the_truth(emulate: Emulate) -> None:
    running = emulate("huawei")
    items = [item for url in URLS for item in calls.judge(running.url, url).json["result"]]
    for url, item in zip(URLS, items, strict=True):
        true = emulator.truth("huawei", url, "porn")
        top = max(item["detail"]["porn"], key=lambda entry: entry["confidence"])
        assert item["suggestion"] == item["category_suggestions"]["porn"] == true.suggestion
        assert (top["label"], top["confidence"]) == (true.label, true.score)


def test_image_that_cannot_be_had_fails_alone_and_is_not_billed(emulate: Emulate) -> None:
    alibaba, tencent, huawei = (emulate(vendor) for vendor in emulator.VENDORS)
    codes = [item["code"] for item in calls.scan(alibaba.url, BLOCKED, MISSING).json["data"]]
    assert codes == [200, int(emulator.failure("alibaba", MISSING) or 0)]
    answer = calls.batch(tencent.url, url_input(BLOCKED), url_input(MISSING)).text
    assert re.findall(r"<JobsDetail><Code>(\w+)", answer) == [emulator.failure("tencent", MISSING)]
    items = calls.judge(huawei.url, BLOCKED, MISSING).json["result"]
    assert [item.get("error_code") for item in items] == [None, emulator.failure("huawei", MISSING)]
    assert [running.stats()["billed_units"] for running in (alibaba, tencent, huawei)] == [1, 2, 1]


@pytest.mark.parametrize(
    "document",
    [
        b"not json",
        {"tasks": [], "scenes": ["porn"]},
        {"tasks": [{"url": BLOCKED}], "scenes": []},
        {"tasks": [{"url": BLOCKED}], "scenes": ["nothing"]},
        {"tasks": [{"url": BLOCKED}] * 101, "scenes": ["porn"]},
        {"tasks": [{"url": BLOCKED, "dataId": "same"}] * 2, "scenes": ["porn"]},
    ],
    ids=["no JSON", "no task", "no scene", "unknown scene", "101 tasks", "dataId twice"],
)
def test_alibaba_refuses_the_request(urls: Urls, document: Any) -> None:
    answer = calls.alibaba(urls["alibaba"], "scan", document)
    assert (answer.status, answer.json["code"]) == (200, 400)
    assert "data" not in answer.json


def test_alibaba_takes_as_many_tasks_as_the_account_may_send(emulate: Emulate) -> None:
    url = emulate("alibaba", max_items=2).url
    assert calls.scan(url, *URLS[:2]).json["code"] == 200
    assert calls.scan(url, *URLS[:3]).json["code"] == 400


@pytest.mark.parametrize(
    "task",
    [
        {"url": "ftp://img.example.com/a.jpg"},
        {"url": "https://img.example.com/" + "a" * 2048},
        {"url": BLOCKED, "dataId": "d" * 129},
        {"url": BLOCKED, "interval": 0},
        {"url": "oss://oss-shanghai-green-upload/never"},
    ],
    ids=["scheme", "long url", "long dataId", "interval", "never uploaded"],
)
def test_alibaba_fails_a_wrong_task_alone(urls: Urls, task: dict[str, Any]) -> None:
    document = {"tasks": [task, {"url": URLS[0]}], "scenes": ["porn"]}
    items = calls.alibaba(urls["alibaba"], "scan", document).json["data"]
    assert items[0]["code"] in {400, 404}
    assert items[1]["code"] == 200


def test_alibaba_wants_a_seed_with_a_callback(urls: Urls) -> None:
    url = urls["alibaba"]
    answer = calls.scan(url, BLOCKED, operation="asyncscan", callback="http://127.0.0.1:1/")
    assert answer.json["code"] == 400


@pytest.mark.parametrize(
    "one",
    [
        url_input(BLOCKED, f"<DataId>{'d' * 513}</DataId>"),
        url_input(BLOCKED, "<MaxFrames>0</MaxFrames>"),
        url_input(BLOCKED, f"<UserInfo><Role>{'r' * 129}</Role></UserInfo>"),
        "<Content>%%%</Content>",
        f"<Content>{base64.b64encode(b'text').decode()}</Content>",
        f"<Content>{base64.b64encode(JPEG + bytes(5 * 1024 * 1024)).decode()}</Content>",
        "<DataId>d</DataId>",
    ],
    ids=["long DataId", "MaxFrames", "UserInfo", "no base64", "no image", "too large", "nothing"],
)
def test_tencent_fails_a_wrong_input_alone(urls: Urls, one: str) -> None:
    answer = calls.batch(urls["tencent"], one, url_input(URLS[0]))
    assert answer.status == 200
    assert len(re.findall(r"<JobsDetail><Code>Invalid(Argument|Content)</Code>", answer.text)) == 1
    assert answer.text.count("<State>Success</State>") == 1


def test_tencent_prefers_content_to_object_to_url(urls: Urls) -> None:
    url = urls["tencent"]
    content = base64.b64encode(JPEG + b" porn-pass").decode()
    both = f"<Object>porn-block.jpg</Object><Url>{URLS[0]}</Url>"
    answer = calls.batch(url, f"<Content>{content}</Content>{both}", both).text
    assert re.findall(r"<PornInfo>.*?<HitFlag>(\d)", answer) == ["0", "1"]
    assert answer.count("<Object>porn-block.jpg</Object>") == 1
    assert "<Url>" not in answer


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "MissingContent"),
        ("<Request><Input>", "MalformedXML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><Request>&b;</Request>', "MalformedXML"),
        ("<Request><Conf></Conf></Request>", "InvalidArgument"),
        (f"<Request>{'<Input><Url>http://a/</Url></Input>' * 101}</Request>", "InvalidArgument"),
    ],
    ids=["empty", "cut", "entities", "no input", "101 inputs"],
)
def test_tencent_refuses_the_request(urls: Urls, body: str, code: str) -> None:
    answer = calls.tencent(urls["tencent"], "POST", "/image/auditing", body)
    assert answer.status == 400
    assert f"<Code>{code}</Code>" in answer.text


@pytest.mark.parametrize(
    ("path", "document", "code"),
    [
        ("/v1.0/moderation/image/batch", {}, "AIS.0011"),
        ("/v1.0/moderation/image/batch", {"urls": URLS[:11]}, "AIS.0012"),
        ("/v1.0/moderation/image/batch", {"urls": ["ftp://a/b"]}, "AIS.0022"),
        ("/v1.0/moderation/image/batch", {"urls": URLS[:1], "categories": ["x"]}, "AIS.0012"),
        ("/v1.0/moderation/image/batch", {"urls": URLS[:1], "threshold": 2}, "AIS.0012"),
        ("/v1.0/moderation/image/batch/jobs", {"urls": [BLOCKED] * 501}, "AIS.0012"),
        ("/v1.0/moderation/image", {"image": "%%%"}, "AIS.0015"),
        ("/v1.0/moderation/image", {"image": "dGV4dA=="}, "AIS.0021"),
        ("/v1.0/moderation/image", {"image": "A" * (10 * 1024 * 1024 + 4)}, "AIS.0020"),
        ("/v1.0/moderation/image", {"url": MISSING}, "AIS.0029"),
    ],
    ids=[
        "no urls",
        "11 urls",
        "scheme",
        "category",
        "threshold",
        "501 urls",
        "base64",
        "format",
        "size",
        "missing",
    ],
)
def test_huawei_refuses_the_request(urls: Urls, path: str, document: Any, code: str) -> None:
    answer = calls.huawei(urls["huawei"], "POST", path, document)
    assert (answer.status, answer.json["error_code"]) == (400, code)


def test_huawei_v3_wants_every_data_id_once(emulate: Emulate) -> None:
    running = emulate("huawei")
    path = f"/v3/{emulator.Settings().project_id}/moderation/image/batch"
    document = {
        "urls": [{"url": BLOCKED, "data_id": "same"}] * 2,
        "event_type": "album",
        "categories": ["porn"],
    }
    answer = calls.huawei(running.url, "POST", path, document)
    assert answer.json["error_code"] == "AIS.0012"
    document["urls"] = [{"url": BLOCKED, "data_id": "one"}]
    item = calls.huawei(running.url, "POST", path, document).json["results"][0]
    assert (item["data_id"], item["suggestion"], item["category"]) == ("one", "block", "porn")


def test_huawei_v3_tells_which_of_the_accounts_lists_a_word_is_in(emulate: Emulate) -> None:
    running = emulate("huawei")
    path = f"/v3/{emulator.Settings().project_id}/moderation/image"
    document = {"url": "https://img.example.com/image_text-block.jpg", "language": "zh"}
    document |= {"event_type": "album", "categories": ["image_text"]}
    config = {"black_glossary_names": ["spam"], "white_glossary_names": ["brand"]}
    answer = calls.huawei(running.url, "POST", path, {**document, "image_text_config": config})
    (detail,) = answer.json["result"]["details"]
    assert detail["segments"][0]["glossary_name"] == "spam"
    for wrong in ({"language": 7}, {"image_text_config": []}):
        answer = calls.huawei(running.url, "POST", path, {**document, **wrong})
        assert answer.json["error_code"] == "AIS.0012"
    config["white_glossary_names"] = "brand"
    answer = calls.huawei(running.url, "POST", path, {**document, "image_text_config": config})
    assert answer.json["error_code"] == "AIS.0012"


def test_huawei_leaves_out_what_is_below_the_threshold(urls: Urls) -> None:
    document = {"urls": ["http://a/terrorism-pass"], "categories": ["terrorism"], "threshold": 0.99}
    answer = calls.huawei(urls["huawei"], "POST", "/v1.0/moderation/image/batch", document)
    assert answer.json["result"][0]["detail"] == {"terrorism": []}
    assert answer.json["result"][0]["suggestion"] == "pass"


def test_feedback_is_counted_by_image(emulate: Emulate) -> None:
    alibaba, tencent, huawei = (emulate(vendor) for vendor in emulator.VENDORS)
    document = {"suggestion": "block", "scenes": ["porn"], "url": BLOCKED}
    assert calls.alibaba(alibaba.url, "feedback", document).json["code"] == 200
    body = (
        "<Request><ContentType>2</ContentType><Label>Porn</Label>"
        f"<SuggestedLabel>Normal</SuggestedLabel><Url>{BLOCKED}</Url></Request>"
    )
    assert calls.tencent(tencent.url, "POST", "/report/badcase", body).status == 200
    path = "/v1.1/moderation/image/feedback"
    answer = calls.huawei(huawei.url, "POST", path, {"suggestion": "pass", "url": BLOCKED})
    assert answer.json == {"result": "Thank you for your feedback."}
    for running in (alibaba, tencent, huawei):
        assert running.stats()["feedback_per_image"] == {BLOCKED: 1}
        assert running.stats()["billed_units"] == 0


def test_feedback_to_block_needs_scenes(urls: Urls) -> None:
    document = {"suggestion": "block", "url": BLOCKED}
    assert calls.alibaba(urls["alibaba"], "feedback", document).json["code"] == 400


def test_secrets_are_not_shown() -> None:
    shown = repr(emulator.Settings())
    assert "testsecret" not in shown
    assert "temptoken" not in shown


def test_emulator_shares_no_code_with_the_clients() -> None:
    folder = pathlib.Path(emulator.__file__).parent
    imports = re.compile(r"^\s*(?:from|import) beam_moderation\.(?!emulator)", re.MULTILINE)
    assert not [path.name for path in folder.glob("*.py") if imports.search(path.read_text())]
