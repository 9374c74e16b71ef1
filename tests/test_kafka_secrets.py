import pickle

import pytest

from beam_moderation import errors
from beam_moderation.kafka_secrets import KafkaSecrets, is_secret, variable


def test_environment_variables_are_settings(monkeypatch):
    monkeypatch.setenv("BEAM_MODERATION_KAFKA_SASL_PASSWORD", "testsecret")
    assert KafkaSecrets()() == {"sasl.password": "testsecret"}


def test_file_has_the_last_word(monkeypatch, tmp_path):
    monkeypatch.setenv("BEAM_MODERATION_KAFKA_SASL_PASSWORD", "testsecret")
    monkeypatch.setenv("BEAM_MODERATION_KAFKA_SASL_USERNAME", "testid")
    file = tmp_path / "kafka.yaml"
    file.write_text("sasl.password: other\nsocket.keepalive.enable: true\nretries: 3\n")
    assert KafkaSecrets(str(file))() == {
        "sasl.username": "testid",
        "sasl.password": "other",
        "socket.keepalive.enable": "true",
        "retries": "3",
    }


@pytest.mark.parametrize("text", ["[1]", "a: [b]", "a: {b: c}", "{"])
def test_broken_file_is_a_mistake(tmp_path, text):
    file = tmp_path / "kafka.yaml"
    file.write_text(text)
    with pytest.raises(errors.ConfigurationError, match=r"kafka\.yaml"):
        KafkaSecrets(str(file))()


def test_what_is_pickled_holds_no_secret(monkeypatch):
    monkeypatch.setenv("BEAM_MODERATION_KAFKA_SASL_PASSWORD", "testsecret")
    secrets = KafkaSecrets()
    assert secrets()
    assert b"testsecret" not in pickle.dumps(secrets)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("sasl.password", True),
        ("ssl.key.password", True),
        ("ssl.keystore.password", True),
        ("ssl.key.pem", True),
        ("sasl.oauthbearer.client.secret", True),
        ("sasl.oauthbearer.config", True),
        ("sasl.oauthbearer.assertion.private.key.passphrase", True),
        ("security.protocol", False),
        ("sasl.username", False),
        ("ssl.ca.location", False),
    ],
)
def test_settings_that_hold_secrets_are_known(name, secret):
    assert is_secret(name) is secret


def test_a_settings_variable_is_read_back(monkeypatch):
    monkeypatch.setenv(variable("ssl.key.password"), "testsecret")
    assert KafkaSecrets()() == {"ssl.key.password": "testsecret"}
