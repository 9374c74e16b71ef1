"""The command `stream` as far as it gets without a broker; tests/integration has the rest."""

import sys

import pytest
from schema_registry import SchemaRegistry

import beam_moderation as bm
from beam_moderation import cli, errors, kafka_partitions, messages
from beam_moderation.cli import options, runners, stream

NOWHERE = "http://127.0.0.1:1"
FLINK = ["--runner", "PortableRunner", "--job_endpoint", "127.0.0.1:1"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(kafka_partitions, "_START_TIMEOUT_S", 0.5)


def run(monkeypatch, tmp_path, *more):
    """Runs the command in this process; returns its exit code."""
    command = ["stream", "--brokers", "127.0.0.1:1", "--topic", "refs", "--scanner", "qrcode"]
    command += ["--out", str(tmp_path / "out"), *more]
    monkeypatch.setattr(sys, "argv", ["beam-moderation", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def only_line(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    return printed.err


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ([*FLINK], "Kafka at 127.0.0.1:1: "),
        (["--until-latest"], "Kafka at 127.0.0.1:1: "),
        ([], "FnApiRunner does not stream"),
        (["--runner", "DirectRunner"], "DirectRunner does not stream"),
        (["--runner", "NoSuchRunner"], "Unexpected pipeline runner: NoSuchRunner"),
        (["--runner", "no.such.Runner"], "No module named 'no'"),
        ([*FLINK, "--window", "soon"], "60s, 5m or 1h, not 'soon'"),
        ([*FLINK, "--window", "0s"], "60s, 5m or 1h, not '0s'"),
        ([*FLINK, "--window", "60"], "60s, 5m or 1h, not '60'"),
        (["--until-latest", "--window", "60s"], "--window is for streams"),
        ([*FLINK, "--shards", "0"], "greater than or equal to 1"),
        ([*FLINK, "--start", "yesterday"], "yesterday"),
        ([*FLINK, "--start", "committed"], "needs a group"),
        ([*FLINK, "--kafka-option", "acks"], "name=value, not 'acks'"),
        ([*FLINK, "--kafka-option", "no.such=1"], 'No such configuration property: "no.such"'),
        ([*FLINK, "--kafka-config", "none.yaml"], "cannot read none.yaml"),
        ([*FLINK, "--scaner", "qrcode"], "no such option: --scaner; did you mean --scanner?"),
        ([*FLINK, "--flink_mastr=h:8081"], "no such option: --flink_mastr=h:8081"),
        ([*FLINK, "--avro-registry"], "requires an argument"),
        ([*FLINK, "--avro-registry", "registry"], "http or https URL"),
        ([*FLINK, "--avro-registry", NOWHERE], f"{NOWHERE}: the schema registry does not answer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_and_2(monkeypatch, capsys, tmp_path, wrong, reason):
    assert run(monkeypatch, tmp_path, *wrong) == 2
    assert reason in only_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_secret_is_refused_on_the_command_line_and_not_shown(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, tmp_path, *FLINK, "--kafka-option", "sasl.password=testsecret") == 2
    line = only_line(capsys)
    assert "BEAM_MODERATION_KAFKA_SASL_PASSWORD" in line
    assert "testsecret" not in line


def test_a_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    kafka_partitions.client.cache_clear()
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    assert run(monkeypatch, tmp_path, *FLINK) == 2
    assert "pip install 'beam-moderation[kafka]'" in only_line(capsys)


def test_messages_are_json_unless_a_registry_is_named():
    assert stream.Format().decoder() is messages.decode_json
    with SchemaRegistry() as registry:
        decoder = stream.Format(avro_registry=registry.url).decoder()
        assert decoder == bm.AvroDecoder(registry.url)


def test_a_server_that_is_no_registry_is_a_mistake():
    with SchemaRegistry() as registry:
        form = stream.Format(avro_registry=f"{registry.url}/elsewhere")
        with pytest.raises(errors.ConfigurationError, match="no schema registry"):
            form.decoder()


def test_the_extra_for_avro_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(errors.ConfigurationError, match=r"beam-moderation\[avro\]"):
        stream.Format(avro_registry=NOWHERE).decoder()


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("5m", 300), ("1h", 3600), ("0.5s", 0.5)]
)
def test_durations_are_seconds_minutes_or_hours(text, seconds):
    assert options.parse_duration(text) == seconds


def chosen(*arguments, streams=True):
    return options.make_beam_options(arguments, [], streams=streams).get_all_options(
        retain_unknown_options=True
    )


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner", "flinkrunner", "flink"])
def test_flink_is_told_what_a_stream_needs(runner):
    told = chosen(f"--runner={runner}")
    assert told["streaming"]
    assert told["checkpointing_interval"] == "10000"
    assert told["checkpoint_timeout_millis"] == "1800000"
    assert told["max_bundle_time_mills"] == "500"
    assert told["finish_bundle_before_checkpointing"]


def test_what_the_user_tells_flink_stays():
    told = chosen(
        "--runner=FlinkRunner", "--checkpointing_interval=2000", "--max_bundle_time_mills", "9"
    )
    assert (told["checkpointing_interval"], told["max_bundle_time_mills"]) == ("2000", "9")


def test_a_bounded_job_is_told_nothing():
    told = chosen("--runner=FlinkRunner", streams=False)
    assert not told["streaming"]
    assert "checkpointing_interval" not in told


def test_prism_is_told_to_stream_and_nothing_of_flinks():
    told = chosen("--runner=PrismRunner")
    assert told["streaming"]
    assert "checkpointing_interval" not in told


@pytest.mark.parametrize("runner", ["apache_beam.runners.direct.DirectRunner", "FnApiRunner"])
def test_a_runner_that_does_not_stream_is_refused(runner):
    with pytest.raises(errors.ConfigurationError, match="--until-latest"):
        runners.streaming_arguments(runner, [])
