import pytest

from beam_moderation import errors
from beam_moderation.vendors import answers, protocol


@pytest.mark.parametrize(
    ("keys", "found", "expected"),
    [
        pytest.param(["a", "b"], [("b", 2), ("a", 1)], [1, 2], id="out of order"),
        pytest.param(["a", "b"], [("a", 1)], [1, None], id="missing"),
        pytest.param(["a"], [("a", 1), ("z", 9)], [1], id="extra"),
        pytest.param(["a"], [("a", 1), ("a", 1)], [1], id="the same twice"),
        pytest.param(["a"], [("a", 1), ("a", 2)], [None], id="two that differ"),
        pytest.param(["a", "a"], [("a", 1), ("a", 2)], [1, 2], id="equal keys in order"),
        pytest.param(["a", "a"], [("a", 1)], [1, 1], id="one answer to equal keys"),
        pytest.param(["a", "a"], [("a", 1), ("a", 2), ("a", 3)], [None, None], id="too many"),
        pytest.param(["a", "b"], [(None, 1), (None, 2)], [1, 2], id="by place"),
        pytest.param(["a", "b"], [(None, 1)], [None, None], id="by no place"),
        pytest.param(["a", "b"], [(None, 1), ("a", 2)], [None, None], id="place and name differ"),
        pytest.param([], [("a", 1)], [], id="nothing asked"),
    ],
)
def test_answers_are_found_by_name_and_never_guessed(keys, found, expected):
    assert answers.match(keys, found) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"{",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xd6\xd0"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_body_that_is_no_json_object_in_utf_8_is_malformed(body):
    with pytest.raises(errors.VendorAnswerMalformed):
        answers.json_object(body)


def test_malformed_field_is_named_and_not_quoted():
    class Model(answers.Fields):
        suggestion: answers.Suggestion

    with pytest.raises(errors.VendorAnswerMalformed) as raised:
        answers.parse(Model, {"suggestion": "secret"})
    assert str(raised.value) == "the answer's suggestion is no documented value (literal_error)"
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("overall", "scenes", "rest"),
    [
        ("block", ["pass", "block"], "pass"),
        ("block", ["pass", "review"], "block"),
        ("review", [], "review"),
        ("pass", ["block"], "pass"),
        ("pass", [], "pass"),
    ],
)
def test_suggestion_that_no_scene_explains_is_left_over(overall, scenes, rest):
    assert answers.unexplained(overall, scenes) == rest


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Thu, 09 May 2024 08:30:25 GMT"}, None),
        (
            {
                "retry-after": "Thu, 09 May 2024 08:30:25 GMT",
                "date": "Thu, 09 May 2024 08:30:15 GMT",
            },
            10.0,
        ),
        (
            {
                "retry-after": "Thu, 09 May 2024 08:30:25",
                "date": "Thu, 09 May 2024 08:30:15 GMT",
            },
            None,
        ),
        (
            {
                "retry-after": "Thu, 09 May 2024 08:30:05 GMT",
                "date": "Thu, 09 May 2024 08:30:15 GMT",
            },
            None,
        ),
    ],
)
def test_pause_is_what_retry_after_asks_for(headers, seconds):
    assert answers.retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, errors.VendorAnswerMalformed),
        (307, errors.VendorRefusedRequest),
        (400, errors.VendorAnswerMalformed),
        (401, errors.VendorRefusedLogin),
        (403, errors.VendorRefusedRequest),
        (404, errors.VendorRefusedRequest),
        (408, errors.VendorUnavailable),
        (413, errors.VendorRefusedInput),
        (429, errors.VendorThrottled),
        (500, errors.VendorUnavailable),
        (599, errors.VendorUnavailable),
    ],
)
def test_status_without_a_code_stands_for_an_error(status, kind):
    assert answers.kind_of_status(status) is kind


def test_wire_ids_are_unique_stable_and_ours_where_they_will_do():
    items = [protocol.Item(data_id) for data_id in ("a", "B!", "a")]
    ids = answers.wire_ids(items, str.isalnum, 10)
    assert ids[0] == "a"
    assert len({*ids}) == 3
    assert all(len(id_) == 10 for id_ in ids[1:])
    assert answers.wire_ids(items, str.isalnum, 10) == ids
