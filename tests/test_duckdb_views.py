import itertools
import subprocess
import sys

import duckdb
import pytest
from apache_beam.utils.timestamp import Duration
from outcomes import NEXT_DAY, NOON, dead_letter, image, outcome, scene

import beam_moderation as bm
from beam_moderation import cli, errors, records

EARLY, LATE = NOON, NOON + Duration(3600)


def open_views(folder):
    database = duckdb.connect()
    database.execute(bm.views(str(folder)))
    return database


def write(folder, *outcomes):
    written = bm.Tables(str(folder))
    for number, (scenes, images, dead_letters) in enumerate(outcomes):
        written.write(outcome(f"b{number}", scenes, images, dead_letters))


def told(folder):
    """Every outcome that a reader sees, by its reference."""
    database = open_views(folder)
    judged = database.sql("SELECT data_id, suggestion FROM images").fetchall()
    return sorted(judged + database.sql("SELECT data_id, code FROM dead_letters").fetchall())


def test_a_row_is_there_once_and_it_is_the_latest(tmp_path):
    write(
        tmp_path,
        (
            [scene(label="new", moderated_at=LATE)],
            [image(suggestion="block", moderated_at=LATE)],
            [],
        ),
        ([scene(label="old", moderated_at=EARLY)], [image(moderated_at=EARLY)], []),
    )
    assert told(tmp_path) == [("a", "block")]
    assert open_views(tmp_path).sql("SELECT label FROM scenes").fetchall() == [("new",)]


def test_every_scene_judge_and_policy_has_a_row(tmp_path):
    rows = [
        scene(scene=name, provider=provider, policy_version=version)
        for name, provider, version in itertools.product(["ad", "porn"], ["p", "q"], ["1", "2"])
    ]
    write(
        tmp_path, (rows, [image(policy_version="1"), image(policy_version="2")], []), (rows, [], [])
    )
    database = open_views(tmp_path)
    assert database.sql("SELECT count(*) FROM scenes").fetchall() == [(8,)]
    assert database.sql("SELECT count(*) FROM images").fetchall() == [(2,)]


@pytest.mark.parametrize(("failed_at", "judged_at"), [(EARLY, LATE), (LATE, EARLY), (NOON, NOON)])
def test_a_success_wins_whichever_was_first(tmp_path, failed_at, judged_at):
    failure = dead_letter("a", failed_at=failed_at)
    write(tmp_path, ([], [image("a", moderated_at=judged_at)], []), ([], [], [failure]))
    assert told(tmp_path) == [("a", "pass")]


def test_a_row_that_could_not_be_read_at_first_has_one_outcome(tmp_path):
    """Its id was taken, and then the row that had it was removed."""
    unread = dead_letter("f#1", stage="read", source="f#1", failed_at=NOON)
    write(tmp_path, ([], [], [unread]), ([], [image("a", source="f#1", moderated_at=LATE)], []))
    assert told(tmp_path) == [("a", "pass")]


def test_a_row_whose_id_is_taken_now_has_an_outcome_beside_who_has_it(tmp_path):
    """It was judged at first, and then another row came before it that has its id."""
    write(
        tmp_path,
        ([], [image("a", source="f#1", moderated_at=EARLY)], []),
        (
            [],
            [image("a", source="f#0", suggestion="block", moderated_at=LATE)],
            [dead_letter("f#1", stage="read", source="f#1", failed_at=LATE)],
        ),
    )
    assert told(tmp_path) == [("a", "block"), ("f#1", "fetch-not-found")]


def test_of_several_failures_the_latest_stands(tmp_path):
    failures = [
        dead_letter("a", stage="fetch", code="old", failed_at=EARLY),
        dead_letter("a", stage="decode", code="new", failed_at=LATE),
    ]
    write(tmp_path, *(([], [], [failure]) for failure in failures))
    assert told(tmp_path) == [("a", "new")]


def test_rows_of_one_moment_are_told_apart_and_always_alike(tmp_path):
    twins = [image(suggestion="block", run_id="2"), image(suggestion="pass", run_id="1")]
    for name, order in {"x": twins, "y": twins[::-1]}.items():
        write(tmp_path / name, *(([], [row], []) for row in order))
        assert told(tmp_path / name) == [("a", "block")]


@pytest.mark.parametrize("there", [[], ["scenes", "images"], ["dead_letters"]], ids=str)
def test_a_table_without_files_has_no_rows(tmp_path, there):
    rows = {"scenes": [scene()], "images": [image()], "dead_letters": [dead_letter()]}
    write(tmp_path, [rows[table] if table in there else [] for table in records.TABLES])
    database = open_views(tmp_path)
    for table in records.TABLES:
        counted = database.sql(f"SELECT count(*) FROM {table}").fetchall()
        assert counted == [(int(table in there),)]


@pytest.mark.parametrize("table", records.TABLES)
def test_an_empty_table_has_the_columns_of_a_full_one(tmp_path, table):
    write(tmp_path / "full", ([scene()], [image()], [dead_letter()]))
    described = [
        sorted(open_views(folder).sql(f"DESCRIBE {table}").fetchall())
        for folder in (tmp_path / "full", tmp_path / "empty")
    ]
    assert described[0] == described[1]


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path):
    assert told(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["it's", 'a "b"', "x; DROP", "[1]*?", "a b=c", "é"])
def test_any_name_of_a_folder_will_do(tmp_path, name):
    write(tmp_path / name, ([scene()], [image()], []))
    write(tmp_path / "[1]xy", ([scene()], [image("other")], []))
    assert told(tmp_path / name) == [("a", "pass")]


def test_partitions_are_columns_and_a_strangers_scene_is_itself(tmp_path):
    write(
        tmp_path,
        ([scene(scene="a/b=c"), scene("b", scene="2024", event_time=None)], [], []),
        ([scene("c", scene="ad", event_time=NEXT_DAY)], [], []),
    )
    shown = open_views(tmp_path).sql("SELECT data_id, scene, dt::text FROM scenes ORDER BY 1")
    assert shown.fetchall() == [
        ("a", "a/b=c", "2026-11-20"),
        ("b", "2024", None),
        ("c", "ad", "2026-11-21"),
    ]


def test_views_may_be_made_again(tmp_path):
    database = open_views(tmp_path)
    write(tmp_path, ([], [image()], []))
    database.execute(bm.views(str(tmp_path)))
    assert database.sql("SELECT count(*) FROM images").fetchall() == [(1,)]


def test_a_url_without_a_filesystem_is_a_mistake():
    with pytest.raises(errors.ConfigurationError, match="cannot read nosuch"):
        bm.views("nosuch://bucket/out")


def run(*arguments):
    program = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]
    command = [*program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_the_views(tmp_path):
    write(tmp_path, ([], [image()], []))
    ended = run("views", tmp_path)
    assert (ended.returncode, ended.stdout) == (0, bm.views(str(tmp_path)))


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path):
    ended = run("views", tmp_path / "none")
    assert ended.returncode == cli.USER_MISTAKE
    assert ended.stderr == f"error: there is no folder {tmp_path}/none\n"
