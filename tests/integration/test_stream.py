"""The command `stream` on a real broker and a real cluster."""

import contextlib
import io
import json
import pathlib
import re
import signal
import struct
import subprocess
import sys
import time
import uuid

import duckdb
import pytest
from brightness import picture
from confluent_kafka import Consumer, Producer, TopicPartition
from schema_registry import SchemaRegistry
from services import processes

import beam_moderation as bm

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(900)]

PROGRAM = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]
DAY_MS = 86_400_000


@pytest.fixture
def topics(kafka):
    """An empty topic of references and one of verdicts, with four partitions each."""
    names = [f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("refs", "verdicts")]
    for name in names:
        kafka.create_topic(name, 4, message_timestamp_after_max_ms=str(10 * DAY_MS))
    return names


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(picture(25 * number))
    return folder


def uri(pictures, number):
    """A picture; every tenth is missing."""
    return (pictures / f"{number % 10 or 'gone'}.png").as_uri()


def is_delivered(error, message):
    assert error is None, error


def produce(kafka, topic, values, partitions=4, timestamp_ms=None):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for number, value in enumerate(values):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        place = {"partition": number % partitions, "timestamp": timestamp_ms or 0}
        producer.produce(topic, body, on_delivery=is_delivered, **place)
        producer.poll(0)
    assert producer.flush(60) == 0


def references(pictures, first, after):
    return [{"data_id": f"{n}", "uri": uri(pictures, n)} for n in range(first, after)]


class Command:
    """A `stream` that runs in a process of its own."""

    def __init__(self, kafka, topic, pictures, *options):
        command = [*PROGRAM, "stream", "--brokers", kafka.bootstrap, "--topic", topic]
        command += ["--out", str(pictures.parent / "out"), "--local-root", str(pictures)]
        command += ["--scanner", "qrcode", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def end(self, timeout_s=300):
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err

    def alive(self):
        assert self.process.poll() is None, self.process.communicate()
        return True


def outcomes(folder):
    """What a reader sees, by reference."""
    database = duckdb.connect()
    database.execute(bm.views(str(folder / "out")))
    rows = database.sql(
        "SELECT data_id, suggestion FROM images UNION ALL SELECT data_id, code FROM dead_letters"
    ).fetchall()
    assert len(rows) == len(dict(rows))
    return dict(rows)


def expected(first, after):
    return {f"{n}": "pass" if n % 10 else "fetch-not-found" for n in range(first, after)}


def committed(kafka, topic, group):
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    places = consumer.committed([TopicPartition(topic, number) for number in range(4)], 30)
    consumer.close()
    return [place.offset for place in places]


def messages_of(kafka, topic, count):
    """The first messages of a topic: their keys, tables and rows."""
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "log_level": 0}
    consumer = Consumer({**config, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(4)])
    found = []
    with contextlib.closing(consumer):
        while len(found) < count:
            for message in consumer.consume(count, 5):
                assert message.error() is None
                table = dict(message.headers())["table"].decode()
                found.append((message.key().decode(), table, json.loads(message.value())))
    return found


def test_until_latest_goes_on_where_it_was(kafka, topics, pictures, tmp_path):
    refs, verdicts = topics
    produce(kafka, refs, references(pictures, 0, 1200))
    options = ["--until-latest", "--group", refs, "--to-topic", verdicts, "--batch-size", "100"]
    code, out, err = Command(kafka, refs, pictures, *options).end()
    assert code == 0, err
    assert "1,200 references: 1,080 images judged, 120 dead letters" in out
    assert outcomes(tmp_path) == expected(0, 1200)
    assert committed(kafka, refs, refs) == [300] * 4
    told = {
        key: row.get("suggestion") or row["code"]
        for key, _, row in messages_of(kafka, verdicts, 1200)
    }
    assert told == expected(0, 1200)

    code, out, err = Command(kafka, refs, pictures, "--until-latest", "--batch-size", "100").end()
    assert code == 0, err
    assert "1,200 were there already" in out

    produce(kafka, refs, references(pictures, 1200, 1300))
    code, out, err = Command(kafka, refs, pictures, *options, "--start", "committed").end()
    assert code == 0, err
    assert "100 references:" in out
    assert outcomes(tmp_path) == expected(0, 1300)
    assert committed(kafka, refs, refs) == [325] * 4


def test_messages_may_be_avro(kafka, topics, pictures, tmp_path):
    fastavro = pytest.importorskip("fastavro", reason="needs the extra avro")
    fields = [{"name": name, "type": "string"} for name in ("data_id", "uri")]
    schema = {"type": "record", "name": "Reference", "fields": fields}
    with SchemaRegistry() as registry:
        number = registry.register("refs-value", {"schema": json.dumps(schema)})
        values = [b"\0\0"]
        for reference in references(pictures, 0, 20):
            body = io.BytesIO()
            fastavro.schemaless_writer(body, schema, reference)
            values.append(struct.pack(">BI", 0, number) + body.getvalue())
        produce(kafka, topics[0], values)
        options = ["--until-latest", "--schema-registry", registry.url]
        code, _, err = Command(kafka, topics[0], pictures, *options).end()
    assert code == 0, err
    malformed = {f"{topics[0]}/0/0": "message-malformed"}
    assert outcomes(tmp_path) == expected(0, 20) | malformed


def test_until_latest_of_an_empty_topic_is_soon_done(kafka, topics, pictures):
    code, out, err = Command(kafka, topics[0], pictures, "--until-latest").end()
    assert code == 0, err
    assert "0 references" in out


@pytest.mark.parametrize("options", [["--topic", "none"], ["--to-topic", "none"]], ids=" ".join)
def test_a_missing_topic_is_one_line_and_2(kafka, topics, pictures, options):
    code, out, err = Command(kafka, topics[0], pictures, "--until-latest", *options).end()
    assert (code, out) == (2, "")
    assert err.startswith("error: topic none: ")
    assert err.count("\n") == 1


def test_ctrl_c_says_how_to_go_on(kafka, topics, pictures, tmp_path):
    produce(kafka, topics[0], references(pictures, 1, 10) * 2000)
    command = Command(kafka, topics[0], pictures, "--until-latest", "--batch-size", "10")
    written = tmp_path / "out" / "_batches"
    processes.wait_until(lambda: command.alive() and any(written.glob("*.json")), "a batch")
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.end(60)
    assert code == 130
    assert "To go on, run it again" in err
    assert "Traceback" not in err


@pytest.fixture
def stream(kafka, topics, pictures, flink, tmp_path):
    """Starts the stream; its jobs end with the test."""
    commands = []

    def start(*options):
        flags = [*flink.options(), "--parallelism=2", "--checkpointing_interval=2000"]
        command = Command(kafka, topics[0], pictures, *flags, *options)
        commands.append(command)
        processes.wait_until(lambda: command.alive() and len(flink.jobs()) == 1, "the job")
        return command

    yield start
    for job in flink.jobs():
        flink.cancel(job)
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
            command.process.communicate()


def wait_for(tmp_path, command, count):
    processes.wait_until(
        lambda: command.alive() and len(outcomes(tmp_path)) >= count, f"{count} outcomes", 180
    )


def test_every_reference_has_one_outcome_though_a_partition_is_idle(
    kafka, topics, pictures, flink, stream, tmp_path
):
    refs, verdicts = topics
    command = stream("--window", "5s", "--shards", "2", "--to-topic", verdicts, "--group", refs)
    for first in range(0, 2000, 100):
        produce(kafka, refs, references(pictures, first, first + 100), partitions=3)
    produce(kafka, refs, [b"{", b"\xff", b'{"data_id": "nowhere"}'], partitions=3)
    wait_for(tmp_path, command, 2003)
    found = outcomes(tmp_path)
    malformed = {key for key in found if "/" in key}
    assert sorted(found[key] for key in malformed) == [
        "message-malformed",
        "message-not-utf-8",
        "uri-missing",
    ]
    assert {key: found[key] for key in found.keys() - malformed} == expected(0, 2000)
    told = messages_of(kafka, verdicts, 2003)
    assert {key for key, _, _ in told} == found.keys()
    tables = {key: table for key, table, _ in told}
    assert {table for key, table in tables.items() if found[key] == "pass"} == {"images"}
    files = len(list((tmp_path / "out" / "_batches").iterdir()))
    assert files < 200, "the batches of a window share files"

    flink.stop_with_savepoint(flink.jobs()[0])
    code, _, err = command.end(60)
    assert code == 0, err
    assert "the stream has ended: DONE" in err
    assert not list((tmp_path / "out").glob("_staging/*"))
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_savepoint_goes_on_with_another_policy_and_parallelism(
    kafka, topics, pictures, flink, stream, tmp_path
):
    refs, _ = topics
    command = stream("--window", "2s")
    produce(kafka, refs, references(pictures, 0, 100))
    wait_for(tmp_path, command, 100)
    savepoint = flink.stop_with_savepoint(flink.jobs()[0])
    assert command.end(60)[0] == 0
    produce(kafka, refs, references(pictures, 100, 200))
    policy = tmp_path / "policy.yaml"
    policy.write_text("scenes: {qrcode: {normal: {review: 0.0}}}")
    options = ["--policy", str(policy), f"--savepoint_path={savepoint}", "--parallelism=4"]
    wait_for(tmp_path, stream("--window", "2s", *options), 200)
    review = {key: told.replace("pass", "review") for key, told in expected(100, 200).items()}
    assert outcomes(tmp_path) == expected(0, 100) | review


def test_what_is_late_lands_once_and_on_its_own_day(
    kafka, topics, pictures, flink, stream, tmp_path
):
    refs, _ = topics
    command = stream("--window", "2s")
    produce(kafka, refs, references(pictures, 1, 9))
    wait_for(tmp_path, command, 8)
    late_ms = int(time.time() * 1000) - 3 * DAY_MS
    produce(kafka, refs, [{"data_id": "late", "uri": uri(pictures, 1)}], 1, late_ms)
    future_ms = int(time.time() * 1000) + 3 * DAY_MS
    produce(kafka, refs, [{"data_id": "early", "uri": uri(pictures, 1)}], 1, future_ms)
    wait_for(tmp_path, command, 10)
    for name, time_ms in {"late": late_ms, "early": future_ms}.items():
        rows = duckdb.sql(
            f"SELECT count(*), min(dt)::text FROM '{tmp_path}/out/images/**/*.parquet' "
            f"WHERE data_id = '{name}'"
        ).fetchall()
        day = time.strftime("%Y-%m-%d", time.gmtime(time_ms / 1000))
        assert rows == [(1, day)]


def test_prism_streams_and_ctrl_c_says_how_to_lose_nothing(
    kafka, topics, pictures, prism, tmp_path
):
    runner = ["--runner=PrismRunner", f"--prism_location={prism}"]
    command = Command(kafka, topics[0], pictures, *runner, "--window", "2s")
    produce(kafka, topics[0], references(pictures, 0, 200))
    wait_for(tmp_path, command, 200)
    assert outcomes(tmp_path) == expected(0, 200)
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.end(60)
    assert code == 130
    assert "--start=earliest" in err


PIPELINE = pathlib.Path(__file__).parents[2] / "pipelines" / "stream.py"


def test_the_stream_to_copy_runs_as_it_stands(kafka, topics, pictures, flink, tmp_path):
    refs, verdicts = topics
    produce(kafka, refs, references(pictures, 0, 100))
    command = [sys.executable, PIPELINE, "--brokers", kafka.bootstrap, "--topic", refs]
    command += ["--to_topic", verdicts, "--out", tmp_path / "out", "--window", "2"]
    command += ["--scanner", "qrcode", "--local_root", pictures, *flink.options()]
    command += ["--checkpointing_interval=2000", "--max_bundle_time_mills=500"]
    command += ["--finish_bundle_before_checkpointing"]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as process:
        try:
            told = messages_of(kafka, verdicts, 100)
            assert {key for key, _, _ in told} == expected(0, 100).keys()
            processes.wait_until(lambda: outcomes(tmp_path) == expected(0, 100), "the tables")
        finally:
            process.kill()
            for job in flink.jobs():
                flink.cancel(job)


def test_leaving_the_command_leaves_the_job(kafka, topics, pictures, flink, stream, tmp_path):
    command = stream("--window", "2s")
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.end(60)
    assert code == 130
    (told,) = re.findall(r"--savepoint_path=\w+", err)
    assert told
    produce(kafka, topics[0], references(pictures, 1, 5))
    processes.wait_until(lambda: len(outcomes(tmp_path)) == 4, "what came afterwards", 120)
