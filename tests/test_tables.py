import concurrent.futures
import os
import pathlib
import pickle
import signal
import subprocess
import sys

import duckdb
import pyarrow.parquet as pq
import pytest
from outcomes import NEXT_DAY, dead_letter, image, outcome, scene

from beam_moderation import errors, records
from beam_moderation.tables import NULL_PARTITION, Tables, files_of


def files(root):
    return sorted(str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*") if p.is_file())


def rows(url, table):
    return duckdb.sql(f"select * from read_parquet('{url}/{table}/**/*.parquet')").fetchall()


@pytest.fixture(params=["local", "memory"])
def url(request, tmp_path):
    return str(tmp_path / "out") if request.param == "local" else f"memory:/{tmp_path}"


def test_what_was_written_is_read_back(url):
    batch = outcome("b", [scene("a"), scene("c", scene="ad")], [image("a")], [dead_letter("d")])
    read = Tables(url).read(Tables(url).write(batch))
    for table, record in records.TABLES.items():
        expected = list(records.from_arrow(getattr(batch, table), record))
        assert sorted(records.from_arrow(getattr(read, table), record)) == sorted(expected)


def test_files_are_named_by_partition_and_batch(tmp_path):
    batch = outcome(
        "b",
        [scene(scene="porn"), scene(scene="ad"), scene("x", scene="ad", event_time=None)],
        [image(), image("y", event_time=NEXT_DAY)],
    )
    Tables(str(tmp_path)).write(batch)
    assert files(tmp_path) == [
        "_batches/b.json",
        "images/dt=2026-11-20/b.parquet",
        "images/dt=2026-11-21/b.parquet",
        "scenes/dt=2026-11-20/scene=ad/b.parquet",
        "scenes/dt=2026-11-20/scene=porn/b.parquet",
        f"scenes/dt={NULL_PARTITION}/scene=ad/b.parquet",
    ]


def test_a_partition_column_is_in_the_path_alone(tmp_path):
    Tables(str(tmp_path)).write(outcome(scenes=[scene()]))
    (path,) = (tmp_path / "scenes").rglob("*.parquet")
    assert "scene" not in pq.ParquetFile(path).schema_arrow.names
    assert duckdb.sql(f"select scene from '{tmp_path}/scenes/**/*.parquet'").fetchall() == [
        ("porn",)
    ]


def test_writing_a_batch_twice_leaves_the_first(url):
    tables = Tables(url)
    first = tables.write(outcome("b", [scene(label="first")], [image()]))
    second = tables.write(outcome("b", [], [], [dead_letter()]))
    assert first == second
    assert [
        r.label for r in records.from_arrow(tables.read(second).scenes, records.SceneResult)
    ] == ["first"]
    assert tables.read(second).dead_letters.num_rows == 0


def test_commit_counts_references_and_says_where_they_came_from(url):
    commit = Tables(url).write(
        outcome("b", [scene()], [image()], [dead_letter("d1"), dead_letter("d2")])
    )
    assert (commit.references, commit.dead_letters, commit.source, commit.run_id) == (
        3,
        2,
        "f#a",
        "r",
    )
    assert Tables(url).commit("b") == commit
    assert Tables(url).batch_ids() == {"b"}


def test_there_is_no_commit_before_the_batch(url):
    assert Tables(url).commit("b") is None
    assert Tables(url).batch_ids() == set()


def test_an_empty_batch_is_committed_too(url):
    Tables(url).write(outcome("b"))
    assert len(Tables(url).read(Tables(url).commit("b"))) == 0


def test_of_attempts_at_once_one_wins_and_nothing_is_left_over(tmp_path):
    tables = Tables(str(tmp_path))
    attempts = [
        outcome("b", [scene(label=f"{n}", scene=f"s{n}")], [image(run_id=f"{n}")]) for n in range(8)
    ]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(tables.write, attempts))
    assert len({commit.run_id for commit in commits}) == 1
    assert len(rows(tmp_path, "scenes")) == len(rows(tmp_path, "images")) == 1
    assert not list((tmp_path / "_staging").iterdir())


def test_what_is_committed_is_on_the_disk(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    commit = Tables(str(tmp_path)).write(outcome("b", [scene()], [image()]))
    for path in [*commit.files.values(), "_batches/b.json"]:
        place = [n for n, name in enumerate(synced) if name.startswith(f"{tmp_path}/{path}.")]
        folder = str((tmp_path / path).parent)
        assert place, path
        assert folder in synced[place[0] :], path


def test_a_commit_that_was_not_written_whole_is_none_and_is_written_again(url):
    tables = Tables(url)
    tables.write(outcome("a", images=[image()]))
    tables._fs.pipe_file(tables._path("_batches", "b.json"), b"")
    assert tables.commit("b") is None
    commit = tables.write(outcome("b", [scene()], [image()]))
    assert tables.commit("b") == commit
    assert tables.read(commit).images.num_rows == 1


def test_partitions_that_were_deleted_stay_so_and_stop_nothing(url):
    tables = Tables(url)
    commit = tables.write(outcome("b", [scene()], [image(), image("y", event_time=NEXT_DAY)]))
    tables._fs.rm(tables._path("images", "dt=2026-11-20"), recursive=True)
    read = tables.read(commit)
    assert read.images.column("data_id").to_pylist() == ["y"]
    assert read.scenes.num_rows == 1
    assert tables.write(outcome("b", [scene()], [image()])) == commit
    assert not tables._fs.exists(tables._path("images", "dt=2026-11-20"))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from outcomes import image, outcome, scene
from beam_moderation.tables import Tables

left = int(sys.argv[3])

def trace(frame, event, argument):
    global left
    if frame.f_code.co_filename.endswith(("tables.py", "durable_files.py")):
        left -= event == "line"
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

tables = Tables(sys.argv[2])
batch = outcome("b", [scene(), scene("c", scene="ad")], [image(run_id="killed")])
sys.settrace(trace)
tables.write(batch)
"""


@pytest.mark.parametrize("line", [150, 430, 445, 460, 470, 480])
def test_a_batch_killed_anywhere_is_seen_whole_or_not_at_all_and_can_be_written_again(
    tmp_path, line
):
    here = os.path.dirname(__file__)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, here, str(tmp_path), str(line)], check=False, timeout=60
    )
    assert process.returncode in (-signal.SIGKILL, 0)
    tables = Tables(str(tmp_path))
    committed = tables.commit("b")
    if committed is None:
        assert not list(tmp_path.glob("scenes/**/*.parquet"))
    tables.write(outcome("b", [scene(), scene("c", scene="ad")], [image(run_id="again")]))
    assert len(rows(tmp_path, "scenes")) == 2
    expected = "again" if committed is None else "killed"
    assert [row for row in rows(tmp_path, "images") if expected in row]
    assert not [name for name in files(tmp_path) if "_staging" in name]


def test_a_strangers_scene_is_no_path(tmp_path):
    batch = outcome("b", [scene(scene="../../etc"), scene("c", scene="a/b=c")])
    Tables(str(tmp_path / "out")).write(batch)
    assert all(name.startswith("out/") for name in files(tmp_path))
    read = Tables(str(tmp_path / "out")).read(Tables(str(tmp_path / "out")).commit("b"))
    assert sorted(read.scenes.column("scene").to_pylist()) == ["../../etc", "a/b=c"]


def test_every_row_is_in_exactly_one_file():
    batch = outcome(
        "b",
        [
            scene(f"{n}", scene="ad" if n % 3 else "porn", event_time=(None, NEXT_DAY)[n % 2])
            for n in range(20)
        ],
    )
    assert sum(part.num_rows for _, part in files_of(batch)) == 20
    assert len({path for path, _ in files_of(batch)}) == 4


def test_tables_travel_pickled(tmp_path):
    tables = pickle.loads(pickle.dumps(Tables(str(tmp_path))))
    tables.write(outcome(images=[image()]))
    assert len(rows(tmp_path, "images")) == 1


def test_a_url_without_a_filesystem_is_a_mistake():
    with pytest.raises(errors.ConfigurationError, match="cannot write to"):
        Tables("nosuch://bucket/out")
