"""Deliveries that a broker keeps, and decisions that come from one."""

import gc
import importlib
import json
import pathlib
import pickle
import threading
import time

import pytest
from confluent_kafka import Consumer, Producer
from deliveries import SEED, UID, form, post, result, serving
from vendor_jobs import (
    by_id,
    decided_rows,
    run,
    suggestions,
    truths,
    vendor_at,
    write_references,
)

from beam_moderation import callbacks, errors
from beam_moderation.callbacks import inboxes, service
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota

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
    for value in [*map(json.dumps, decided_rows(20)), "no JSON"]:
        producer.produce("decisions", value)
    assert producer.flush(60) == 0
    running = emulate("alibaba")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "testid")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "testsecret")
    asked = [f"--brokers={kafka.bootstrap}", "--topic=decisions", f"--markers={tmp_path}"]
    asked += ["--vendor=alibaba", f"--vendor_option=endpoint={running.url}"]
    assert pipeline.run(asked) == {"taken": 20, "invalid": 1}
    assert pipeline.run(asked) == {"taken-earlier": 20, "invalid": 1}
    assert running.stats()["calls"] == {"feedback": 20}


@pytest.mark.parametrize("missing", [(), (2, 5, 9)], ids=["all come", "some are lost"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_pipeline_joins_the_results_of_a_topic_by_their_tasks(
    kafka, emulate, tmp_path, missing, lanes
):
    topic = f"inbox-{lanes}-{len(missing)}"
    kafka.create_topic(topic, 3)
    place = f"kafka://{kafka.bootstrap}/{topic}"
    lost = [Fault(kind="drop", operation="callback", nth=missing)] if missing else []
    settings = {"task_s": 0.3, "uid": UID, "faults": FaultSpec(faults=lost)}
    urls = by_id([f"https://img.example.com/{n}.jpg" for n in range(20)])
    references = write_references(tmp_path / "r.parquet", urls)
    running = emulate("alibaba", **settings)
    store = callbacks.open_store(place)
    with serving(service.app(callbacks.Checksum(UID, SEED), store)) as url:
        told = {"asynchronous": True, "callback": url + "/", "seed": SEED}
        run(
            references,
            tmp_path / "out",
            vendor_at("alibaba", running.url, **told),
            inbox=callbacks.open_inbox(place),
            deadline_s=10.0 if missing else 120.0,
            quota=Quota(1000, None, 20, lanes=lanes),
            batch_size=7,
        )
    assert suggestions(tmp_path / "out") == truths("alibaba", urls)
    stats = running.stats()
    assert set(stats["tasks_per_data_id"].values()) == {1}
    assert stats["callbacks"].get("dropped", 0) == len(missing)
    assert ("results" in stats["calls"]) == bool(missing)
    assert len(messages(kafka, topic, 20 - len(missing))) == 20 - len(missing)


def test_an_inbox_reads_from_as_long_ago_as_a_task_may_wait(kafka):
    kafka.create_topic("ages", 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for name, age_s in {"old": 7200, "new": 300}.items():
        moment_ms = int((time.time() - age_s) * 1000)
        producer.produce("ages", b"result", name, timestamp=moment_ms)
    assert producer.flush(60) == 0
    inbox = callbacks.open_inbox(f"kafka://{kafka.bootstrap}/ages", lookback_s=600)
    while inbox("new") is None:
        time.sleep(0.01)
    assert inbox("old") is None


def test_an_inbox_without_its_topic_is_a_mistake_of_the_operator(kafka):
    with pytest.raises(errors.ConfigurationError, match="topic nosuch"):
        callbacks.open_inbox(f"kafka://{kafka.bootstrap}/nosuch")


def test_an_inbox_is_read_by_one_consumer_a_process_and_by_none_in_the_end(kafka):
    kafka.create_topic("shared", 2)
    before = len(readers())
    inbox = callbacks.open_inbox(f"kafka://{kafka.bootstrap}/shared")
    copies = [pickle.loads(pickle.dumps(inbox)) for _ in range(3)]
    assert [copy("a") for copy in copies] == [None] * 3
    assert len(readers()) == before + 1
    callbacks.open_store(f"kafka://{kafka.bootstrap}/shared").keep("a", b"result")
    while copies[0]("a") is None:
        time.sleep(0.01)
    assert [copy("a") for copy in copies] == [b"result"] * 3
    del copies
    gc.collect()
    assert len(readers()) == before


def test_an_inbox_that_nobody_asks_is_read_no_more_and_again_when_asked(kafka, monkeypatch):
    kafka.create_topic("idle", 1)
    callbacks.open_store(f"kafka://{kafka.bootstrap}/idle").keep("a", b"result")
    inbox = callbacks.open_inbox(f"kafka://{kafka.bootstrap}/idle")
    while inbox("a") is None:
        time.sleep(0.01)
    monkeypatch.setattr(inboxes, "_IDLE_S", 0.0)
    while inbox._reading.goes_on:
        time.sleep(0.01)
    monkeypatch.undo()
    while inbox("a") is None:
        time.sleep(0.01)


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "callbacks-inbox"]
