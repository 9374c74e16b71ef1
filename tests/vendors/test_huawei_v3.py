"""What of Huawei's v3 is not as in v1.0: its ids, its body, and what its answers leave out."""

import json
import re

import pytest

from beam_moderation import errors
from beam_moderation.vendors import Huawei, protocol

KEYS = protocol.Credentials("testid", "testsecret")
NOW = 1715243415.5
OPTIONS = {"api_version": "v3", "project_id": "p"}
V3 = Huawei("cn-north-4", scenes=["porn", "terrorism"], event_type="album", **OPTIONS)
ITEM = protocol.Item("a", url="https://b/1")


def answered(*results, items=(ITEM,), vendor=V3):
    body = json.dumps({"request_id": "r", "results": results}).encode()
    return vendor.read_scan(items, protocol.Response(200, {}, body))


def told(answer):
    return {v.scene: (v.label, v.score, v.suggestion) for v in answer.verdicts}


def test_ids_that_the_vendor_does_not_take_are_hashed_and_mapped_back():
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
    answers = answered(*reversed(results), items=items)
    assert [answer.error.vendor_code for answer in answers] == [
        result_["error_code"] for result_ in results
    ]


def test_scene_has_the_worst_of_its_details_and_passes_without_any():
    details = [
        {"category": "porn", "suggestion": "review", "label": "sexy", "confidence": 0.99},
        {"category": "porn", "suggestion": "block", "label": "nude", "confidence": 0.8},
    ]
    told_ = {"data_id": "a", "suggestion": "block", "category": "porn", "details": details}
    (answer,) = answered(told_)
    assert told(answer) == {"porn": ("nude", 0.8, "block"), "terrorism": ("normal", 0.0, "pass")}
    assert answer.verdicts[0].findings == [("nude", 0.8), ("sexy", 0.99)]


def test_image_blocked_without_a_detail_passes_no_scene():
    told_ = {"data_id": "a", "suggestion": "block", "details": []}
    (answer,) = answered(told_)
    assert {verdict.suggestion for verdict in answer.verdicts} == {"block"}


def test_image_by_its_bytes_is_judged_alone():
    item = protocol.Item("a", content=b"abc")
    request = V3.scan([item], KEYS, NOW, "")
    assert request.url.endswith("/v3/p/moderation/image")
    body = json.dumps({"request_id": "r", "result": {"suggestion": "pass"}}).encode()
    (answer,) = V3.read_scan([item], protocol.Response(200, {}, body))
    assert {verdict.suggestion for verdict in answer.verdicts} == {"pass"}


def test_the_scenes_of_a_policy_must_be_named():
    assert Huawei("r").scenes == ("politics", "terrorism", "porn")
    assert Huawei("r", event_type="album", **OPTIONS).scenes == Huawei("r").scenes
    with pytest.raises(errors.ConfigurationError, match="name scenes"):
        Huawei("r", biz_type="strict", **OPTIONS)


def test_a_scene_of_which_a_policy_says_nothing_is_noted_as_such():
    by_policy = Huawei("cn-north-4", ["porn"], biz_type="strict", **OPTIONS)
    found = {"category": "porn", "suggestion": "review", "label": "sexy", "confidence": 0.7}
    for details, unstated in (([found], None), ([], True)):
        overall = "review" if details else "pass"
        result = {"data_id": "a", "suggestion": overall, "details": details}
        (answer,) = answered(result, vendor=by_policy)
        assert answer.verdicts[0].detail.get("unstated") is unstated
    by_scenes = Huawei("cn-north-4", ["porn"], event_type="album", **OPTIONS)
    (answer,) = answered(result, vendor=by_scenes)
    assert "unstated" not in answer.verdicts[0].detail


def sent(**options):
    request = Huawei("cn-north-4", **{"event_type": "album", **OPTIONS, **options}).scan(
        [ITEM], KEYS, NOW, ""
    )
    return json.loads(request.body)


def test_words_of_the_accounts_own_and_the_language_are_told():
    body = sent(
        scenes=["image_text"],
        black_glossary_names=["spam_words"],
        white_glossary_names=["brand_words"],
        language="zh",
    )
    assert body["image_text_config"] == {
        "black_glossary_names": ["spam_words"],
        "white_glossary_names": ["brand_words"],
    }
    assert (body["language"], body["categories"]) == ("zh", ["image_text"])
    assert [*body] == ["event_type", "categories", "image_text_config", "urls", "language"]
    (words,) = (
        sent(white_glossary_names=("w",), biz_type="b", scenes=["porn"])
        .pop("image_text_config")
        .items()
    )
    assert words == ("white_glossary_names", ["w"])
    assert not {"image_text_config", "language"} & {*sent()}


@pytest.mark.parametrize(
    "option", [{"black_glossary_names": ["w"]}, {"white_glossary_names": ["w"]}, {"language": "zh"}]
)
def test_older_versions_take_no_options_of_v3(option):
    with pytest.raises(errors.ConfigurationError, match=f"{next(iter(option))} needs v3"):
        Huawei("cn-north-4", **option)
