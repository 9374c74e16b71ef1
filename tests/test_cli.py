import json
import os
import signal
import subprocess
import sys
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brightness import picture
from PIL import Image

from beam_moderation import cli, tables

PROGRAM = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]


@pytest.fixture
def sample(tmp_path):
    """A folder with three QR-less pictures, a text, and their references."""
    for name, grey in {"a": 0, "b": 100, "c": 250}.items():
        (tmp_path / f"{name}.png").write_bytes(picture(grey))
    (tmp_path / "page.png").write_text("<html>")
    names = ["a.png", "b.png", "c.png", "page.png", "gone.png"]
    pq.write_table(
        pa.table({"data_id": names, "uri": names, "n": range(5)}), tmp_path / "references.parquet"
    )
    return tmp_path


def run(monkeypatch, *arguments):
    """Runs the command in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["beam-moderation", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def backfill(sample, *more):
    return [
        "backfill",
        sample / "references.parquet",
        *("--out", sample / "out", "--local-root", sample, "--scanner", "qrcode"),
        *more,
    ]


def test_a_backfill_ends_with_tables_and_a_summary(monkeypatch, capsys, sample):
    assert run(monkeypatch, *backfill(sample, "--carry-column", "n")) == 0
    printed = capsys.readouterr()
    assert "5 references: 3 images judged, 2 dead letters" in printed.out
    assert "fetch-not-found" in printed.out
    carried = duckdb.sql(
        f"select data_id, carried from '{sample}/out/images/**/*.parquet'"
    ).fetchall()
    assert {key: json.loads(cell)["n"] for key, cell in carried} == {
        "a.png": 0,
        "b.png": 1,
        "c.png": 2,
    }


def test_a_second_backfill_says_that_all_was_there(monkeypatch, capsys, sample):
    run(monkeypatch, *backfill(sample))
    assert run(monkeypatch, *backfill(sample)) == 0
    assert "5 were there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--uri-column", "url"], "has no column 'url'; it has data_id, uri, n"),
        (["--scanner", "faces"], "no scanner 'faces'"),
        (["--model", "none.yaml"], "none.yaml"),
        (["--policy", "none.yaml"], "cannot read none.yaml"),
        (["--model", "none.yaml", "--gpu"], "none.yaml"),
        (["--vendor", "acme"], "no vendor 'acme'; there are alibaba, tencent, huawei"),
        (["--vendor", "tencent"], "tencent needs bucket and region"),
        (["--vendor", "alibaba", "--vendor-option", "colour=red"], "no option 'colour'"),
        (["--vendor", "alibaba"], "no credentials of alibaba: set ALIBABA_CLOUD_ACCESS_KEY_ID"),
        (["--vendor", "alibaba", "--scene", "cats"], "the scenes are porn"),
        (["--polcy", "p.yaml"], "no such option: --polcy; did you mean --policy?"),
        (["--out", "nosuch://x"], "cannot write to nosuch://x"),
        (["--bucket", "photos"], "a bucket is given as s3://name"),
        (["--timeout", "-1"], "deadline_s"),
        (["--direct_num_workers", "many"], "direct_num_workers"),
        (["--runner", "NoSuchRunner"], "NoSuchRunner"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_and_2(monkeypatch, capsys, sample, change, reason):
    assert run(monkeypatch, *backfill(sample, *change)) == 2
    printed = capsys.readouterr()
    assert reason in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    "policy",
    [
        "scenes: {pron: {normal: pass}}",
        "scenes: {qrcode: {qrcode: {review: 7}}}",
        "scenes: [",
        "\nscenes: {qrcode: {normal: 2026-99-99}}",
    ],
    ids=["unknown scene", "threshold", "syntax", "no date"],
)
def test_a_broken_policy_is_one_line_and_2(monkeypatch, capsys, sample, policy):
    (sample / "p.yaml").write_text(policy)
    assert run(monkeypatch, *backfill(sample, "--policy", sample / "p.yaml")) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("references", ["none.parquet", "page.png"])
def test_references_that_cannot_be_read_are_one_line_and_2(monkeypatch, capsys, sample, references):
    arguments = backfill(sample)
    arguments[1] = sample / references
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_judge_is_a_mistake(monkeypatch, capsys, sample):
    assert run(monkeypatch, *backfill(sample)[:-2]) == 2
    assert "name at least one --scanner or --model" in capsys.readouterr().err


def test_a_job_that_fails_is_one_line_and_2(sample):
    path = sample / "references.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[30:200] = bytes(170)
    path.write_bytes(damaged)
    ended = subprocess.run(
        [*PROGRAM, *map(str, backfill(sample))], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "references.parquet" in ended.stderr


@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.2])
def test_an_early_ctrl_c_is_one_line_and_130(sample, after_s):
    process = subprocess.Popen(
        [*PROGRAM, *map(str, backfill(sample))], stderr=subprocess.PIPE, text=True
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if after_s > 0.2:  # before that Python itself is starting
        assert process.returncode == 130
        assert "Traceback" not in err


class NoCredentialsError(Exception):
    """As a cloud's library has it: no error of the system."""


@pytest.mark.parametrize("level", ["CRITICAL", "DEBUG"])
def test_an_error_that_nobody_expected_is_one_line_and_2(monkeypatch, capfd, sample, level):
    def fail(*_, **__):
        raise NoCredentialsError("Unable to locate\ncredentials of 'http://h/r?sig=testsecret'")

    monkeypatch.setenv("LOG_LEVEL", level)
    monkeypatch.setattr(tables.Tables, "create", fail)
    assert run(monkeypatch, *backfill(sample)) == 2
    printed = capfd.readouterr().err
    line = "error: NoCredentialsError: Unable to locate credentials of 'http://h/r'"
    assert line in printed.splitlines()
    assert ("Traceback" in printed) == (level == "DEBUG")


def test_a_level_of_logs_that_there_is_not_is_one_line_and_2(monkeypatch, capsys, sample):
    monkeypatch.setenv("LOG_LEVEL", "x")
    assert run(monkeypatch, *backfill(sample)) == 2
    assert capsys.readouterr().err.startswith("error: LOG_LEVEL is DEBUG, INFO,")


@pytest.mark.parametrize("wrong", [["--interval", "0"], ["--local-root", "nosuch"]])
def test_a_wrong_value_is_one_line_and_2(monkeypatch, capsys, sample, wrong):
    assert run(monkeypatch, *backfill(sample, *wrong)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_written_to_is_known_before_the_work(monkeypatch, capsys, sample):
    (sample / "taken").write_text("")
    assert run(monkeypatch, *backfill(sample, "--out", sample / "taken")) == 2
    assert "cannot write to" in capsys.readouterr().err


def many(folder, count):
    """References to one picture under many ids."""
    (folder / "a.png").write_bytes(picture(40, (600, 600)))
    ids = [f"{n}" for n in range(count)]
    pq.write_table(
        pa.table({"data_id": ids, "uri": ["a.png"] * count}), folder / "references.parquet"
    )


def committed(folder):
    return len(list(folder.glob("out/_batches/*.json")))


def start(folder):
    arguments = [str(a) for a in backfill(folder, "--batch-size", "8")]
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_batches(folder, process, count):
    while committed(folder) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_ctrl_c_leaves_finished_batches_and_says_how_to_go_on(tmp_path):
    many(tmp_path, 4000)
    process = start(tmp_path)
    wait_for_batches(tmp_path, process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on, run it again" in err
    assert "--batch-size 8" in err
    assert "Traceback" not in err
    assert 3 <= committed(tmp_path) < 500


ENDS = ["still.png", "frames.webp", "image-broken", "format-unsupported", "fetch-not-found"]
"""What becomes of a reference, by its number: judged under that name, or a dead letter's code."""


def mixed(folder, count):
    """References to pictures, animations, broken and missing images, in turn."""
    frames = [Image.new("RGB", (300, 300), (grey, 0, 0)) for grey in range(0, 240, 40)]
    frames[0].save(folder / "frames.webp", save_all=True, append_images=frames[1:])
    (folder / "still.png").write_bytes(picture(40, (600, 600)))
    (folder / "image-broken").write_bytes(picture(40, (600, 600), "JPEG")[:-300])
    (folder / "format-unsupported").write_text("<html>")
    ids, uris = [f"{n}" for n in range(count)], [ENDS[n % len(ENDS)] for n in range(count)]
    pq.write_table(pa.table({"data_id": ids, "uri": uris}), folder / "references.parquet")


def moments(folder):
    """Before the first batch, while one is staged, and behind a random number of commits."""
    out = folder / "out"
    yield (out / "_batches").exists
    yield lambda: list(out.glob("_staging/*"))
    for _ in range(2):
        wanted = committed(folder) + 1 + os.urandom(1)[0] % 6
        yield lambda wanted=wanted: committed(folder) >= wanted


def kill_at(folder, moment):
    """Kills a backfill a random fraction of a second behind a moment."""
    process = start(folder)
    while not moment():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    time.sleep(os.urandom(1)[0] / 1000)
    process.kill()
    process.communicate()


@pytest.mark.integration
@pytest.mark.parametrize("round_", range(3))
def test_a_backfill_killed_at_random_and_restarted_is_whole_and_nothing_doubles(tmp_path, round_):
    mixed(tmp_path, 240)
    for moment in moments(tmp_path):
        kill_at(tmp_path, moment)
    before = committed(tmp_path)
    process = start(tmp_path)
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    kept = int(printed.split(" were there")[0].rpartition(" · ")[2])
    assert kept == before * 8
    out = tmp_path / "out"
    judged = [n for n in range(240) if "." in ENDS[n % 5]]
    for table in ("images", "scenes"):
        found = duckdb.sql(f"select data_id from '{out}/{table}/**/*.parquet'").fetchall()
        assert sorted(int(key) for (key,) in found) == judged
    dead = duckdb.sql(f"select data_id, code from '{out}/dead_letters/**/*.parquet'").fetchall()
    assert sorted((int(key), code) for key, code in dead) == [
        (n, ENDS[n % 5]) for n in range(240) if n not in judged
    ]
    runs = duckdb.sql(f"select count(distinct run_id) from '{out}/images/**/*.parquet'")
    assert runs.fetchall()[0][0] >= 3
