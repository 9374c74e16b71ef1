"""What a vendor is told of an image beside its address, and how its answer finds the image."""

import dataclasses
import io
import json

import pytest
from PIL import Image

from beam_moderation import errors
from beam_moderation.vendors import Alibaba, Credentials, Huawei, Item, Tencent, fitting, protocol
from beam_moderation.vendors.kept import item_key, without_bytes

KEYS = Credentials("testid", "testsecret")
NOW = 1715243415.0


def answered(vendor, items, answer):
    response = protocol.Response(200, {}, json.dumps(answer).encode())
    return vendor.read_scan(items, response)


def test_alibaba_is_told_when_an_image_was_made_and_whose_it_is():
    item = Item("a", url="https://a.example/1", created_at=1515384000.5, client_info={"ip": "x"})
    request = Alibaba(client_info={"userId": "u"}).scan([item], KEYS, NOW, "n")
    (task,) = json.loads(request.body)["tasks"]
    assert (task["time"], task["clientInfo"]) == (1515384000500, {"ip": "x"})


def test_alibaba_is_told_no_more_than_is_known():
    request = Alibaba().scan([Item("a", url="https://a.example/1")], KEYS, NOW, "n")
    assert json.loads(request.body)["tasks"] == [{"dataId": "a", "url": "https://a.example/1"}]


def test_what_changes_no_verdict_is_no_part_of_what_is_asked():
    plain = Item("a", content=b"bytes")
    known = {"created_at": 1.0, "client_info": {"ip": "x"}, "stored": "oss://b/k"}
    assert item_key(dataclasses.replace(plain, **known)) == item_key(plain)
    assert item_key(without_bytes(plain)) == item_key(plain)
    assert without_bytes(plain).content is None
    assert item_key(Item("a", content=b"other")) != item_key(plain)


@pytest.mark.parametrize(
    ("vendor", "own"),
    [
        (Alibaba(bucket="b-1"), "oss://b-1/a/ä.jpg"),
        (Tencent("b-1", "r"), "cos://b-1/a/ä.jpg"),
        (Huawei("r", bucket="b-1"), "obs://b-1/a/ä.jpg"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_only_the_bucket_that_was_configured_is_read_by_key(vendor, own):
    assert isinstance(vendor, protocol.Stores)
    assert vendor.object_key(own) == "a/ä.jpg"
    for other in (own.replace("b-1", "b-2"), own.replace("://", "s://"), f"{own}/../x", own[:9]):
        assert vendor.object_key(other) is None
    assert vendor.object_key("https://b-1/a/ä.jpg") is None


def test_a_vendor_without_a_bucket_reads_nothing_by_key():
    assert Alibaba().object_key("oss://None/k") is None
    assert Huawei("r").object_key("obs://None/k") is None


def test_callbacks_that_could_not_be_proved_are_not_asked_for():
    told = {"asynchronous": True, "callback": "https://cb.example", "seed": "s"}
    assert Alibaba(**told, crypt_type="SHA256").crypt_type == "SHA256"
    with pytest.raises(errors.ConfigurationError, match="SM3"):
        Alibaba(**told, crypt_type="SM3")


def of_huawei(url, suggestion):
    label = {"pass": "normal", "block": "porn"}[suggestion]
    porn = [{"label": label, "confidence": 0.9}]
    return {"url": url, "suggestion": suggestion, "detail": {"porn": porn}}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://b/a%2520b", "https://b/a%20b"),
        ("https://b/x?u=https%3A%2F%2Fc", "https://b/x?u=https://c"),
        ("https://B/x", "https://b/x"),
    ],
)
def test_urls_that_differ_only_in_their_spelling_keep_their_own_verdicts(first, second, reverse):
    vendor = Huawei("cn-north-4", ["porn"])
    items = [Item("first", url=first), Item("second", url=second)]
    results = [of_huawei(first, "block"), of_huawei(second, "pass")]
    answers = answered(vendor, items, {"result": results[::-1] if reverse else results})
    assert [answer.verdicts[0].suggestion for answer in answers] == ["block", "pass"]


def test_a_url_that_comes_back_respelt_is_found_unless_it_could_be_two():
    vendor = Huawei("cn-north-4", ["porn"])
    item = Item("a", url="HTTPS://B.example/a%20b")
    (answer,) = answered(vendor, [item], {"result": [of_huawei("https://b.example/a b", "pass")]})
    assert answer.verdicts[0].suggestion == "pass"
    items = [Item("a", url="https://b/%61"), Item("b", url="https://B/a")]
    results = [of_huawei("HTTPS://b/a", "pass"), of_huawei("https://b/%61", "block")]
    first, second = answered(vendor, items, {"result": results})
    assert first.verdicts[0].suggestion == "block"
    assert isinstance(second, protocol.Failed)


def gif(width, height, frames=1):
    with io.BytesIO() as file:
        first, *others = [Image.new("L", (width, height), shade) for shade in range(frames)]
        first.save(file, "GIF", save_all=True, append_images=others)
        return file.getvalue()


def test_a_gif_may_have_fewer_pixels_than_other_pictures_at_alibaba():
    limits = Alibaba().limits
    assert fitting.fit(gif(2048, 2048), limits, allowed=False).note == {}
    with pytest.raises(errors.VendorRefusedInput, match="above 4194304 in a GIF"):
        fitting.fit(gif(2048, 2049), limits, allowed=False)
    assert fitting.fit(gif(2048, 2049), limits, allowed=True).note["fitted"]["format"] == "JPEG"
    with pytest.raises(errors.VendorRefusedInput, match="2 frames"):
        fitting.fit(gif(2048, 2049, frames=2), limits, allowed=True)
