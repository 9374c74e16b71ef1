import pickle
import sys

import apache_beam as beam
import pytest

from beam_moderation import errors, kafka, kafka_partitions
from beam_moderation.kafka_partitions import Subscription

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
