import itertools

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream as testing
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import NEXT_DAY, dead_letter, image, outcome, scene

import beam_moderation as bm
from beam_moderation import errors, records, windows
from beam_moderation.duckdb_views import views


def of(number):
    """The outcome of two references."""
    data_id = f"i{number}"
    return outcome(f"b{number}", [scene(data_id)], [image(data_id)], [dead_letter(f"d{number}")])


def ids(batch):
    return sorted([*batch.images.column("data_id"), *batch.dead_letters.column("data_id")], key=str)


def test_merged_rows_are_those_of_the_outcomes():
    merged = windows.merge(map(of, range(5)), "0", 0)
    assert merged.scenes.num_rows == 5
    assert [str(i) for i in ids(merged)] == sorted([f"{k}{n}" for k in "di" for n in range(5)])


@settings(deadline=None)
@given(st.permutations(range(4)), st.lists(st.integers(0, 3)))
def test_order_and_repetition_of_outcomes_make_no_difference(order, again):
    merged = windows.merge(map(of, [*order, *again]), "0", 0)
    expected = windows.merge(map(of, range(4)), "0", 0)
    assert merged.id == expected.id
    for table in records.TABLES:
        assert getattr(merged, table).equals(getattr(expected, table))


def test_another_window_shard_or_outcome_has_another_id():
    merged = [
        windows.merge([of(0), of(1)], "0", 0),
        windows.merge([of(0), of(1)], "1", 0),
        windows.merge([of(0), of(1)], "0", 1),
        windows.merge([of(0)], "0", 0),
        windows.merge([of(0), of(1), of(2)], "0", 0),
    ]
    assert len({batch.id for batch in merged}) == len(merged)


def told_again(**changes):
    """The outcome of `of(0)` from another run, with some other cells of its image."""
    again = {"moderated_at": NEXT_DAY, "run_id": "s"}
    return outcome(
        "b0",
        [scene("i0", **again)],
        [image("i0", latency_ms=2.0, **again, **changes)],
        [dead_letter("d0", failed_at=NEXT_DAY, run_id="s")],
    )


def test_the_same_result_of_another_run_has_the_same_id():
    assert windows.merge([told_again()], "0", 0).id == windows.merge([of(0)], "0", 0).id
    assert windows.merge([of(0), told_again()], "0", 0).images.num_rows == 1


def test_another_result_of_the_same_references_has_another_id_and_is_not_lost():
    other = told_again(suggestion="block")
    assert windows.merge([other], "0", 0).id != windows.merge([of(0)], "0", 0).id
    both = windows.merge([of(0), other], "0", 0)
    assert sorted(both.images.column("suggestion").to_pylist()) == ["block", "pass"]


def test_shards_have_about_the_same_share():
    shards = [windows.shard_of(of(number), 4) for number in range(400)]
    assert all(70 < shards.count(shard) < 130 for shard in range(4))


@pytest.mark.parametrize(
    "options",
    [
        *({"window": window} for window in (0, -1, float("nan"), float("inf"))),
        {"window": 1, "shards": 0},
    ],
    ids=str,
)
def test_senseless_window_is_refused(tmp_path, options):
    with pytest.raises(errors.ConfigurationError):
        bm.WriteParquet(str(tmp_path), **options)


def write(folder, outcomes, **options):
    """Writes outcomes, each with its time in seconds."""
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(list(outcomes))
            | beam.MapTuple(TimestampedValue)
            | bm.WriteParquet(str(folder), **options)
        )


def files(folder, table):
    return sorted(folder.glob(f"{table}/**/*.parquet"))


def rows(folder, table):
    import duckdb

    database = duckdb.connect()
    database.execute(views(str(folder)))
    return sorted(row[0] for row in database.sql(f"SELECT data_id FROM {table}").fetchall())


def test_a_windows_batches_share_files(tmp_path):
    write(tmp_path, [(of(number), number * 10) for number in range(24)], window=60)
    assert len(files(tmp_path, "images")) == 4
    assert rows(tmp_path, "images") == sorted(f"i{number}" for number in range(24))
    assert rows(tmp_path, "dead_letters") == sorted(f"d{number}" for number in range(24))


def test_shards_have_files_of_their_own(tmp_path):
    write(tmp_path, [(of(number), 1) for number in range(50)], window=60, shards=3)
    assert len(files(tmp_path, "images")) == 3
    assert len(rows(tmp_path, "images")) == 50


def test_rows_are_in_the_partition_of_their_own_time(tmp_path):
    late = outcome("b", [], [image("a"), image("b", event_time=NEXT_DAY)])
    write(tmp_path, [(late, 5)], window=60)
    assert [path.parent.name for path in files(tmp_path, "images")] == [
        "dt=2026-11-20",
        "dt=2026-11-21",
    ]


def test_a_replay_makes_no_further_file(tmp_path):
    sent = [(of(number), number) for number in range(9)]
    for order in (sent, sent[::-1], sent + sent[:4]):
        write(tmp_path, order, window=3)
        assert len(files(tmp_path, "images")) == 3
    assert not list(tmp_path.glob("_staging/*"))


def test_a_replay_that_is_cut_differently_is_seen_once(tmp_path):
    write(tmp_path, [(of(number), number) for number in range(9)], window=3)
    write(tmp_path, [(of(number), number + 1) for number in range(9)], window=3)
    assert len(files(tmp_path, "images")) > 3
    assert rows(tmp_path, "images") == sorted(f"i{number}" for number in range(9))


def test_a_verdict_after_a_dead_letter_lands_beside_and_is_seen(tmp_path):
    """The vendor was down, and the stream was run again."""
    for found in (outcome("b", [], [], [dead_letter("a")]), outcome("b", [], [image("a")], [])):
        write(tmp_path, [(found, 1)], window=60)
    assert (rows(tmp_path, "images"), rows(tmp_path, "dead_letters")) == (["a"], [])
    assert len(files(tmp_path, "dead_letters")) == 1


def test_what_is_late_lands_beside_and_once(tmp_path):
    """Not every runner can play a `TestStream`; Beam's oldest one can."""
    stream = testing.TestStream(coder=records.OutcomeBatchCoder())
    stream.add_elements([TimestampedValue(of(0), 1), TimestampedValue(of(1), 2)])
    stream.advance_watermark_to(100)
    stream.add_elements([TimestampedValue(of(2), 3)])
    stream.add_elements([TimestampedValue(of(3), 101)])
    stream.advance_watermark_to_infinity()
    options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
    with beam.Pipeline(options=options) as pipeline:
        merged = pipeline | stream | windows.MergeWindows(60)
        assert_that(merged, _holds([["b0", "b1"], ["b2"], ["b3"]]))


def _holds(groups):
    def check(merged):
        found = sorted([str(cell) for cell in batch.images.column("data_id")] for batch in merged)
        assert found == [[name.replace("b", "i") for name in group] for group in groups], found

    return check


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", "multi_processing"])
def test_windows_are_the_same_in_every_mode_of_the_runner(tmp_path, mode):
    flags = ["--runner=FnApiRunner", f"--direct_running_mode={mode}", "--direct_num_workers=2"]
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        _ = (
            pipeline
            | beam.Create([(of(number), number) for number in range(8)])
            | beam.MapTuple(TimestampedValue)
            | bm.WriteParquet(str(tmp_path), window=4, shards=2)
        )
    expected = {
        windows.merge(group, str(start * 4_000_000), shard).id
        for (start, shard), group in itertools.groupby(
            sorted(map(of, range(8)), key=_place), key=_place
        )
    }
    assert bm.Tables(str(tmp_path)).batch_ids() == expected


def _place(batch):
    return int(batch.id[1:]) // 4, windows.shard_of(batch, 2)
