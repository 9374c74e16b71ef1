import json

import pytest

from beam_moderation import dead_letters, errors, records

HARMLESS = [
    "https://h/x.jpg",
    "https://h:8080/a/x@2x.png?w=100&format=webp&id=7f-3",
    "https://[::1]/x.jpg",
    "https://h?v=2",
    "s3://bucket/dt=2026-01-02/10:30.jpg",
    "file:///srv/x@2x.jpg",
    "folder/été 1.jpg",
    "/srv/a&b.jpg",
]
SECRET = [
    "https://user:hunter2@h/x.jpg",
    "https:/user:hunter2@h/x.jpg",
    "https:///user:hunter2@h/x.jpg",
    "https:///hunter2@h/x.jpg",
    "https:\\\\user:hunter2@h/x.jpg",
    "//user:hunter2@h/y.jpg",
    "//hunter2@h/y.jpg",
    "user:hunter2@h/y.jpg",
    "hunter2:x-oauth-basic@h/y.jpg",
    "https://user:hun/hunter2@h/x.jpg",
    "https://h/proxy/https://user:hunter2@o/x.jpg",
    "https://h/proxy/https%3A%2F%2Fuser%3Ahunter2%40o/x.jpg",
    "https://h/x#access_token=hunter2",
    "https://h/x%23access_token=hunter2",
    "https://h/x.jpg?X-Amz-Signature=hunter2",
    "https://h/x.jpg%3FX-Amz-Signature=hunter2",
    "https://h/x.jpg;jsessionid=hunter2",
    "https://h/x.jpg&sig=hunter2",
    "https://h/x.jpg?w=1&pin=hunter2",
    "https://h/x.jpg?hunter2",
    "https://h/x.jpg?v=1:hunter2",
    "h/x.jpg?sig=hunter2",
    "see https://h/x.jpg?sig=hunter2",
]


def letter(data_id="a", uri="https://h/x.jpg", carried=None):
    reference = records.ImageReference(data_id, uri, None, None, json.dumps(carried or {}), "f#0")
    return dead_letters.of(reference, errors.FetchNotFound("nothing"), "run")


def payload(**parts):
    return json.loads(letter(**parts).payload)


@pytest.mark.parametrize("uri", HARMLESS)
def test_harmless_uri_stays_as_it_came(uri):
    expected = {"data_id": uri, "uri": uri, "from": [uri]}
    assert payload(data_id=uri, uri=uri, carried={"from": [uri]}) == expected


@pytest.mark.parametrize("uri", SECRET)
def test_secret_of_a_uri_is_in_no_column_that_shows_it(uri):
    dead = letter(uri=uri)
    assert "hunter2" not in dead.payload + str(dead.uri)
    assert json.loads(dead.payload)["redacted"] is True


@pytest.mark.parametrize("uri", SECRET)
def test_secret_of_an_id_or_a_carried_text_is_redacted_in_the_payload(uri):
    carried = {"avatar": uri, "nested": [{"deep": [uri]}], uri: 1, "redacted": False}
    dead = letter(data_id=uri, carried=carried)
    assert "hunter2" not in dead.payload
    assert json.loads(dead.payload)["redacted"] is True
    assert dead.data_id == uri


def test_plain_carried_values_stay_as_they_came():
    carried = {"mail": "kim@example.com", "at": "10:30", "n": [1, 2.5, None, True], "note": "a=b?"}
    assert payload(carried=carried) == {"data_id": "a", "uri": "https://h/x.jpg", **carried}


def test_a_carried_column_takes_no_other_part_s_place():
    assert payload(carried={"uri": "other", "data_id": "other"}) == {
        "data_id": "a",
        "uri": "https://h/x.jpg",
    }


def test_redacted_uri_keeps_its_place_where_that_is_harmless():
    assert letter(uri="https://u:p@h/a/x.jpg?sig=1").uri == "https://h/a/x.jpg..."
    assert letter(uri="https://h:81/https://u:p@o/x.jpg").uri == "https://h:81/..."
    assert letter(uri="//user:p@h/y.jpg").uri == "..."


@pytest.mark.parametrize("depth", [40, 700])
def test_deeply_nested_carried_values_are_cut(depth):
    nested = "[" * depth + '"https://h/?sig=hunter2"' + "]" * depth
    text = dead_letters.payload("a", None, f'{{"x": {nested}}}', None)
    assert "hunter2" not in text
    assert json.loads(text)["redacted"] is True


def test_carried_values_that_no_parser_holds_are_left_out():
    text = dead_letters.payload("a", None, '{"x": ' + "[" * 10**5 + "]" * 10**5 + "}", None)
    assert json.loads(text)["redacted"] is True


@pytest.mark.parametrize("text", ["&", "?", ":", "@", "/", "%26", "a", "?w&"])
def test_a_long_hostile_text_is_redacted_or_kept_in_linear_time(text):
    assert json.loads(dead_letters.payload(text * 300_000, text * 300_000, "{}", None))


def test_payload_is_json_where_carried_values_are_no_numbers():
    text = dead_letters.payload("a", None, '{"x": NaN, "y": -Infinity}', None)
    assert "NaN" not in text
    assert json.loads(text) == {"data_id": "a", "uri": None, "x": None, "y": None}
