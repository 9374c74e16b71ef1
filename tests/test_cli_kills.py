"""A backfill that is killed, whenever, and started again is whole, and nothing doubles."""

import os
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brightness import picture
from commands import committed, start
from PIL import Image

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
