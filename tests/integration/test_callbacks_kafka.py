"""Deliveries that a broker keeps, and decisions that come from one."""

import importlib
import json
import pathlib

import pytest
from confluent_kafka import Consumer, Producer
from deliveries import SEED, UID, form, post, result, serving
from test_feedback import rows

from beam_moderation import callbacks
from beam_moderation.callbacks import service

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(900)]

PIPELINES = pathlib.Path(__file__).parent.parent.parent / "pipelines"


def messages(kafka, topic, count):
    """The first messages of a topic by their keys."""
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "log_level": 0}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found = []
    while len(found) < count:
        found += consumer.consume(count - len(found), 30)
    consumer.close()
    return [(message.key().decode(), message.value()) for message in found]


def test_a_delivery_is_taken_once_the_broker_has_it(kafka):
    kafka.create_topic("results", 2)
    store = callbacks.open_store(f"kafka://{kafka.bootstrap}/results")
    with serving(service.app(callbacks.Checksum(UID, SEED), store)) as url:
        names = [f"img{n}$1" for n in range(5)]
        assert {post(url + "/", form(result(name))) for name in [*names, *names]} == {200}
        assert post(url + "/", form(result("forged"), seed="x")) == 403
    found = dict(messages(kafka, "results", 5))
    assert found == {name: result(name).encode() for name in names}


def test_nothing_is_taken_that_no_broker_has():
    store = callbacks.Topic("127.0.0.1:9", "results", {"delivery.timeout.ms": 500, "log_level": 0})
    with serving(service.app(callbacks.Checksum(UID, SEED), store)) as url:
        assert post(url + "/", form(result())) == 503
    assert not store.has("img$1@2")


def test_the_pipeline_tells_the_decisions_of_a_topic(kafka, emulate, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PIPELINES))
    pipeline = importlib.import_module("feedback")
    kafka.create_topic("decisions", 2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for value in [*map(json.dumps, rows(20)), "no JSON"]:
        producer.produce("decisions", value)
    assert producer.flush(60) == 0
    running = emulate("alibaba")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "testid")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "testsecret")
    asked = [f"--brokers={kafka.bootstrap}", "--topic=decisions", f"--markers={tmp_path}"]
    asked += ["--vendor=alibaba", f"--vendor_option=endpoint={running.url}"]
    for _ in range(2):
        assert pipeline.run(asked) == {"taken": 20, "invalid": 1}
    assert running.stats()["calls"] == {"feedback": 20}
