import json
import os
import threading

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import web
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from brightness import BRIGHT, Brightness, mean, picture

import beam_moderation as bm
from beam_moderation import errors, images, metrics, records, worker

POLICY = bm.Policy(BRIGHT)
CORES = worker.cores()
GREYS = {"dark": 10, "grey": 140, "bright": 250}


@pytest.fixture
def references(tmp_path):
    """Three pictures, a text, and a file that is not there."""
    for name, grey in GREYS.items():
        (tmp_path / f"{name}.png").write_bytes(picture(grey))
    (tmp_path / "page.png").write_text("<html>")
    uris = [f"{name}.png" for name in [*GREYS, "page", "missing"]]
    path = tmp_path / "references.parquet"
    pq.write_table(pa.table({"data_id": uris, "uri": uris, "user": ["kim"] * 5}), path)
    return path


def steps(references, out=None, judge=None, **options):
    tables = bm.Tables(str(out)) if out else None
    folder = str(references.parent)
    fetcher = bm.Fetcher(bm.Filesystems.of(roots=[folder], base=f"file://{folder}/"))
    return [
        bm.ReadReferencesFromParquet(str(references), carry_columns=["user"], batch_size=2),
        bm.ModerateWithModel(
            [judge or Brightness()], policy=POLICY, fetcher=fetcher, resume_from=tables, **options
        ),
        *([bm.WriteParquet(tables)] if tables else []),
    ]


def run(steps, *flags):
    pipeline = beam.Pipeline("FnApiRunner", options=beam.pipeline.PipelineOptions(list(flags)))
    flow = pipeline
    for step in steps:
        flow = flow | step
    result = pipeline.run()
    result.wait_until_finish()
    return metrics.summarise(result)


def rows(out, table):
    tables = bm.Tables(str(out))
    outcomes = [tables.read(tables.commit(batch_id)) for batch_id in sorted(tables.batch_ids())]
    record = records.TABLES[table]
    return sorted(row for o in outcomes for row in records.from_arrow(getattr(o, table), record))


def timeless(rows):
    changing = {"moderated_at", "failed_at", "run_id", "latency_ms"}
    return [{k: v for k, v in row._asdict().items() if k not in changing} for row in rows]


def test_every_reference_ends_as_one_image_or_one_dead_letter(references, tmp_path):
    run(steps(references, tmp_path / "out"))
    images, dead = rows(tmp_path / "out", "images"), rows(tmp_path / "out", "dead_letters")
    assert {row.data_id: row.suggestion for row in images} == {
        "dark.png": "pass",
        "grey.png": "review",
        "bright.png": "block",
    }
    assert {row.data_id: row.code for row in dead} == {
        "page.png": "format-unsupported",
        "missing.png": "fetch-not-found",
    }


def test_rows_say_what_was_found_where(references, tmp_path):
    run(steps(references, tmp_path / "out", run_id="run"))
    (bright, *_) = rows(tmp_path / "out", "scenes")
    assert (bright.data_id, bright.scene, bright.provider) == (
        "bright.png",
        "brightness",
        "brightness@1",
    )
    assert (bright.label, bright.suggestion, bright.run_id) == ("bright", "block", "run")
    assert bright.score == pytest.approx(250 / 255, abs=0.01)
    assert (bright.frame, bright.frames_judged, bright.frames_total) == (0, 1, 1)
    (image, *_) = rows(tmp_path / "out", "images")
    assert (image.format, image.width, image.height) == ("PNG", 16, 16)
    assert (image.flagged, image.decided_by) == (["brightness:bright"], "brightness@1")
    assert json.loads(image.carried) == {"user": "kim"}


def test_rows_can_be_had_without_tables(references):
    with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
        flow = pipeline
        for step in steps(references):
            flow = flow | step
        scenes = flow | bm.Rows("scenes") | beam.Map(lambda row: (row.data_id, row.suggestion))
        dead = flow | bm.Rows("dead_letters") | "Code" >> beam.Map(lambda row: row.code)
        assert_that(
            scenes,
            equal_to([("dark.png", "pass"), ("grey.png", "review"), ("bright.png", "block")]),
        )
        assert_that(dead, equal_to(["format-unsupported", "fetch-not-found"]), label="dead")


@pytest.mark.parametrize(
    "flags",
    [
        ["--direct_running_mode=in_memory"],
        ["--direct_running_mode=multi_threading", "--direct_num_workers=2"],
        ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
    ],
    ids=lambda flags: flags[0].partition("=")[2],
)
def test_rows_are_the_same_in_every_mode_of_the_runner(references, tmp_path, flags, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    run(steps(references, tmp_path / "expected"))
    summary = run(steps(references, tmp_path / "out"), *flags)
    for table in records.TABLES:
        assert timeless(rows(tmp_path / "out", table)) == timeless(
            rows(tmp_path / "expected", table)
        )
    assert summary.references == 5


def test_counters_agree_with_the_tables(references, tmp_path):
    summary = run(steps(references, tmp_path / "out"))
    assert (summary.references, summary.images) == (5, len(rows(tmp_path / "out", "images")))
    assert summary.dead_letters == {"format-unsupported": 1, "fetch-not-found": 1}
    assert summary.suggestions == {("brightness", s): 1 for s in records.SUGGESTIONS}


def test_every_stage_has_its_latencies(references, tmp_path):
    pipeline = beam.Pipeline("FnApiRunner")
    flow = pipeline
    for step in steps(references, tmp_path / "out"):
        flow = flow | step
    found = pipeline.run().metrics().query()["distributions"]
    counts = {
        m.key.metric.name: m.result.count
        for m in found
        if m.key.metric.namespace == "beam_moderation"
    }
    assert counts == {"fetch_ms": 4, "decode_ms": 3, "judge_ms": 3, "write_ms": 3}


def test_a_second_run_judges_nothing_and_leaves_the_rows(references, tmp_path):
    run(steps(references, tmp_path / "out"))
    before = {table: rows(tmp_path / "out", table) for table in records.TABLES}
    summary = run(steps(references, tmp_path / "out", Brightness(refuses=10 / 255)))
    assert summary.references == summary.resumed == 5
    assert {table: rows(tmp_path / "out", table) for table in records.TABLES} == before


def test_another_policy_makes_new_rows_beside_the_old(references, tmp_path):
    run(steps(references, tmp_path / "out"))
    strict = bm.Policy({"scenes": {"brightness": {"bright": {"block": 0.0}}}})
    read, moderate, write = steps(references, tmp_path / "out")
    changed = bm.ModerateWithModel(
        [Brightness()],
        policy=strict,
        fetcher=moderate._job.fetcher,
        resume_from=bm.Tables(str(tmp_path / "out")),
    )
    assert run([read, changed, write]).resumed == 0
    versions = {row.policy_version for row in rows(tmp_path / "out", "scenes")}
    assert versions == {POLICY.version, strict.version}


@pytest.mark.parametrize("max_batch", [1, 4])
def test_an_image_on_which_a_judge_fails_is_a_dead_letter_and_its_neighbours_are_not(
    references, tmp_path, max_batch
):
    run(steps(references, tmp_path / "out", Brightness(max_batch, refuses=140 / 255)))
    dead = {row.data_id: row.code for row in rows(tmp_path / "out", "dead_letters")}
    assert dead["grey.png"] == "judge-failed"
    assert {row.data_id for row in rows(tmp_path / "out", "images")} == {"dark.png", "bright.png"}


def test_no_more_images_are_decoded_at_once_than_there_are_cores(tmp_path):
    at_once, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(CORES)

    def watched(frame):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        together.wait(60)
        with lock:
            at_once -= 1
        return mean(frame)

    judge = Brightness(max_batch=8)
    judge.prepare = watched
    moderation = bm.ModerateWithModel([judge], policy=POLICY, threads=4 * CORES + 8)
    contents = [picture(grey) for grey in range(0, 200, 200 // (8 * CORES))][: 8 * CORES]
    rows = [
        records.ImageReference(f"{n}", None, content, None, "{}", f"f#{n}")
        for n, content in enumerate(contents)
    ]
    batch = records.ReferenceBatch(
        "b",
        records.to_arrow(rows, records.ImageReference),
        records.to_arrow([], records.DeadLetter),
    )
    done = moderation._job.make_worker().begin(batch, "o").result(60)
    assert done.outcome.images.num_rows == 8 * CORES
    assert most == CORES


def test_an_image_is_fetched_and_decoded_once_however_many_judge_it(tmp_path, monkeypatch):
    opened = []
    open_image = images.open_image
    monkeypatch.setattr(images, "open_image", lambda *a: opened.append(1) or open_image(*a))
    judges = [Brightness() for _ in range(3)]
    for number, judge in enumerate(judges):
        judge.provider = f"brightness@{number}"
    with web.Site({"/a.png": web.answer(picture(250))}) as site:
        rows_ = {"data_id": ["a"], "uri": [site.url("/a.png")]}
        pq.write_table(pa.table(rows_), tmp_path / "r.parquet")
        allowed = bm.AddressPolicy(allow_hosts=[site.url("").removeprefix("http://")])
        fetcher = bm.Fetcher(bm.Filesystems.of(policy=allowed))
        read = bm.ReadReferencesFromParquet(str(tmp_path / "r.parquet"))
        moderate = bm.ModerateWithModel(judges, policy=POLICY, fetcher=fetcher)
        run([read, moderate, bm.WriteParquet(bm.Tables(str(tmp_path / "out")))])
        assert len(site.requests) == 1
    assert len(opened) == 1
    assert len(rows(tmp_path / "out", "scenes")) == 3


def test_what_could_not_be_read_has_the_run_that_judged_the_rest(tmp_path):
    rows_ = {"data_id": ["a", None], "content": [picture(9), picture(9)]}
    pq.write_table(pa.table(rows_), tmp_path / "r.parquet")
    read = bm.ReadReferencesFromParquet(
        str(tmp_path / "r.parquet"), uri_column=None, content_column="content"
    )
    moderate = bm.ModerateWithModel([Brightness()], policy=POLICY, run_id="mine")
    run([read, moderate, bm.WriteParquet(bm.Tables(str(tmp_path / "out")))])
    for table in records.TABLES:
        assert {row.run_id for row in rows(tmp_path / "out", table)} == {"mine"}


def test_the_frame_that_decides_is_in_the_row(references, tmp_path):
    from PIL import Image

    frames = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in [0, 9, 255, 3]]
    frames[0].save(
        references.parent / "dark.png",
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        lossless=True,
    )
    run(steps(references, tmp_path / "out"))
    row = next(row for row in rows(tmp_path / "out", "scenes") if row.data_id == "dark.png")
    assert (row.frame, row.frames_judged, row.frames_total, row.suggestion) == (2, 4, 4, "block")


def test_a_transparent_picture_counts_as_one_frame(references, tmp_path):
    from PIL import Image

    Image.new("LA", (16, 16), (0, 0)).save(references.parent / "dark.png")
    run(steps(references, tmp_path / "out"))
    row = next(row for row in rows(tmp_path / "out", "scenes") if row.data_id == "dark.png")
    assert (row.frame, row.frames_judged, row.frames_total) == (0, 1, 1)


class Telling(Brightness):
    """Tells how bright it found a frame."""

    def judge(self, prepared):
        found = [bm.Finding("bright", mean) for mean in prepared]
        return [[bm.SceneFindings("brightness", [each], {"mean": each.score})] for each in found]


def test_the_detail_of_a_transparent_picture_is_that_of_the_deciding_backdrop(references, tmp_path):
    from PIL import Image

    Image.new("LA", (16, 16), (0, 0)).save(references.parent / "dark.png")
    run(steps(references, tmp_path / "out", Telling()))
    row = next(row for row in rows(tmp_path / "out", "scenes") if row.data_id == "dark.png")
    assert (row.suggestion, row.score, json.loads(row.detail)) == ("block", 1.0, {"mean": 1.0})


def test_event_times_and_windows_of_batches_stay(references):
    with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
        read, moderate = steps(references)
        stamped = (
            pipeline
            | read
            | beam.combiners.ToList()
            | beam.FlatMap(lambda batches: list(enumerate(batches)))
            | beam.MapTuple(lambda n, batch: beam.window.TimestampedValue(batch, n * 60))
            | beam.WindowInto(beam.window.FixedWindows(60))
            | moderate
            | beam.Map(
                lambda o, t=beam.DoFn.TimestampParam, w=beam.DoFn.WindowParam: (
                    t.micros,
                    w.start.micros,
                )
            )
        )
        assert_that(stamped, equal_to([(n * 60_000_000, n * 60_000_000) for n in range(3)]))


@pytest.mark.parametrize("judges", [[], [Brightness(), Brightness()]])
def test_no_judge_or_the_same_one_twice_is_a_mistake(judges):
    with pytest.raises(errors.ConfigurationError):
        bm.ModerateWithModel(judges)


@pytest.mark.parametrize("scene", ["", "a/b", "a b", "a\n", "\N{GREEK SMALL LETTER ALPHA}"])
def test_scene_that_cannot_be_in_the_name_of_a_counter_is_a_mistake(scene):
    judge = Brightness()
    judge.labels = {"brightness": frozenset({"normal"}), scene: frozenset({"normal"})}
    with pytest.raises(errors.ConfigurationError, match=r"letters, digits, _ and -: .* of "):
        bm.ModerateWithModel([judge])
