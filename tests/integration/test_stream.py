"""The command `stream` on a real broker and a real cluster."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import time

import duckdb
import pytest
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
    wait_for,
)

from beam_moderation import messages

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(900)]

DAY_MS = 86_400_000
PIPELINE = pathlib.Path(__file__).parents[2] / "pipelines" / "stream.py"


def test_every_reference_has_one_outcome_though_a_partition_is_idle(
    kafka, topics, pictures, flink, on_flink, tmp_path
):
    refs, verdicts = topics
    more = ["--window", "5s", "--shards", "2", "--to-topic", verdicts]
    command = on_flink(*asked(kafka, refs, pictures), *more)
    for first in range(0, 2000, 100):
        produce(kafka, refs, references(pictures, first, first + 100), partitions=3)
    wait_for(command, tmp_path / "out", 2000)
    found = outcomes(tmp_path / "out")
    assert found == expected(0, 2000)
    told = messages_of(kafka, verdicts, 2000)
    assert {key for key, _, _ in told} == found.keys()
    assert {table for key, table, _ in told if found[key] == "pass"} == {"images"}
    batches = len(list((tmp_path / "out" / "_batches").iterdir()))
    assert batches < 200, "the batches of a window share files"

    flink.stop_with_savepoint(flink.jobs()[0])
    code, _, err = command.end(60)
    assert code == 0, err
    assert "the stream has ended: DONE" in err
    assert not list((tmp_path / "out").glob("_staging/*"))
    assert not list((tmp_path / "out").rglob("*.part"))


BAD = {
    "message-tombstone": None,
    "message-empty": b"",
    "message-malformed": b"{",
    "message-not-utf-8": b"\xff\xfe",
    "message-schema-unknown": b"[1]",
    "uri-missing": b"{}",
    "type-wrong": b'{"uri": 1}',
    "content-not-base64": b'{"content": "%"}',
    "time-malformed": b'{"uri": "https://x.test/1.jpg", "time": "noon"}',
    "message-too-large": b" " * (messages.MAX_MESSAGE_BYTES + 1),
}
"""Values by the codes of their dead letters."""


def test_a_bad_message_is_one_dead_letter_with_its_place_and_the_stream_goes_on(
    kafka, topics, pictures, on_flink, tmp_path
):
    refs, _ = topics
    named = ["--id-field", "@key", "--group", refs, "--window", "2s"]
    command = on_flink(*asked(kafka, refs, pictures), *named)
    (good,) = references(pictures, 1, 2)
    for number, value in enumerate(BAD.values()):
        produce(kafka, refs, [value], key=b"bad")
        produce(kafka, refs, [good], key=f"good-{number}".encode())
    produce(kafka, refs, [good])
    produce(kafka, refs, [good], key=b"\xff")
    wait_for(command, tmp_path / "out", 2 * len(BAD) + 2)
    codes = {2 * number: code for number, code in enumerate(BAD)}
    codes |= {2 * len(BAD): "id-missing", 2 * len(BAD) + 1: "text-not-utf-8"}
    dead = {f"{refs}/0/{offset}": code for offset, code in codes.items()}
    judged = {f"good-{number}": "pass" for number in range(len(BAD))}
    assert outcomes(tmp_path / "out") == dead | judged
    files = f"{tmp_path}/out/dead_letters/**/*.parquet"
    written = duckdb.sql(f"SELECT data_id, source FROM '{files}'").fetchall()
    assert sorted(written) == sorted((place, place) for place in dead)
    offset = 2 * len(BAD) + 2
    processes.wait_until(lambda: committed(kafka, refs, refs)[0] == offset, "the commit")


def test_what_is_read_again_is_seen_once(kafka, topics, pictures, flink, on_flink, tmp_path):
    refs, verdicts = topics
    words = [*asked(kafka, refs, pictures), "--window", "2s", "--to-topic", verdicts]
    produce(kafka, refs, references(pictures, 0, 200))
    wait_for(on_flink(*words), tmp_path / "out", 200)
    (job,) = flink.jobs()
    flink.cancel(job)
    command = on_flink(*words)
    assert len(messages_of(kafka, verdicts, 400)) >= 400
    produce(kafka, refs, references(pictures, 200, 210))
    wait_for(command, tmp_path / "out", 210)
    assert outcomes(tmp_path / "out") == expected(0, 210)


def test_a_savepoint_goes_on_with_another_policy_and_parallelism(
    kafka, topics, pictures, flink, on_flink, tmp_path
):
    refs, _ = topics
    words = [*asked(kafka, refs, pictures), "--window", "2s"]
    command = on_flink(*words)
    produce(kafka, refs, references(pictures, 0, 100))
    wait_for(command, tmp_path / "out", 100)
    savepoint = flink.stop_with_savepoint(flink.jobs()[0])
    assert command.end(60)[0] == 0
    produce(kafka, refs, references(pictures, 100, 200))
    policy = tmp_path / "policy.yaml"
    policy.write_text("scenes: {qrcode: {normal: {review: 0.0}}}")
    more = ["--policy", policy, f"--savepoint_path={savepoint}", "--parallelism=4"]
    wait_for(on_flink(*words, *more), tmp_path / "out", 200)
    review = {key: told.replace("pass", "review") for key, told in expected(100, 200).items()}
    assert outcomes(tmp_path / "out") == expected(0, 100) | review


def test_what_is_late_lands_once_and_on_its_own_day(kafka, topics, pictures, on_flink, tmp_path):
    refs, _ = topics
    command = on_flink(*asked(kafka, refs, pictures), "--window", "2s")
    produce(kafka, refs, references(pictures, 1, 9))
    wait_for(command, tmp_path / "out", 8)
    now_ms = int(time.time() * 1000)
    days = {"11": now_ms - 3 * DAY_MS, "12": now_ms + 3 * DAY_MS}
    for data_id, time_ms in days.items():
        number = int(data_id)
        produce(kafka, refs, references(pictures, number, number + 1), 1, timestamp=time_ms)
    wait_for(command, tmp_path / "out", 10)
    files = f"{tmp_path}/out/images/**/*.parquet"
    for data_id, time_ms in days.items():
        found = duckdb.sql(f"SELECT dt::text FROM '{files}' WHERE data_id = '{data_id}'").fetchall()
        assert found == [(time.strftime("%Y-%m-%d", time.gmtime(time_ms / 1000)),)]


def test_leaving_the_command_leaves_the_job(kafka, topics, pictures, on_flink, tmp_path):
    command = on_flink(*asked(kafka, topics[0], pictures), "--window", "2s")
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.end(60)
    assert code == 130
    assert "--savepoint_path=" in err
    produce(kafka, topics[0], references(pictures, 1, 5))
    processes.wait_until(lambda: len(outcomes(tmp_path / "out")) == 4, "what came afterwards", 120)


def test_prism_streams_and_ctrl_c_says_how_to_lose_nothing(
    kafka, topics, pictures, prism, tmp_path
):
    runner = ["--runner=PrismRunner", f"--prism_location={prism}"]
    command = Command(*asked(kafka, topics[0], pictures), *runner, "--window", "2s")
    with contextlib.ExitStack() as stack:
        stack.callback(command.kill)
        produce(kafka, topics[0], references(pictures, 0, 200))
        wait_for(command, tmp_path / "out", 200)
        assert outcomes(tmp_path / "out") == expected(0, 200)
        command.process.send_signal(signal.SIGINT)
        code, _, err = command.end(60)
    assert code == 130
    assert "--start=earliest" in err


def test_the_stream_to_copy_runs_as_it_stands(kafka, topics, pictures, flink, tmp_path):
    refs, verdicts = topics
    produce(kafka, refs, references(pictures, 0, 100))
    command = [sys.executable, PIPELINE, "--brokers", kafka.bootstrap, "--topic", refs]
    command += ["--to_topic", verdicts, "--out", tmp_path / "out", "--window", "2"]
    command += ["--scanner", "qrcode", "--local_root", pictures, *flink.options()]
    command += ["--checkpointing_interval=2000", "--max_bundle_time_mills=500"]
    command += ["--finish_bundle_before_checkpointing"]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL) as process:
        try:
            told = messages_of(kafka, verdicts, 100)
            assert {key for key, _, _ in told} == expected(0, 100).keys()
            processes.wait_until(
                lambda: outcomes(tmp_path / "out") == expected(0, 100), "the tables"
            )
        finally:
            process.kill()
            for job in flink.jobs():
                flink.cancel(job)
