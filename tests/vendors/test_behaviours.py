"""What every vendor does with answers, good and bad: one suite over all of them."""

import json
import typing as t

import pytest
from answering import CASES, ITEMS, SCENES, response

from beam_moderation import errors
from beam_moderation.vendors import protocol

KEYS = protocol.Credentials("testid", "testsecret")
TRUTHS = [
    {"porn": "block", "terrorism": "pass"},
    {"porn": "review", "terrorism": "review"},
    {"porn": "pass", "terrorism": "pass"},
]


@pytest.fixture(params=CASES, ids=lambda case: type(case).__name__)
def case(request):
    return request.param


def entries(case):
    return [case.entry(item, truth) for item, truth in zip(ITEMS, TRUTHS, strict=True)]


def told(answer):
    """The suggestions of an answer by scene, or the class of its error."""
    if isinstance(answer, protocol.Failed):
        return type(answer.error)
    return {verdict.scene: verdict.suggestion for verdict in answer.verdicts}


def read(case, told_entries, items=None):
    answers = case.read(items or ITEMS, response(case.body(told_entries)))
    return [told(answer) for answer in answers]


def raised_by(case, body, status, **headers):
    with pytest.raises(errors.VendorError) as raised:
        case.read(ITEMS, response(body, status, **headers))
    return raised.value


def test_each_item_has_its_verdicts(case):
    assert read(case, entries(case)) == TRUTHS


def test_order_of_the_answers_does_not_matter(case):
    assert read(case, entries(case)[::-1]) == TRUTHS


def test_missing_item_fails_alone(case):
    expected = [TRUTHS[0], errors.VendorAnswerMalformed, TRUTHS[2]]
    assert read(case, [entries(case)[0], entries(case)[2]]) == expected


def test_empty_answer_fails_every_item(case):
    assert read(case, []) == [errors.VendorAnswerMalformed] * 3


def test_item_that_was_not_asked_for_is_left_out(case):
    extra = case.entry(protocol.Item("id9", url="https://img.example.com/9.jpg"), TRUTHS[0])
    assert read(case, [extra, *entries(case)]) == TRUTHS


def test_item_that_is_answered_twice_alike_is_answered(case):
    assert read(case, [*entries(case), entries(case)[0]]) == TRUTHS


def test_item_that_is_answered_twice_and_not_alike_fails(case):
    other = case.entry(ITEMS[0], TRUTHS[2])
    assert read(case, [*entries(case), other]) == [errors.VendorAnswerMalformed, *TRUTHS[1:]]


def test_refused_item_fails_alone(case):
    refused: t.ClassVar = {**case.named(ITEMS[1]), **case.refused}
    expected = [TRUTHS[0], errors.VendorRefusedInput, TRUTHS[2]]
    assert read(case, [entries(case)[0], refused, entries(case)[2]]) == expected


@pytest.mark.parametrize("case", CASES[:-1], ids=lambda case: type(case).__name__)
def test_scene_that_is_missing_fails_the_item_and_is_named(case):
    """But not in v3, where a scene without a detail is one in which nothing was found."""
    partial = case.entry(ITEMS[0], {"porn": "pass"})
    (answer,) = case.read(ITEMS[:1], response(case.body([partial])))
    assert (told(answer), answer.scene) == (errors.VendorAnswerMalformed, "terrorism")


def test_wrong_key_refuses_the_request(case):
    status, body = case.wrong_key
    assert isinstance(raised_by(case, body, status), errors.VendorRefusedRequest)


def test_throttled_answer_asks_for_a_pause(case):
    status, body = case.throttled
    error = raised_by(case, body, status, **{"retry-after": "3"})
    assert isinstance(error, errors.VendorThrottled)
    assert error.retry_after_s == 3


@pytest.mark.parametrize("body", [b"", b"<html>slow down</html>", b"\xff\xfe"])
def test_status_429_asks_for_a_pause_whatever_the_body(case, body):
    error = raised_by(case, body, 429, **{"retry-after": "3"})
    assert isinstance(error, errors.VendorThrottled)
    assert error.retry_after_s == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html><body>oh<br></body></html>", b"{}", b"\xff"])
def test_status_5xx_is_the_vendors_failure(case, status, body):
    assert isinstance(raised_by(case, body, status), errors.VendorUnavailable)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"null",
        b"[]",
        b"<html><body>Welcome</body></html>",
        b"\x00\x01\x02",
        b"\x1f\x8b\x08\x00",
        b"[" * 100_000,
        b"<a>" * 10_000,
    ],
)
def test_body_that_is_no_answer_is_malformed(case, body):
    assert isinstance(raised_by(case, body, 200), errors.VendorAnswerMalformed)


@pytest.mark.parametrize("encoding", ["utf-32", "cp1252", "gb18030"])
def test_answer_in_the_wrong_encoding_is_malformed(case, encoding):
    item = protocol.Item("é", url="https://img.example.com/é.jpg")
    body = case.body([case.entry(item, TRUTHS[2])]).decode()
    if "\\u" in body:
        body = json.dumps(json.loads(body), ensure_ascii=False)
    assert isinstance(raised_by(case, body.encode(encoding), 200), errors.VendorAnswerMalformed)


def test_answer_that_ends_early_is_malformed(case):
    body = case.body(entries(case))
    for end in range(0, len(body), 37):
        assert isinstance(raised_by(case, body[:end], 200), errors.VendorAnswerMalformed)


def test_error_does_not_quote_the_answer(case):
    leak = b"https://img.example.com/1.jpg?sig=abc"
    for status in (200, 400, 403, 429, 500):
        error = raised_by(case, leak, status)
        assert "sig=" not in str(error)


def test_request_goes_to_the_vendor_by_https_and_shows_no_secret(case):
    request = case.vendor.scan(ITEMS, KEYS, 1715243415.0, "nonce")
    assert request.url.startswith("https://")
    assert KEYS.key_secret not in repr(request) + str(request.headers) + str(request.body)
    assert KEYS.key_id not in repr(request)


def test_vendor_meets_the_protocol(case):
    assert case.vendor.scenes == SCENES
    assert case.vendor.provider.startswith(f"{case.vendor.name}/")
    assert case.vendor.limits.max_items >= 10
