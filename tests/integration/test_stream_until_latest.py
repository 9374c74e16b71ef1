"""The command `stream` up to what is the latest message, on a real broker and no cluster."""

import io
import json
import signal
import struct
import sys

import pytest
from schema_registry import SchemaRegistry
from services import processes
from stream_commands import (
    Command,
    asked,
    committed,
    expected,
    messages_of,
    outcomes,
    produce,
    references,
)

from beam_moderation import cli

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(300)]


def test_until_latest_goes_on_where_it_was(kafka, topics, pictures, tmp_path):
    refs, verdicts = topics
    command = [*asked(kafka, refs, pictures), "--until-latest", "--batch-size", "100"]
    more = ["--group", refs, "--to-topic", verdicts]
    produce(kafka, refs, references(pictures, 0, 1200))
    code, out, err = Command(*command, *more).end()
    assert code == 0, err
    assert "1,200 references: 1,080 images judged, 120 dead letters" in out
    assert outcomes(tmp_path / "out") == expected(0, 1200)
    assert committed(kafka, refs, refs) == [300] * 4
    told = messages_of(kafka, verdicts, 1200)
    assert {key: row.get("suggestion") or row["code"] for key, _, row in told} == expected(0, 1200)

    code, out, err = Command(*command).end()
    assert code == 0, err
    assert "1,200 were there already" in out

    produce(kafka, refs, references(pictures, 1200, 1300))
    code, out, err = Command(*command, *more, "--start", "committed").end()
    assert code == 0, err
    assert "100 references:" in out
    assert outcomes(tmp_path / "out") == expected(0, 1300)
    assert committed(kafka, refs, refs) == [325] * 4


def test_an_empty_topic_is_soon_done(kafka, topics, pictures):
    code, out, err = Command(*asked(kafka, topics[0], pictures), "--until-latest").end()
    assert code == 0, err
    assert "0 references" in out


def avro(number, schema, value):
    """A value as Confluent's serializers write it."""
    fastavro = pytest.importorskip("fastavro", reason="needs the extra avro")
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, value)
    return struct.pack(">BI", 0, number) + body.getvalue()


def test_messages_may_be_avro(kafka, topics, pictures, tmp_path):
    refs, _ = topics
    fields = [{"name": name, "type": "string"} for name in ("data_id", "uri")]
    schema = {"type": "record", "name": "Reference", "fields": fields}
    with SchemaRegistry() as registry:
        number = registry.register("refs-value", {"schema": json.dumps(schema)})
        good = [avro(number, schema, reference) for reference in references(pictures, 0, 20)]
        bad = [b"\0\0", b"{}", good[0][:-1], b"\0\0\0\0\7" + good[0][5:], None, b""]
        produce(kafka, refs, [*bad, *good], partitions=1)
        command = [*asked(kafka, refs, pictures), "--until-latest"]
        code, _, err = Command(*command, "--avro-registry", registry.url).end()
    assert code == 0, err
    codes = ["message-malformed"] * 3
    codes += ["message-schema-unknown", "message-tombstone", "message-empty"]
    dead = {f"{refs}/0/{offset}": code for offset, code in enumerate(codes)}
    assert outcomes(tmp_path / "out") == expected(0, 20) | dead


@pytest.mark.parametrize("option", ["--topic", "--to-topic"])
def test_a_missing_topic_is_one_line_and_2(kafka, topics, pictures, monkeypatch, capsys, option):
    command = [*map(str, asked(kafka, topics[0], pictures)), "--until-latest", option, "none"]
    monkeypatch.setattr(sys, "argv", ["beam-moderation", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: topic none: ")


def test_ctrl_c_says_how_to_go_on(kafka, topics, pictures, tmp_path):
    produce(kafka, topics[0], references(pictures, 1, 10) * 2000)
    words = [*asked(kafka, topics[0], pictures), "--until-latest", "--batch-size", "10"]
    command = Command(*words)
    written = tmp_path / "out" / "_batches"
    processes.wait_until(lambda: command.alive() and any(written.glob("*.json")), "a batch")
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.end(60)
    assert code == 130
    assert "To go on, run it again" in err
    assert "Traceback" not in err
