import base64
import hashlib
import json
import struct

import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from beam_moderation import errors, messages, records

TIME_MS = 1_763_600_000_000


def message(value, offset=7, **changes):
    body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return messages.Message(offset, TIME_MS, b"key", body)._replace(**changes)


def parse(*values, **options):
    numbered = [
        value if isinstance(value, messages.Message) else message(value, offset)
        for offset, value in enumerate(values, start=7)
    ]
    return messages.parse_references(
        messages.MessageBatch("refs", 3, tuple(numbered)), run_id="run-1", **options
    )


def references(batch):
    return list(batch)


def dead_letters(batch):
    return list(records.from_arrow(batch.dead_letters, records.DeadLetter))


def test_object_becomes_a_reference():
    (reference,) = parse({"data_id": "a", "uri": "https://x.test/1.jpg", "time": 1_000})
    assert reference == records.ImageReference(
        "a", "https://x.test/1.jpg", None, Timestamp(1), "{}", "refs/3/7"
    )


def test_what_is_not_said_comes_from_the_message():
    (reference,) = parse({"uri": "https://x.test/1.jpg"})
    assert reference.data_id == reference.source == "refs/3/7"
    assert reference.event_time == Timestamp(micros=TIME_MS * 1000)


def test_inline_content_needs_no_uri():
    (reference,) = parse({"data_id": "a", "content": base64.b64encode(b"\xff\xd8").decode()})
    assert (reference.uri, reference.content) == (None, b"\xff\xd8")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2025-11-20T00:00:00Z", 1_763_596_800),
        ("2025-11-20T08:00:00+08:00", 1_763_596_800),
        ("2025-11-20T00:00:00", 1_763_596_800),
        (1_763_596_800_000, 1_763_596_800),
        (1_763_596_800_500.0, 1_763_596_800.5),
    ],
)
def test_time_is_milliseconds_or_iso_8601(time, seconds):
    (reference,) = parse({"uri": "https://x.test/1.jpg", "time": time})
    assert reference.event_time == Timestamp(seconds)


def test_names_of_fields_are_the_users():
    fields = messages.Fields("id", "link", "at", "bytes", carried=("lang", "@header.trace"))
    sent = message({"id": 5, "link": "https://x.test/1", "at": 0, "lang": "fr"})
    (reference,) = parse(sent._replace(headers=(("trace", b"t-1"),)), fields=fields)
    assert (reference.data_id, reference.uri) == ("5", "https://x.test/1")
    assert json.loads(reference.carried) == {"lang": "fr", "@header.trace": "t-1"}


def test_key_may_be_the_id():
    (reference,) = parse({"uri": "https://x.test/1.jpg"}, fields=messages.Fields(data_id="@key"))
    assert reference.data_id == "key"


def test_any_decoder_will_do():
    def packed(sent):
        (number,) = struct.unpack(">I", sent.value)
        return {"data_id": number, "uri": f"https://x.test/{number}"}

    batch = parse(message(struct.pack(">I", 9)), message(b"\x00", 8), decoder=packed)
    assert [reference.uri for reference in batch] == ["https://x.test/9"]
    assert [letter.code for letter in dead_letters(batch)] == ["message-malformed"]


def test_decoder_chooses_its_own_code():
    def picky(sent):
        raise errors.ReferenceInvalid("message-schema-unknown", "no schema 77")

    (letter,) = dead_letters(parse({}, decoder=picky))
    assert (letter.code, letter.message) == ("message-schema-unknown", "no schema 77")


@pytest.mark.parametrize("kind", [errors.DecoderUnavailable, errors.ConfigurationError])
def test_a_decoder_that_cannot_work_costs_no_message(kind):
    def helpless(sent):
        raise kind("no registry")

    with pytest.raises(kind):
        parse({}, decoder=helpless)


URI = {"uri": "https://x.test/1.jpg"}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        pytest.param(None, "message-tombstone", id="tombstone"),
        pytest.param(b"", "message-empty", id="empty"),
        pytest.param(b"x" * 65, "message-too-large", id="huge"),
        pytest.param(b'{"uri": "\xff"}', "message-not-utf-8", id="not utf-8"),
        pytest.param(b'{"uri": ', "message-malformed", id="cut off"),
        pytest.param(b"[" * 60, "message-malformed", id="never closed"),
        pytest.param(b"[]", "message-schema-unknown", id="array"),
        pytest.param(b"null", "message-schema-unknown", id="null"),
        pytest.param({}, "uri-missing", id="no place"),
        pytest.param({"uri": ""}, "uri-missing", id="empty uri"),
        pytest.param({"uri": 5}, "type-wrong", id="uri is a number"),
        pytest.param({"uri": ["a"]}, "type-wrong", id="uri is a list"),
        pytest.param({**URI, "data_id": ""}, "id-missing", id="empty id"),
        pytest.param({**URI, "data_id": True}, "type-wrong", id="id is a truth"),
        pytest.param(b'{"uri": "\\ud800"}', "text-not-utf-8", id="lone surrogate"),
        pytest.param({"content": "%%%"}, "content-not-base64", id="no base64"),
        pytest.param({"content": "\u00e9"}, "content-not-base64", id="not even ascii"),
        pytest.param({**URI, "time": "soon"}, "time-malformed", id="no time"),
        pytest.param({**URI, "time": 1e300}, "time-malformed", id="no year"),
        pytest.param({**URI, "time": [1]}, "time-malformed", id="time is a list"),
        pytest.param({**URI, "time": True}, "time-malformed", id="time is a truth"),
    ],
)
def test_message_without_a_reference_is_one_dead_letter(value, code):
    batch = parse(URI, value, URI, max_message_bytes=64)
    assert [reference.source for reference in batch] == ["refs/3/7", "refs/3/9"]
    (letter,) = dead_letters(batch)
    assert (letter.code, letter.stage, letter.run_id) == (code, "read", "run-1")
    assert letter.data_id == letter.source == "refs/3/8"
    assert not letter.retryable


@pytest.mark.parametrize("name", ["uri", "data_id", "note"])
def test_text_that_is_far_too_long_is_a_dead_letter_and_not_shown(name):
    fields = messages.Fields(carried=("note",))
    batch = parse({**URI, name: "x" * (2**20 + 1)}, fields=fields)
    (letter,) = dead_letters(batch)
    assert letter.code == "text-too-long"
    assert len(letter.payload) < 1000


def test_json_that_nests_too_deep_is_a_dead_letter():
    (letter,) = dead_letters(parse(b"[" * 200_000))
    assert letter.code == "message-malformed"


def test_missing_key_is_a_dead_letter_where_it_is_the_id():
    keyless = message(URI, key=None)
    assert len(parse(keyless).references) == 1
    (letter,) = dead_letters(parse(keyless, fields=messages.Fields(data_id="@key")))
    assert letter.code == "id-missing"


SECRET = "0123456789abcdef"


def payload(sent, **options):
    (letter,) = dead_letters(parse(sent, **options))
    assert SECRET not in repr(letter)
    return json.loads(letter.payload)


def test_payload_of_what_cannot_be_decoded_is_its_size_and_hash():
    value = b"\xff" + SECRET.encode()
    sent = message(value, key=SECRET.encode(), headers=(("authorization", SECRET.encode()),))
    assert payload(sent) == {
        "data_id": None,
        "uri": None,
        "timestamp_ms": TIME_MS,
        "value_bytes": len(value),
        "value_sha256": hashlib.sha256(value).hexdigest(),
    }


def test_payload_of_a_tombstone_says_that_there_is_no_value():
    told = payload(message(None))
    assert (told["value_bytes"], told["value_sha256"]) == (None, None)


@pytest.mark.parametrize(
    "uri",
    [
        f"https://user:{SECRET}@x.test/1.jpg",
        f"https://x.test/1.jpg?X-Amz-Signature={SECRET}",
        f"https://x.test/1.jpg#{SECRET}",
    ],
)
def test_payload_shows_no_secret_of_a_uri(uri):
    told = payload({"data_id": "a", "uri": uri, "time": "soon"})
    assert told["data_id"] == "a"
    assert told["uri"].startswith("https://x.test/")
    assert told["redacted"]


def test_payload_holds_what_makes_a_reference_and_nothing_else():
    sent = {"data_id": 5, "uri": "https://x.test/1", "time": "soon", "lang": "fr", "token": SECRET}
    told = payload(sent, fields=messages.Fields(carried=("lang", "gone")))
    assert (told["data_id"], told["uri"], told["time"]) == ("5", "https://x.test/1", "soon")
    assert told["lang"] == "fr"
    assert not {"token", "gone"} & told.keys()


def test_payload_leaves_out_what_is_too_long_or_no_text():
    told = payload({"data_id": ["a"], "uri": "x" * 10_000, "time": "soon"})
    assert (told["data_id"], told["uri"]) == (None, None)


def test_one_field_may_be_both_the_id_and_the_uri():
    fields = messages.Fields(data_id="uri", uri="uri")
    (reference,) = parse(URI, fields=fields)
    assert reference.data_id == reference.uri == URI["uri"]
    assert payload({**URI, "time": "soon"}, fields=fields)["data_id"] == URI["uri"]


def test_message_of_a_decoders_error_is_not_passed_on():
    def chatty(sent):
        raise ValueError(f"cannot read {sent.value}")

    assert payload(message(SECRET.encode()), decoder=chatty)["value_bytes"] == len(SECRET)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_json_has_not_is_null_in_what_is_carried(number):
    value = f'{{"uri": "https://x.test/1", "score": {number}, "all": [{number}, 1]}}'.encode()
    (reference,) = parse(message(value), fields=messages.Fields(carried=("score", "all")))

    def refuse(constant):
        raise AssertionError(constant)

    carried = json.loads(reference.carried, parse_constant=refuse)
    assert carried == {"score": None, "all": [None, 1]}


def test_what_a_decoder_makes_and_json_has_not_costs_its_message_alone():
    def odd(sent):
        return {**URI, "extra": {(1, 2): 3} if sent.offset == 8 else 4}

    batch = parse({}, {}, {}, decoder=odd, fields=messages.Fields(carried=("extra",)))
    assert [reference.source for reference in batch] == ["refs/3/7", "refs/3/9"]
    assert [letter.code for letter in dead_letters(batch)] == ["message-malformed"]


@pytest.mark.parametrize("timestamp_ms", [-1, 2**62])
def test_absurd_timestamp_is_held_to_what_tables_can_show(timestamp_ms):
    (reference,) = parse(message(URI, timestamp_ms=timestamp_ms))
    assert reference.event_time.to_utc_datetime().year in {1970, 9999}


def test_lost_range_is_a_dead_letter():
    batch = messages.parse_references(messages.MessageBatch("refs", 0, (), lost=(5, 9)))
    (letter,) = dead_letters(batch)
    assert (letter.source, letter.code) == ("refs/0/5-8", "messages-lost")
    assert letter.message.startswith("4 offsets")


def test_same_messages_have_the_same_batch_id():
    assert parse(URI, URI).id == parse(URI, URI).id


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([URI], id="fewer"),
        pytest.param([URI, {"uri": "https://x.test/2.jpg"}], id="other value"),
        pytest.param([URI, message(URI, offset=9)], id="other offset"),
        pytest.param([URI, message(URI, offset=8, key=b"k")], id="other key"),
    ],
)
def test_other_messages_have_another_batch_id(other):
    assert parse(URI, URI).id != parse(*other).id


@given(st.lists(st.binary() | st.none() | st.just(b'{"uri": "s3://a/b"}'), max_size=20))
def test_every_message_ends_once(values):
    batch = parse(*values)
    found = [reference.source for reference in batch]
    found += [letter.source for letter in dead_letters(batch)]
    assert sorted(found) == sorted(f"refs/3/{offset}" for offset in range(7, 7 + len(values)))


def test_row_of_a_table_becomes_json():
    row = records.SceneResult(
        "a", "porn", "m@1", "p1", None, "porn", 0.5, "review", "",
        [records.Finding("porn", 0.5)], 0, 1, 1, None, None, "{}", "refs/0/1",
        Timestamp(1_763_596_800), Timestamp(1_763_596_801.5), "r",
    )  # fmt: skip
    body = json.loads(messages.to_json(row))
    assert body["findings"] == [{"label": "porn", "score": 0.5}]
    assert body["event_time"] == "2025-11-20T00:00:00Z"
    assert body["moderated_at"] == "2025-11-20T00:00:01.500000Z"
    assert body["uri"] is None
    assert list(body) == list(records.SceneResult._fields)
