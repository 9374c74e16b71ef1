"""Beam's own connector, KafkaIO, on a real broker: Java beside Python, and no Docker."""

import base64
import contextlib
import json
import pathlib
import sys

import pytest
from brightness import picture
from confluent_kafka import Producer
from services import downloads, processes
from vendor_jobs import rows

pytest.importorskip("zxingcpp", reason="needs the extra qrcode")

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(300)]

PIPELINE = pathlib.Path(__file__).parents[2] / "pipelines" / "kafka_io.py"
BROKEN = range(0, 200, 50)


@pytest.fixture
def expansion_service(kafka_io, tmp_path):
    """The address of the service that makes Java's transforms, and runs them beside."""
    port = processes.free_port()
    main = "org.apache.beam.sdk.expansion.service.ExpansionService"
    own = [str(port), "--javaClassLookupAllowlistFile=*", "--alsoStartLoopbackWorker"]
    service = processes.Service(
        [downloads.java(), "-Xmx512m", "-cp", f"{kafka_io}/*", main, *own],
        tmp_path / "expansion.log",
        lambda: processes.listens(port),
    )
    with contextlib.ExitStack() as stack:
        stack.callback(service.stop)
        service.start()
        yield f"localhost:{port}"


def test_messages_through_kafka_io_are_moderated(kafka, expansion_service, tmp_path):
    kafka.create_topic("kafka-io", 3)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for number in range(200):
        content = base64.b64encode(picture(number)).decode()
        value = json.dumps({"data_id": str(number), "content": content})
        value = "{" if number in BROKEN else value
        producer.produce("kafka-io", value, partition=number % 3, headers={"trace": b"t"})
    assert producer.flush(30) == 0
    processes.run(
        [
            *(sys.executable, str(PIPELINE), "--brokers", kafka.bootstrap),
            *("--topic", "kafka-io", "--max_messages", "200", "--scanner", "qrcode"),
            *("--expansion_service", expansion_service, "--out", str(tmp_path / "out")),
        ]
    )
    judged = {int(row.data_id): row.source for row in rows(tmp_path / "out", "images")}
    assert judged == {
        number: f"kafka-io/{number % 3}/{number // 3}"
        for number in range(200)
        if number not in BROKEN
    }
    dead = {row.source: row.code for row in rows(tmp_path / "out", "dead_letters")}
    assert dead == {
        f"kafka-io/{number % 3}/{number // 3}": "message-malformed" for number in BROKEN
    }
