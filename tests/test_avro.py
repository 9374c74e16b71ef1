import datetime
import json
import logging
import pickle
import socket
import ssl
import struct
import sys

import pytest
import schema_registry
import trustme
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_registry import SchemaRegistry

from beam_moderation import avro, errors, kafka, messages, records
from beam_moderation.avro import AvroDecoder
from beam_moderation.kafka_partitions import Subscription

official = pytest.importorskip("confluent_kafka.schema_registry", reason="needs the extra avro")

MOMENT = datetime.datetime(2025, 11, 20, 8, 30, tzinfo=datetime.timezone.utc)


def record(time="null", name="Reference", **fields):
    """The schema of a reference; `time` is the type of its field of that name."""
    own = [{"name": field, "type": kind} for field, kind in fields.items()]
    uri, moment = {"name": "uri", "type": "string"}, {"name": "time", "type": time}
    return {"type": "record", "name": name, "fields": [uri, moment, *own]}


REFERENCE = {"uri": "https://x.test/1.jpg", "time": None}


@pytest.fixture
def registry():
    with SchemaRegistry() as registry:
        yield registry


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    """Servers of other tests had the same ports."""
    for name in ("SCHEMA_REGISTRY_USER", "SCHEMA_REGISTRY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    avro._schema.cache_clear()
    avro._client.cache_clear()


def serializer(registry, schema, references=()):
    from confluent_kafka.schema_registry.avro import AvroSerializer

    client = official.SchemaRegistryClient({"url": registry.url})
    written = official.Schema(json.dumps(schema), "AVRO", list(references))
    return AvroSerializer(client, written)


def serialized(registry, value, schema, references=()):
    from confluent_kafka.serialization import MessageField, SerializationContext

    place = SerializationContext("refs", MessageField.VALUE)
    return serializer(registry, schema, references)(value, place)


def message(value, offset=7):
    return messages.Message(offset, 1_763_600_000_000, b"key", value)


def parse(decoder, *values):
    numbered = tuple(message(value, offset) for offset, value in enumerate(values, start=7))
    return messages.parse_references(messages.MessageBatch("refs", 3, numbered), decoder=decoder)


def codes(batch):
    letters = records.from_arrow(batch.dead_letters, records.DeadLetter)
    return [(letter.source, letter.code) for letter in letters]


@pytest.mark.parametrize(
    ("kind", "time"),
    [
        pytest.param({"type": "long", "logicalType": "timestamp-millis"}, MOMENT, id="millis"),
        pytest.param({"type": "long", "logicalType": "timestamp-micros"}, MOMENT, id="micros"),
        pytest.param(
            {"type": "long", "logicalType": "local-timestamp-millis"},
            MOMENT.replace(tzinfo=None),
            id="local millis",
        ),
        pytest.param(
            ["null", {"type": "long", "logicalType": "timestamp-millis"}], MOMENT, id="union"
        ),
        pytest.param("long", int(MOMENT.timestamp() * 1000), id="long"),
        pytest.param("double", MOMENT.timestamp() * 1000, id="double"),
        pytest.param("string", MOMENT.isoformat(), id="string"),
    ],
)
def test_what_the_official_serializer_writes_is_a_reference(registry, kind, time):
    schema = record(kind, data_id="string", content=["null", "bytes"])
    value = {**REFERENCE, "data_id": "a", "time": time, "content": b"\xff\xd8"}
    (reference,) = parse(AvroDecoder(registry.url), serialized(registry, value, schema))
    assert reference == records.ImageReference(
        "a", "https://x.test/1.jpg", b"\xff\xd8", Timestamp(MOMENT.timestamp()), "{}", "refs/3/7"
    )


def test_each_schema_is_asked_for_once(registry):
    old, new = record(), record(data_id="string")
    values = [
        serialized(registry, REFERENCE, old),
        serialized(registry, {**REFERENCE, "data_id": "a"}, new),
    ]
    registry.requests.clear()
    decoder = AvroDecoder(registry.url)
    batch = parse(decoder, *values * 3)
    parse(pickle.loads(pickle.dumps(decoder)), *values)
    assert [reference.data_id for reference in batch][:4] == ["refs/3/7", "a", "refs/3/9", "a"]
    assert registry.requests == ["GET /schemas/ids/1", "GET /schemas/ids/2"]


def named(name, **fields):
    kinds = [{"name": field, "type": kind} for field, kind in fields.items()]
    return {"type": "record", "name": name, "fields": kinds}


def test_schemas_that_refer_to_others_are_put_together(registry):
    """Both branches lead to the same schema, which must be taken in once."""
    parts = {
        "Place": (named("Place", uri="string"), []),
        "Left": (named("Left", place="Place"), ["Place"]),
        "Right": (named("Right", place="Place"), ["Place"]),
    }
    for name, (schema, needs) in parts.items():
        references = [{"name": need, "subject": need, "version": 1} for need in needs]
        registry.register(name, {"schema": json.dumps(schema), "references": references})
    schema = record(left="Left", right="Right")
    references = [official.SchemaReference(name, name, 1) for name in ("Left", "Right")]
    place = {"place": {"uri": "https://x.test/2.jpg"}}
    value = serialized(registry, {**REFERENCE, "left": place, "right": place}, schema, references)
    decoded = AvroDecoder(registry.url)(message(value))
    assert decoded == {**REFERENCE, "left": place, "right": place}


@pytest.fixture
def decoder(registry):
    """Its registry has one schema, with the id 1."""
    registry.register("refs-value", {"schema": json.dumps(record())})
    return AvroDecoder(registry.url, timeout_s=0.2)


def whole(**fields):
    return {"schema": json.dumps(record(**fields))}


BODY = b"\x02x"
"""A reference whose uri is `x`."""

GOOD = b"\0\0\0\0\1" + BODY


@pytest.mark.parametrize(
    ("value", "code"),
    [
        pytest.param(b"\0\0\0\0", "message-malformed", id="shorter than its head"),
        pytest.param(b"\1" + GOOD[1:], "message-malformed", id="another magic byte"),
        pytest.param(b'{"uri": "x"}', "message-malformed", id="JSON"),
        pytest.param(GOOD[:5], "message-malformed", id="no body"),
        pytest.param(GOOD[:-1], "message-malformed", id="cut off"),
        pytest.param(GOOD + b"\0", "message-malformed", id="something behind it"),
        pytest.param(GOOD[:5] + b"\x01x", "message-malformed", id="negative length"),
        pytest.param(GOOD[:5] + b"\xff" * 9 + b"\1", "message-malformed", id="huge length"),
        pytest.param(GOOD[:5] + b"\2\xff", "message-malformed", id="text that is not UTF-8"),
        pytest.param(b"\0\0\0\0\2" + BODY, "message-schema-unknown", id="unknown id"),
        pytest.param(b"\0\xff\xff\xff\xff" + BODY, "message-schema-unknown", id="greatest id"),
    ],
)
def test_message_that_cannot_be_decoded_is_one_dead_letter(decoder, value, code):
    batch = parse(decoder, GOOD, value, GOOD)
    assert [reference.source for reference in batch] == ["refs/3/7", "refs/3/9"]
    assert codes(batch) == [("refs/3/8", code)]


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"schema": "{}", "schemaType": "JSON"}, id="of another kind"),
        pytest.param({"schema": '{"type": "rekord"}'}, id="none"),
        pytest.param({"schema": "{"}, id="no JSON"),
        pytest.param({"schema": '"string"'}, id="not of a record"),
        pytest.param(whole(next=["null", "Reference"]), id="of itself"),
        pytest.param(whole(tree={"type": "map", "values": "Reference"}), id="of a map of itself"),
        pytest.param(whole(holes={"type": "array", "items": "null"}), id="of an array of nulls"),
        pytest.param(
            whole(holes={"type": "array", "items": named("Hole", x="null", y="null")}),
            id="of an array of records of nulls",
        ),
        pytest.param(
            whole(holes={"type": "array", "items": {"type": "fixed", "name": "No", "size": 0}}),
            id="of an array of nothing",
        ),
        pytest.param(
            {
                "schema": json.dumps(record(left="Left")),
                "references": [{"name": "Left", "subject": "gone", "version": 1}],
            },
            id="refers to what is gone",
        ),
    ],
)
def test_schema_that_makes_no_references_is_one_dead_letter(registry, decoder, schema):
    number = registry.register("others", schema)
    batch = parse(decoder, struct.pack(">BI", 0, number) + BODY, GOOD)
    assert codes(batch) == [("refs/3/7", "message-schema-unknown")]


def test_unknown_schema_is_asked_for_again_after_a_while(registry, decoder, monkeypatch):
    value = b"\0\0\0\0\2" + BODY
    assert len(codes(parse(decoder, *[value] * 5))) == 5
    assert registry.requests == ["GET /schemas/ids/2"]
    registry.register("refs-value", {"schema": json.dumps(record(name="Later"))})
    monkeypatch.setattr(avro, "_KEPT_S", 1e-6)
    assert codes(parse(decoder, value)) == []


FAULTS = {
    "silence": schema_registry.silence,
    "500": schema_registry.plain(500, b"{}"),
    "503 of a proxy": schema_registry.plain(503, b"<html>testsecret</html>"),
    "429": schema_registry.plain(429, b'{"error_code": 429, "message": "slow down"}'),
    "another page": schema_registry.plain(200, b"<html>sign in</html>"),
    "another service": schema_registry.plain(200, b"{}"),
    "a list": schema_registry.plain(200, b"[]"),
    "nothing": schema_registry.plain(200, b""),
    "a redirect": schema_registry.plain(302, b""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_registry_that_does_not_answer_is_no_dead_letter(registry, decoder, fault):
    registry.answer = fault
    with pytest.raises(errors.DecoderUnavailable) as raised:
        parse(decoder, GOOD)
    assert "testsecret" not in str(raised.value)
    registry.answer = None
    registry.closed.set()
    assert codes(parse(decoder, GOOD)) == []


def test_registry_that_is_not_there_is_no_dead_letter():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        decoder = AvroDecoder(f"http://127.0.0.1:{unused.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(errors.DecoderUnavailable):
            parse(decoder, GOOD)


def test_second_registry_is_asked_where_the_first_does_not_answer(registry, decoder):
    with SchemaRegistry() as broken:
        broken.answer = FAULTS["500"]
        both = AvroDecoder(f"{broken.url}, {registry.url}")
        assert codes(parse(both, GOOD)) == []


def test_wrong_url_is_the_operators_mistake(registry, decoder):
    elsewhere = AvroDecoder(f"{registry.url}/no-registry")
    with pytest.raises(errors.ConfigurationError, match="no schema registry"):
        parse(elsewhere, GOOD)


@pytest.fixture
def closed_registry(registry, decoder):
    registry.login = ("testid", "testsecret")
    return registry


def test_credentials_come_from_a_file(closed_registry, tmp_path):
    file = tmp_path / "credentials.yaml"
    file.write_text("schema_registry: {key_id: testid, key_secret: testsecret}")
    decoder = AvroDecoder(closed_registry.url, credentials_file=str(file))
    assert codes(parse(decoder, GOOD)) == []


def test_credentials_are_looked_up_again_when_they_are_refused(closed_registry, monkeypatch):
    monkeypatch.setenv("SCHEMA_REGISTRY_USER", "testid")
    monkeypatch.setenv("SCHEMA_REGISTRY_PASSWORD", "old")
    decoder = AvroDecoder(closed_registry.url)
    with pytest.raises(errors.ConfigurationError, match="refuses the credentials"):
        parse(decoder, GOOD)
    monkeypatch.setenv("SCHEMA_REGISTRY_PASSWORD", "testsecret")
    assert codes(parse(decoder, GOOD)) == []


def test_half_of_the_credentials_are_a_mistake(closed_registry, monkeypatch):
    monkeypatch.setenv("SCHEMA_REGISTRY_USER", "testid")
    with pytest.raises(errors.ConfigurationError, match="SCHEMA_REGISTRY_PASSWORD"):
        parse(AvroDecoder(closed_registry.url), GOOD)


def test_password_is_shown_nowhere(closed_registry, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SCHEMA_REGISTRY_USER", "testid")
    monkeypatch.setenv("SCHEMA_REGISTRY_PASSWORD", "testsecret")
    decoder = AvroDecoder(closed_registry.url)
    read = kafka.ReadReferencesFromKafka(Subscription("refs", {}), decoder=decoder)
    assert codes(parse(decoder, GOOD, b"\0\0\0\0\2")) == [("refs/3/8", "message-schema-unknown")]
    shown = [repr(decoder).encode(), pickle.dumps([decoder, read]), caplog.text.encode()]
    assert b"testsecret" not in b"".join(shown)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry:8081",
        "ftp://registry",
        "http://",
        "https://testid:testsecret@registry",
        "http://registry,http://testid:testsecret@registry",
    ],
)
def test_url_that_is_none_or_has_a_password_is_refused(url):
    with pytest.raises(errors.ConfigurationError) as raised:
        AvroDecoder(url)
    assert "testsecret" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client's own
def test_registry_is_known_by_its_certificate(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with SchemaRegistry(tls=context) as registry:
        registry.register("refs-value", {"schema": json.dumps(record())})
        assert codes(parse(AvroDecoder(registry.url, ca_file=str(tmp_path / "ca.pem")), GOOD)) == []
        with pytest.raises(errors.DecoderUnavailable):
            parse(AvroDecoder(registry.url), GOOD)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(errors.ConfigurationError, match=r"beam-moderation\[avro\]"):
        parse(AvroDecoder("http://registry.test"), GOOD)


def test_type_that_is_there_twice_is_no_type_within_itself(registry):
    place = named("Place", uri="string", marks={"type": "array", "items": "int"})
    schema = record(one=place, two=["null", "Place"], all={"type": "array", "items": "Place"})
    here = {"uri": "https://x.test/2.jpg", "marks": [1, 2]}
    value = {**REFERENCE, "one": here, "two": here, "all": [here, here]}
    assert AvroDecoder(registry.url)(message(serialized(registry, value, schema))) == value


def test_decimal_is_left_as_it_is(registry):
    """Making a number of 100,000 bytes takes seconds."""
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    value = serialized(registry, {**REFERENCE, "price": b"\x7f" * 100_000}, record(price=kind))
    decoded = AvroDecoder(registry.url)(message(value))
    assert decoded["price"] == b"\x7f" * 100_000


NOISY = record(
    {"type": "long", "logicalType": "timestamp-micros"},
    content=["null", "bytes"],
    labels={"type": "array", "items": ["string", "double", {"type": "map", "values": "int"}]},
    kind={"type": "enum", "name": "Kind", "symbols": ["A", "B"]},
    hash={"type": "fixed", "name": "Hash", "size": 4},
    price={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
)


@pytest.fixture(scope="module")
def noisy():
    with SchemaRegistry() as registry:
        registry.register("refs-value", {"schema": json.dumps(NOISY)})
        yield AvroDecoder(registry.url)


@settings(deadline=None)
@given(values=st.lists(st.binary(max_size=200), max_size=5), heads=st.booleans())
def test_any_bytes_are_a_reference_or_a_dead_letter(noisy, values, heads):
    head = b"\0\0\0\0\1" if heads else b""
    values = [head + value or b"\0" for value in values]
    batch = parse(noisy, *values)
    sources = [reference.source for reference in batch] + [source for source, _ in codes(batch)]
    assert sorted(sources) == sorted(f"refs/3/{7 + number}" for number in range(len(values)))
