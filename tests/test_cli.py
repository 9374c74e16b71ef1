import json
import os
import re
import signal
import subprocess
import sys
import time

import duckdb
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import (
    PROGRAM,
    backfill,
    committed,
    run,
    start,
    wait_for_batches,
    write_many,
    write_sample,
)

import beam_moderation as bm


@pytest.fixture
def sample(tmp_path):
    return write_sample(tmp_path)


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


def counted(folder, table):
    """Rows of a table by id, as readers see them."""
    database = duckdb.connect()
    database.execute(bm.views(str(folder / "out")))
    return dict(database.sql(f"SELECT data_id, count(*) FROM {table} GROUP BY 1").fetchall())


@pytest.mark.parametrize("word", ["format-unsupported", "fetch-not-found"])
def test_dead_letters_of_a_code_are_done_again(monkeypatch, capsys, sample, word):
    run(monkeypatch, *backfill(sample))
    for name in ("page.png", "gone.png"):
        (sample / name).write_bytes((sample / "a.png").read_bytes())
    again = {"format-unsupported": "page.png", "fetch-not-found": "gone.png"}
    capsys.readouterr()
    assert run(monkeypatch, *backfill(sample, "--retry-dead-letters", word)) == 0
    printed = capsys.readouterr().out
    assert "5 references: 4 images judged, 1 dead letters · 4 were there already" in printed
    assert counted(sample, "images") == dict.fromkeys(["a.png", "b.png", "c.png", again[word]], 1)
    assert counted(sample, "dead_letters") == {({*again.values()} - {again[word]}).pop(): 1}


def test_a_folder_that_was_wrong_can_be_named_rightly_later(monkeypatch, capsys, sample):
    (sample / "elsewhere").mkdir()
    assert run(monkeypatch, *backfill(sample, root=sample / "elsewhere")) == 0
    assert counted(sample, "dead_letters").keys() == {
        *("a.png", "b.png", "c.png", "page.png", "gone.png")
    }
    code = "--retry-dead-letters", "fetch-not-found"
    assert run(monkeypatch, *backfill(sample, *code)) == 0
    assert counted(sample, "images") == dict.fromkeys(["a.png", "b.png", "c.png"], 1)
    capsys.readouterr()
    assert run(monkeypatch, *backfill(sample)) == 0
    printed = capsys.readouterr().out
    assert "5 references: 3 images judged, 2 dead letters · 5 were there already" in printed


def test_images_that_come_inline_need_no_column_of_uris(monkeypatch, sample):
    content = [(sample / f"{name}.png").read_bytes() for name in "abc"]
    rows = pa.table({"data_id": ["a", "b", "c"], "content": content})
    pq.write_table(rows, sample / "references.parquet")
    assert run(monkeypatch, *backfill(sample, "--content-column", "content")) == 0
    assert counted(sample, "images") == {"a": 1, "b": 1, "c": 1}


def test_a_column_uri_beside_the_content_is_used_where_there_is_one(monkeypatch, sample):
    rows = {"data_id": ["a", "b"], "uri": ["a.png", "b.png"]}
    content = [(sample / "c.png").read_bytes(), None]
    pq.write_table(pa.table({**rows, "content": content}), sample / "references.parquet")
    assert run(monkeypatch, *backfill(sample, "--content-column", "content")) == 0
    found = duckdb.sql(f"SELECT data_id, uri FROM '{sample}/out/images/**/*.parquet'").fetchall()
    assert sorted(found) == [("a", "a.png"), ("b", "b.png")]


@pytest.mark.parametrize(("trusted", "images"), [(False, {"a.png": 1}), (True, {"a.png": 2})])
def test_ids_are_looked_through_unless_they_are_said_to_be_unique(
    monkeypatch, sample, trusted, images
):
    rows = pa.table({"data_id": ["a.png", "a.png"], "uri": ["a.png", "b.png"]})
    pq.write_table(rows, sample / "references.parquet")
    assert run(monkeypatch, *backfill(sample, *(["--unique-ids"] if trusted else []))) == 0
    files = f"{sample}/out/images/**/*.parquet"
    found = duckdb.sql(f"SELECT data_id, count(*) FROM '{files}' GROUP BY 1").fetchall()
    assert dict(found) == images


def test_what_pillow_thinks_of_odd_files_is_not_printed(sample):
    data = pictures.encoded(pictures.noise(64, 48), "TIFF", compression="tiff_lzw")
    for name, place in {"a.png": -136, "b.png": -52}.items():  # in the directory at the end
        (sample / name).write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
    command = [*PROGRAM, *map(str, backfill(sample))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "image-broken" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.8])
def test_an_early_ctrl_c_is_one_line_and_130(tmp_path, after_s):
    write_many(tmp_path, 4000)
    begun = "from beam_moderation import cli; print('begun', flush=True); cli.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", begun, *map(str, backfill(tmp_path))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_ctrl_c_leaves_finished_batches_and_says_how_to_go_on(tmp_path):
    write_many(tmp_path, 4000)
    process = start(tmp_path)
    wait_for_batches(tmp_path, process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on, run it again" in err
    assert "--batch-size 8" in err
    assert "Traceback" not in err
    assert 3 <= committed(tmp_path) < 500


def test_ctrl_c_on_a_terminal_leaves_a_line_of_its_own_and_a_cursor(tmp_path):
    write_many(tmp_path, 4000)
    ours, theirs = os.openpty()
    process = start(tmp_path, stderr=theirs)
    wait_for_batches(tmp_path, process, 1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    shown = os.read(ours, 2**16).decode()
    assert re.search(r"\n(\x1b\[\?25h)?stopped; finished batches are in", shown)
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")
