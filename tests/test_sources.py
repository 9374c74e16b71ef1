import contextlib
import datetime
import json

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam_moderation import errors, parquet_files, records, references, sources

UTC = datetime.timezone.utc


def write(path, row_group_size=None, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


def read(path, columns=references.Columns(), **options):  # noqa: B008
    (file,) = parquet_files.list_files(path, {})
    return [
        batch
        for group in parquet_files.row_groups(file, {})
        for batch in sources.read_batches(group, columns, **options)
    ]


def problems(batches):
    letters = [letter for batch in batches for letter in batch.dead_letters.to_pylist()]
    return [(letter["source"].rpartition("/")[2], letter["code"]) for letter in letters]


def test_references_are_cut_by_row_group_and_batch_size(tmp_path):
    path = write(tmp_path / "r.parquet", 10, data_id=[f"{n}" for n in range(25)], uri=["u"] * 25)
    assert [len(batch) for batch in read(path, batch_size=4)] == [4, 4, 2, 4, 4, 2, 4, 1]


def test_a_reference_has_its_file_and_row(tmp_path):
    path = write(tmp_path / "r.parquet", 2, data_id=["a", "b", "c"], uri=["x", "y", "z"])
    assert [r.source for batch in read(path) for r in batch] == [
        f"file://{path}#{row}" for row in range(3)
    ]


def test_batch_ids_repeat_for_the_same_file_and_change_with_its_content(tmp_path):
    path = write(tmp_path / "r.parquet", data_id=["a", "b"], uri=["x", "y"])
    first = [batch.id for batch in read(path, batch_size=1)]
    again = [batch.id for batch in read(path, batch_size=1)]
    write(tmp_path / "r.parquet", data_id=["a", "b"], uri=["x", "changed"])
    changed = [batch.id for batch in read(path, batch_size=1)]
    assert first == again
    assert first[0] == changed[0]
    assert first[1] != changed[1]


def test_rows_without_id_or_place_are_dead_letters_with_file_and_row(tmp_path):
    path = write(
        tmp_path / "r.parquet", data_id=["a", None, "", "d", "e"], uri=["x", "y", "z", None, ""]
    )
    batches = read(path)
    assert [r.data_id for batch in batches for r in batch] == ["a"]
    assert problems(batches) == [
        ("r.parquet#1", "id-missing"),
        ("r.parquet#2", "id-missing"),
        ("r.parquet#3", "uri-missing"),
        ("r.parquet#4", "uri-missing"),
    ]


def test_a_dead_letter_holds_the_reference_as_it_came(tmp_path):
    path = write(tmp_path / "r.parquet", data_id=[None], uri=["http://x/a.jpg"], user=["kim"])
    (batch,) = read(path, references.Columns(carried=["user"]))
    (letter,) = records.from_arrow(batch.dead_letters, records.DeadLetter)
    assert json.loads(letter.payload) == {"data_id": None, "uri": "http://x/a.jpg", "user": "kim"}
    assert letter.data_id == letter.source == f"file://{path}#0"


@pytest.mark.parametrize("column", ["data_id", "uri"])
def test_a_column_of_a_wrong_type_makes_every_row_a_dead_letter(tmp_path, column):
    columns = {"data_id": ["a", "b"], "uri": ["x", "y"], column: [[1.5], [2.5]]}
    batches = read(write(tmp_path / "r.parquet", **columns))
    assert problems(batches) == [("r.parquet#0", "type-wrong"), ("r.parquet#1", "type-wrong")]


def test_integers_serve_as_ids_and_dictionaries_as_text(tmp_path):
    uris = pa.array(["x", "x"]).dictionary_encode()
    path = write(tmp_path / "r.parquet", data_id=[7, 8], uri=uris)
    assert [(r.data_id, r.uri) for batch in read(path) for r in batch] == [("7", "x"), ("8", "x")]


def test_text_that_is_not_utf_8_is_a_dead_letter_and_its_neighbour_is_not(tmp_path):
    broken = pa.array([b"\xff\xfe", b"ok"]).view(pa.string())
    batches = read(write(tmp_path / "r.parquet", data_id=["a", "b"], uri=broken))
    assert problems(batches) == [("r.parquet#0", "text-not-utf-8")]
    assert [r.data_id for batch in batches for r in batch] == ["b"]


def test_inline_content_needs_no_uri(tmp_path):
    path = write(tmp_path / "r.parquet", data_id=["a"], image=[b"bytes"])
    (batch,) = read(path, references.Columns(uri=None, content="image"))
    assert [(r.uri, r.content) for r in batch] == [(None, b"bytes")]


@pytest.mark.parametrize(
    ("time", "micros"),
    [
        (pa.array([datetime.date(1970, 1, 2)]), 86_400_000_000),
        (pa.array([1_500], pa.timestamp("ms")), 1_500_000),
        (pa.array([1_500_000_001], pa.timestamp("ns", "Asia/Shanghai")), 1_500_000),
    ],
)
def test_event_times_are_utc(tmp_path, time, micros):
    path = write(tmp_path / "r.parquet", data_id=["a"], uri=["x"], t=time)
    (batch,) = read(path, references.Columns(event_time="t"))
    assert [r.event_time.micros for r in batch] == [micros]


def test_a_dead_letter_has_its_event_time(tmp_path):
    time = pa.array([1_700_000_000_123_456], pa.timestamp("us"))
    path = write(tmp_path / "r.parquet", data_id=[None], uri=["x"], t=time)
    (batch,) = read(path, references.Columns(event_time="t"))
    (letter,) = records.from_arrow(batch.dead_letters, records.DeadLetter)
    assert letter.event_time.micros == 1_700_000_000_123_456


def test_carried_columns_are_json(tmp_path):
    path = write(
        tmp_path / "r.parquet",
        data_id=["a"],
        uri=["x"],
        user=["kim"],
        at=[datetime.date(2026, 1, 2)],
    )
    (batch,) = read(path, references.Columns(carried=["user", "at"]))
    assert [json.loads(r.carried) for r in batch] == [{"user": "kim", "at": "2026-01-02"}]


FAR = [2**62, -(2**62)]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_time_that_no_calendar_holds_is_a_dead_letter_of_its_row_alone(tmp_path, unit):
    time = pa.array([*FAR, 0, None], pa.timestamp(unit))
    path = tmp_path / "r.arrow"
    columns = references.Columns(event_time="t")
    rows = pa.record_batch({"data_id": list("abcd"), "uri": list("wxyz"), "t": time})
    batches = list(references.to_batches(rows, f"file://{path}", 0, columns, frozenset(), 9, "run"))
    assert problems(batches) == [(f"r.arrow#{n}", "time-out-of-range") for n in (0, 1)]
    letters = batches[0].dead_letters
    assert letters.column("event_time").null_count == 2
    assert [(r.data_id, r.event_time and r.event_time.micros) for r in batches[0]] == [
        ("c", 0),
        ("d", None),
    ]


@pytest.mark.parametrize(
    "edge", ["0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.999999"], ids=["first", "last"]
)
def test_the_years_1_to_9999_are_kept_to_the_microsecond_and_no_more(tmp_path, edge):
    micros = int(np.datetime64(edge, "us").astype(np.int64))
    outside = micros + (-1 if micros < 0 else 1)
    time = pa.array([micros, outside], pa.timestamp("us"))
    path = write(tmp_path / "r.parquet", data_id=["a", "b"], uri=["x", "y"], t=time)
    batches = read(path, references.Columns(event_time="t"))
    assert [r.event_time.micros for batch in batches for r in batch] == [micros]
    assert problems(batches) == [("r.parquet#1", "time-out-of-range")]


def test_a_date_that_no_calendar_holds_is_a_dead_letter(tmp_path):
    dates = pa.array([2**31 - 1, 2_932_896, 2_932_897], pa.int32()).cast(pa.date32())
    path = write(tmp_path / "r.parquet", data_id=list("abc"), uri=list("xyz"), t=dates)
    batches = read(path, references.Columns(event_time="t"))
    assert problems(batches) == [(f"r.parquet#{n}", "time-out-of-range") for n in (0, 2)]


def test_a_dead_letter_of_another_kind_survives_a_time_that_no_calendar_holds(tmp_path):
    time = pa.array([FAR[0]], pa.timestamp("us"))
    path = write(tmp_path / "r.parquet", data_id=[""], uri=["x"], t=time)
    (batch,) = read(path, references.Columns(event_time="t", carried=["t"]))
    (letter,) = records.from_arrow(batch.dead_letters, records.DeadLetter)
    assert letter.event_time is None
    assert json.loads(letter.payload) == {"data_id": "", "uri": "x", "t": None}


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        (pa.array([b"ok", b"\xff"]).view(pa.string()), "text-not-utf-8"),
        (pa.array([0, FAR[0]], pa.timestamp("us")), "time-out-of-range"),
        (pa.array([[0], [FAR[0]]], pa.list_(pa.timestamp("us"))), "time-out-of-range"),
        (pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()), "time-out-of-range"),
    ],
)
def test_a_carried_cell_that_cannot_be_read_costs_its_row_alone(tmp_path, cells, code):
    path = write(tmp_path / "r.parquet", data_id=["a", "b"], uri=["x", "y"], c=cells, d=[1, 2])
    batches = read(path, references.Columns(carried=["c", "d"]))
    assert problems(batches) == [("r.parquet#1", code)]
    assert [r.data_id for batch in batches for r in batch] == ["a"]
    assert json.loads(batches[0].dead_letters.column("payload")[0].as_py())["d"] == 2


def test_carried_numbers_that_json_does_not_have_are_null(tmp_path):
    numbers = pa.array([float("nan"), float("inf"), 1.5])
    path = write(
        tmp_path / "r.parquet",
        data_id=list("abc"),
        uri=list("xyz"),
        n=numbers,
        m=[[float("nan")]] * 3,
    )
    (batch,) = read(path, references.Columns(carried=["n", "m"]))
    assert [r.carried for r in batch] == [
        f'{{"n": {n}, "m": [null]}}' for n in ("null", "null", "1.5")
    ]


def test_batch_ids_change_with_what_is_wrong_with_their_rows(tmp_path):
    path = write(tmp_path / "r.parquet", data_id=["a", "b", "c"], uri=["x", "y", "z"])
    first, second, third = (batch.id for batch in read(path, batch_size=1))
    taken = [batch.id for batch in read(path, batch_size=1, taken=frozenset([1]))]
    assert taken[0] == first
    assert taken[1] != second
    assert taken[2] == third


def test_damaged_pages_are_a_mistake_that_names_the_file(tmp_path):
    ids = [f"{n * 7919 % 5000}" for n in range(5000)]
    path = write(tmp_path / "r.parquet", data_id=ids, uri=ids)
    content = bytearray((tmp_path / "r.parquet").read_bytes())
    content[100:3000] = b"\xff" * 2900
    (tmp_path / "r.parquet").write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match=r"cannot read file://.*r\.parquet: "):
        read(path)


@pytest.mark.parametrize("name", ["r[1].parquet", "r*.parquet", "r?.parquet"])
def test_a_file_or_folder_whose_own_name_is_a_glob_is_found(tmp_path, name):
    write(tmp_path / "r1.parquet", data_id=["b"], uri=["y"])
    folder = tmp_path / "folder[1]"
    folder.mkdir()
    path = write(folder / name, data_id=["a"], uri=["x"])
    assert [r.data_id for batch in read(path) for r in batch] == ["a"]
    assert parquet_files.list_files(str(folder), {}) == [f"file://{path}"]


def test_missing_column_names_those_that_there_are(tmp_path):
    path = write(tmp_path / "r.parquet", key=["a"], uri=["x"])
    with pytest.raises(errors.ConfigurationError, match=r"no column 'data_id'; it has key, uri"):
        parquet_files.check_columns(path, ["data_id"], {})


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"id_column": "ID"}, "ID"), ({"carry_columns": ["user"]}, "user"), ({}, None)],
)
def test_a_column_that_a_file_lacks_stops_the_job_but_for_the_uri_of_inline_images(
    tmp_path, options, missing
):
    path = write(tmp_path / "r.parquet", data_id=["a"], content=[b"image"])
    stops = pytest.raises(Exception, match=f"has no column '{missing}'; it has data_id, content")
    read = sources.ReadReferencesFromParquet(path, content_column="content", **options)
    with stops if missing else contextlib.nullcontext(), test_pipeline.TestPipeline() as pipeline:
        assert_that(pipeline | read | beam.Map(len), equal_to([1]))


def test_files_of_a_folder_that_are_not_finished_are_left_out(tmp_path):
    for name in ("a", "dt=1/b", "_temporary/0/c", ".d", "_e", "dt=1/_staging/f", "dt=1/.g"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / f"{name}.parquet", data_id=["a"])
    (tmp_path / "README").write_text("")
    expected = [f"file://{tmp_path}/{name}.parquet" for name in ("a", "dt=1/b")]
    assert parquet_files.list_files(str(tmp_path), {}) == expected
    assert parquet_files.list_files(f"{tmp_path}/", {}) == expected


@pytest.mark.parametrize("pattern", ["none-*.parquet", "absent.parquet"])
def test_a_pattern_without_files_is_a_mistake(tmp_path, pattern):
    with pytest.raises(errors.ConfigurationError, match="no file matches"):
        parquet_files.list_files(str(tmp_path / pattern), {})


def test_a_file_that_is_no_parquet_is_a_mistake(tmp_path):
    (tmp_path / "r.parquet").write_text("a,b\n")
    with pytest.raises(errors.ConfigurationError, match="cannot read"):
        parquet_files.check_columns(str(tmp_path / "r.parquet"), [], {})


def test_the_first_reference_keeps_an_id_and_later_ones_are_dead_letters(tmp_path):
    write(tmp_path / "r1.parquet", 2, data_id=["a", "b", "a"], uri=["1", "2", "3"])
    write(tmp_path / "r2.parquet", 2, data_id=["c", "b", "b"], uri=["4", "5", "6"])
    with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
        batches = pipeline | sources.ReadReferencesFromParquet(str(tmp_path / "*.parquet"))
        kept = batches | beam.FlatMap(lambda batch: [r.uri for r in batch])
        dead = batches | "Dead" >> beam.FlatMap(lambda batch: problems([batch]))
        assert_that(kept, equal_to(["1", "2", "4"]), label="kept")
        assert_that(
            dead,
            equal_to(
                [
                    (f"r{file}.parquet#{row}", "id-duplicate")
                    for file, row in [(1, 2), (2, 1), (2, 2)]
                ]
            ),
            label="dead",
        )


def test_ids_are_compared_across_shards_as_within_one(tmp_path, monkeypatch):
    monkeypatch.setattr("beam_moderation.duplicates.IDS_A_SHARD", 10)
    ids = [f"{n % 40}" for n in range(50)] + [None]
    write(tmp_path / "r.parquet", 7, data_id=ids, uri=[f"{n}" for n in range(51)])
    with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
        batches = pipeline | sources.ReadReferencesFromParquet(str(tmp_path / "r.parquet"))
        kept = batches | beam.FlatMap(lambda batch: [r.uri for r in batch])
        assert_that(kept, equal_to([f"{n}" for n in range(40)]))


def test_ids_that_are_said_to_be_unique_are_not_compared(tmp_path):
    path = write(tmp_path / "r.parquet", data_id=["a", "b", "a"], uri=["1", "2", "3"])
    with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
        batches = pipeline | sources.ReadReferencesFromParquet(path, unique_ids=True)
        kept = batches | beam.FlatMap(lambda batch: [r.uri for r in batch])
        assert_that(kept, equal_to(["1", "2", "3"]))


@pytest.mark.parametrize("options", [{"uri_column": None}, {"batch_size": 0}])
def test_options_are_checked_when_the_transform_is_made(options):
    with pytest.raises(errors.ConfigurationError):
        sources.ReadReferencesFromParquet("r.parquet", **options)
