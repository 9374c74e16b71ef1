import pickle
import sys

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.utils.timestamp import Timestamp
from outcomes import image

from beam_moderation import errors, kafka, kafka_partitions, messages, sinks
from beam_moderation.kafka_partitions import Partition, Subscription
from beam_moderation.kafka_secrets import KafkaSecrets

CONFIG = {"bootstrap.servers": "127.0.0.1:1", "sasl.password": "testsecret"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"start": "yesterday"}, id="unknown start"),
        pytest.param({"start": "committed"}, id="committed to no group"),
        pytest.param({"max_messages": 0}, id="empty batches"),
    ],
)
def test_senseless_subscription_is_refused(options):
    with pytest.raises(errors.ConfigurationError):
        Subscription("refs", CONFIG, **options)


def test_subscription_does_not_show_its_secrets():
    assert "testsecret" not in repr(Subscription("refs", CONFIG))


def test_transforms_can_be_pickled():
    read = kafka.ReadReferencesFromKafka(Subscription("refs", CONFIG))
    pickle.dumps([read, kafka.WriteKafka("verdicts", CONFIG)])


@pytest.mark.parametrize(("until_latest", "bounded"), [(True, True), (False, False)])
def test_source_is_bounded_where_it_ends(until_latest, bounded):
    pipeline = beam.Pipeline()
    subscription = Subscription("refs", CONFIG, until_latest=until_latest)
    read = pipeline | kafka.ReadReferencesFromKafka(subscription)
    assert read.is_bounded is bounded


def test_missing_extra_is_named(monkeypatch):
    kafka_partitions.client.cache_clear()
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(errors.ConfigurationError, match=r"beam-moderation\[kafka\]"):
        Subscription("refs", CONFIG).consumer()


def batch(*seconds):
    sent = [
        messages.Message(number, int(second * 1000), None, b"{}")
        for number, second in enumerate(seconds)
    ]
    return messages.MessageBatch("refs", 0, sent)


@pytest.mark.parametrize(
    ("seconds", "reached", "expected"),
    [
        pytest.param((30, 20, 40), None, 20, id="the earliest"),
        pytest.param((30, 20, 40), 10, 20, id="the earliest, behind the watermark"),
        pytest.param((30, 20, 40), 25, 25, id="the watermark, where one is late"),
        pytest.param((-1,), None, 0, id="not before 1970"),
    ],
)
def test_a_batch_has_a_time_at_which_nothing_is_late(seconds, reached, expected):
    stamped = kafka._timestamped(batch(*seconds), None if reached is None else Timestamp(reached))
    assert stamped.timestamp == expected


def test_a_batch_from_the_future_is_of_now():
    before = Timestamp.now()
    stamped = kafka._timestamped(batch(2**40, 2**41), None)
    assert before <= stamped.timestamp <= Timestamp.now()


def test_secrets_do_not_travel(monkeypatch):
    monkeypatch.setenv("BEAM_MODERATION_KAFKA_SASL_PASSWORD", "testsecret")
    secrets, config = KafkaSecrets(), {"bootstrap.servers": "127.0.0.1:1"}
    subscription = Subscription("refs", config, secrets=secrets)
    assert kafka_partitions.settings(config, secrets)["sasl.password"] == "testsecret"
    transforms = [
        kafka.ReadReferencesFromKafka(subscription),
        kafka.WriteKafka("verdicts", config, secrets=secrets),
        sinks.WriteOutcomesToKafka("verdicts", config, secrets=secrets),
    ]
    assert b"testsecret" not in pickle.dumps(transforms)


def test_partitions_that_are_given_are_not_listed():
    partitions = [Partition("refs", 0, 3, 9)]
    read = kafka.ReadMessagesFromKafka(Subscription("refs", CONFIG), partitions)
    assert read._list(b"") == partitions


def test_nobody_answering_is_the_operators_mistake(monkeypatch):
    monkeypatch.setattr(kafka_partitions, "_START_TIMEOUT_S", 0.5)
    with pytest.raises(errors.ConfigurationError, match="Kafka at 127"):
        kafka_partitions.list_partitions(Subscription("refs", {"bootstrap.servers": "127.0.0.1:1"}))


@pytest.mark.parametrize("name", ["no.such.setting", "socket.timeout.ms"])
def test_a_setting_that_the_client_refuses_is_the_operators_mistake(name):
    with pytest.raises(errors.ConfigurationError, match=name):
        kafka_partitions.list_partitions(Subscription("refs", {name: "many"}))


def test_a_bounded_read_does_not_wait_for_a_broker_that_is_gone(monkeypatch):
    monkeypatch.setattr(kafka_partitions, "_MAX_SILENCE_S", 0.2)
    monkeypatch.setattr(kafka_partitions, "_CALL_TIMEOUT_S", 0.2)
    config = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    subscription = Subscription("refs", config, until_latest=True)
    reader = kafka_partitions.Reader(subscription, Partition("refs", 0, 0, 9), 0)
    with pytest.raises(kafka_partitions.client().KafkaException):
        reader.read()
    reader.close()


def test_a_row_that_is_too_large_for_the_client_is_left_out_and_counted(caplog):
    config = {"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": 1000}
    with beam.Pipeline("FnApiRunner") as pipeline:
        rows = [image(carried="secret" * 200), image(carried="secret" * 300)]
        _ = pipeline | beam.Create(rows) | kafka.WriteKafka("verdicts", config)
    query = MetricsFilter().with_name("kafka_rows_too_large")
    (counter,) = pipeline.result.metrics().query(query)["counters"]
    assert counter.committed == 2
    told = [record.message for record in caplog.records if "too large" in record.message]
    assert len(told) == 2
    assert "secret" not in str(told)
