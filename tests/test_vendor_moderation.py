"""References in, tables out, by each vendor: every row is what the vendor said, and paid once."""

import io
import json
import shutil
import types

import apache_beam as beam
import pytest
from brightness import picture
from PIL import Image
from vendor_jobs import (
    SCENES,
    by_id,
    keys,
    read,
    rows,
    run,
    suggestions,
    truths,
    vendor_at,
    write_references,
)

import beam_moderation as bm
from beam_moderation import emulator, errors, records
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota
from beam_moderation.vendor_moderation import ModerateWithVendor
from beam_moderation.vendors import Retries, fitting

EVERY_VENDOR = pytest.mark.parametrize("name", emulator.VENDORS)
PROJECT = "0123456789abcdef0123456789abcdef"


def urls(count, mark=""):
    return [f"https://img.example.com/{mark}{n}.jpg" for n in range(count)]


def too_large():
    """A picture of more than eight million bytes."""
    with io.BytesIO() as file:
        Image.new("RGB", (1700, 1700), (200, 90, 10)).save(file, "BMP")
        return file.getvalue()


def in_another_format():
    """A picture in a format that no vendor's default API takes."""
    return picture(70, kind="TIFF")


PLAIN = {f"url{n}": url for n, url in enumerate(urls(30))}
STRANGE = ["图" * 171, "图" * 171 + "2", " two  spaces ", "tab\tand\nline", "<&>", "x"]
ODD = dict(zip(STRANGE, urls(6, "odd"), strict=True))
TWICE = {f"twice{n}": f"https://img.example.com/ad-block-porn-block-{n % 2}.jpg" for n in range(6)}
FILES = {f"file{n}": picture(n * 30) for n in range(8)}
INLINE = {f"inline{n}": picture(n * 30 + 1) for n in range(3)}
OVER = {"large": too_large(), "other": in_another_format()}
FAILING = {
    mark: f"https://img.example.com/image-{mark}.jpg"
    for mark in ("missing", "forbidden", "too-large", "broken")
}
JUDGED = {**PLAIN, **ODD, **TWICE, **FILES, **INLINE}
ALL = {**JUDGED, **OVER, **FAILING}


def write_all(folder):
    """A reference to every image, to the files by paths and to the others as they are."""
    for name, data in {**FILES, **OVER}.items():
        (folder / name).write_bytes(data)
    places = {**PLAIN, **ODD, **TWICE, **FAILING, **{name: name for name in {**FILES, **OVER}}}
    return write_references(folder / "references.parquet", places, INLINE)


def reading(folder):
    """Reads files of the folder."""
    filesystems = bm.Filesystems.of(roots=[str(folder)], base=f"{folder.as_uri()}/")
    return {"fetcher": bm.Fetcher(filesystems)}


def bounded(name, url, **more):
    """A vendor that takes no picture of eight million bytes."""
    return vendor_at(name, url, **({"max_bytes": 5_000_000} if name == "alibaba" else {}), **more)


@pytest.fixture(
    scope="module",
    params=[(name, mode) for name in emulator.VENDORS for mode in (False, True)],
    ids=lambda way: f"{way[0]}-{'async' if way[1] else 'sync'}",
)
def job(request, tmp_path_factory):
    """A finished backfill of every kind of image, by each vendor in each mode."""
    name, asynchronous = request.param
    folder = tmp_path_factory.mktemp(name)
    with emulator.serve(name) as running:
        vendor = bounded(name, running.url, asynchronous=asynchronous)
        references, out = write_all(folder), folder / "out"
        again = {"batch_size": 25, "run_id": "run", **reading(folder)}
        summary = run(references, out, vendor, **again)
        yield types.SimpleNamespace(**locals(), stats=running.stats())


def test_every_image_has_the_verdicts_that_the_vendor_gave(job):
    told = suggestions(job.out)
    assert told == truths(job.name, JUDGED)
    assert {row.data_id: row.suggestion for row in rows(job.out, "images")} == {
        data_id: records.worst(told[data_id, scene] for scene in SCENES[job.name])
        for data_id in JUDGED
    }


def test_rows_have_the_label_and_the_confidence_in_it(job):
    for row in rows(job.out, "scenes"):
        truth = emulator.truth(job.name, JUDGED[row.data_id], row.scene)
        clean = job.name == "tencent" and truth.suggestion == "pass"
        assert row.score == pytest.approx(1 - truth.score if clean else truth.score)
        assert row.label == (truth.sub_label or truth.label)
        assert (row.provider, row.run_id) == (job.vendor.provider, "run")
        alone = job.name == "huawei" and isinstance(JUDGED[row.data_id], bytes)
        assert row.task_id or alone or not job.asynchronous


def test_every_reference_ends_once_and_is_billed_once(job):
    images, dead = rows(job.out, "images"), rows(job.out, "dead_letters")
    assert sorted(row.data_id for row in [*images, *dead]) == sorted(ALL)
    assert job.summary.references == len(ALL)
    assert job.summary.billed_units == len(JUDGED) * len(SCENES[job.name])


def test_only_what_was_fetched_is_measured(job):
    for row in rows(job.out, "images"):
        fetched = row.data_id in {**FILES, **INLINE}
        assert (row.format, row.width) == (("PNG", 16) if fetched else (None, None))


def test_images_that_no_url_leads_to_are_sent_as_the_vendor_takes_them(job):
    count = len({**FILES, **INLINE})
    if job.name == "alibaba":
        assert job.stats["calls"]["uploadcredentials"] == 1
        assert job.stats["calls"]["put"] == count
    if job.name == "huawei":
        assert job.stats["calls"]["image"] == count


def test_what_is_over_the_limits_is_refused_before_any_call(job):
    dead = {row.data_id: row for row in rows(job.out, "dead_letters")}
    large, other = dead["large"], dead["other"]
    assert {large.code, other.code} == {"vendor-refused-input"}
    assert "bytes, above" in large.message
    assert other.message == "format TIFF"
    assert (large.provider, large.stage, large.attempts) == (job.vendor.provider, "vendor", 1)
    assert not {"large", "other"} & job.stats["judged_per_data_id"].keys()


def test_images_that_the_vendor_cannot_judge_fail_alone(job):
    dead = {row.data_id: row.code for row in rows(job.out, "dead_letters")}
    assert dead.keys() == {*OVER, *FAILING}
    assert {*dead.values()} <= {"vendor-refused-input", "vendor-failed-input"}


def test_a_second_run_makes_no_call_even_where_the_tables_are_gone(job, tmp_path):
    asked = job.running.stats()["calls"]
    shutil.copytree(job.out / "_answers", tmp_path / "out" / "_answers")
    run(job.references, tmp_path / "out", job.vendor, **job.again)
    assert suggestions(tmp_path / "out") == suggestions(job.out)
    assert job.running.stats()["calls"] == asked


def test_dead_letters_are_done_again_and_nothing_else_is_paid_again(emulate, tmp_path):
    running = emulate("alibaba")
    vendor, out = vendor_at("alibaba", running.url), tmp_path / "out"
    images = {"a": FILES["file0"], "b": urls(1)[0]}
    (tmp_path / "a.png").write_bytes(images["a"])
    references = write_references(tmp_path / "r.parquet", {**images, "a": "a.png"})
    run(references, out, vendor)
    assert [(row.data_id, row.code) for row in rows(out, "dead_letters")] == [("a", "uri-invalid")]
    again = run(references, out, vendor, retry_dead_letters=["uri-invalid"], **reading(tmp_path))
    assert suggestions(out) == truths("alibaba", images)
    assert (again.images, again.resumed, again.dead_letters) == (2, 1, {})
    assert running.stats()["judged_per_data_id"] == {"a": 1, "b": 1}


def test_a_task_that_took_too_long_is_looked_for_again_and_not_submitted_again(emulate, tmp_path):
    running = emulate("alibaba", task_s=2.0)
    vendor, out = vendor_at("alibaba", running.url, asynchronous=True), tmp_path / "out"
    images = by_id(urls(3))
    references = write_references(tmp_path / "r.parquet", images)
    run(references, out, vendor, deadline_s=0.3)
    assert [row.code for row in rows(out, "dead_letters")] == ["vendor-timeout"] * 3
    again = run(references, out, vendor, retry_dead_letters=["retryable"])
    assert suggestions(out) == truths("alibaba", images)
    assert again.dead_letters == {}
    assert running.stats()["judged_per_data_id"] == dict.fromkeys(images, 1)


def test_rows_of_kept_answers_say_when_the_vendor_answered(emulate, tmp_path):
    running = emulate("alibaba")
    vendor = vendor_at("alibaba", running.url)
    references = write_references(tmp_path / "r.parquet", by_id(urls(2)))
    answers = str(tmp_path / "answers")
    run(references, tmp_path / "a", vendor, answers=answers)
    run(references, tmp_path / "b", vendor, answers=answers)
    first, second = ([row.moderated_at for row in rows(tmp_path / o, "scenes")] for o in "ab")
    assert first == second


def faults(*kinds, **fields):
    return FaultSpec(faults=[Fault(kind=kind, **fields) for kind in kinds])


def backfill(emulate, folder, name, images, *, settings=None, vendor=None, **more):
    """Backfills some URLs; returns the emulator, once the rows are known to be the truth."""
    running = emulate(name, **(settings or {}))
    chosen = vendor_at(name, running.url, **(vendor or {}))
    references = write_references(folder / "r.parquet", by_id(images))
    run(references, folder / "out", chosen, **more)
    assert suggestions(folder / "out") == truths(name, by_id(images), chosen.scenes)
    return running


@pytest.mark.parametrize(
    ("name", "vendor", "settings"),
    [
        ("alibaba", {"scenes": ("porn", "terrorism", "ad", "qrcode", "live", "logo")}, {}),
        ("alibaba", {"version": "2017-01-12"}, {"versions": frozenset({"2017-01-12"})}),
        (
            "tencent",
            {"scenes": ("porn", "ad", "terrorism", "politics", "quality"), "biz_type": "all"},
            {"biz_types": {"all": ("porn", "ad", "terrorism", "politics", "quality")}},
        ),
        ("huawei", {"scenes": ("politics", "terrorism", "porn", "ad")}, {}),
        (
            "huawei",
            {
                "scenes": ("porn", "image_text"),
                "api_version": "v3",
                "event_type": "album",
                "black_glossary_names": ("words",),
                "language": "zh",
                "project_id": PROJECT,
            },
            {},
        ),
    ],
    ids=["alibaba", "alibaba 2017", "tencent", "huawei", "huawei v3"],
)
def test_every_scene_and_version_ends_as_rows(emulate, tmp_path, name, vendor, settings):
    backfill(emulate, tmp_path, name, urls(12), vendor=vendor, settings=settings)


def test_eleven_urls_go_to_huawei_in_two_calls(emulate, tmp_path):
    running = backfill(emulate, tmp_path, "huawei", urls(11))
    assert running.stats()["calls"] == {"batch": 2}


@EVERY_VENDOR
def test_what_is_over_the_limits_is_made_to_fit_with_a_note(emulate, tmp_path, name):
    vendor = bounded(name, emulate(name).url)
    for data_id, data in OVER.items():
        (tmp_path / data_id).write_bytes(data)
    references = write_references(tmp_path / "r.parquet", {data_id: data_id for data_id in OVER})
    run(references, tmp_path / "out", vendor, fit=True, **reading(tmp_path))
    sent = {i: fitting.fit(data, vendor.limits, allowed=True).data for i, data in OVER.items()}
    assert suggestions(tmp_path / "out") == truths(name, sent)
    notes = {row.data_id: json.loads(row.detail) for row in rows(tmp_path / "out", "scenes")}
    assert "bytes, above" in notes["large"]["fitted"]["why"]
    assert notes["other"]["fitted"] == {
        "why": "format TIFF",
        "format": "JPEG",
        "size": [16, 16],
        "backdrop": "white",
    }


def animation(kind):
    with io.BytesIO() as file:
        first, *others = [Image.new("RGB", (300, 300), shade) for shade in ("red", "green", "blue")]
        first.save(file, kind, save_all=True, append_images=others)
        return file.getvalue()


def test_frames_are_told_where_they_are_known_and_never_cut_to_make_an_image_fit(emulate, tmp_path):
    running = emulate("alibaba")
    for data_id in ("GIF", "TIFF"):
        (tmp_path / data_id).write_bytes(animation(data_id))
    places = {"GIF": "GIF", "TIFF": "TIFF", "url": urls(1)[0]}
    references = write_references(tmp_path / "r.parquet", places)
    vendor = vendor_at("alibaba", running.url)
    run(references, tmp_path / "out", vendor, fit=True, **reading(tmp_path))
    found = rows(tmp_path / "out", "scenes")
    assert {(row.data_id, row.frames_judged, row.frames_total) for row in found} == {
        ("GIF", 1, 3),
        ("url", 1, 1),
    }
    (dead,) = rows(tmp_path / "out", "dead_letters")
    assert (dead.data_id, dead.code) == ("TIFF", "vendor-refused-input")
    assert "TIFF" not in running.stats()["judged_per_data_id"]


LABELS = {"normal": "pass", "sexy": {"block": 0.1}, "porn": "pass"}


@pytest.mark.parametrize(
    ("labels", "override", "expected"),
    [
        (LABELS, False, ["pass", "review", "block"]),
        (LABELS, True, ["pass", "block", "pass"]),
        ({"porn": "pass"}, True, ["review", "review", "pass"]),
    ],
    ids=["not asked to", "asked to", "a label without a rule"],
)
def test_the_policy_overrides_the_vendor_where_it_says_so(
    emulate, tmp_path, labels, override, expected
):
    marked = by_id([f"https://img.example.com/porn-{w}.jpg" for w in ("pass", "review", "block")])
    references = write_references(tmp_path / "r.parquet", marked)
    vendor = vendor_at("alibaba", emulate("alibaba").url, scenes=("porn",))
    policy = bm.Policy({"scenes": {"porn": labels}, "override_vendors": override})
    run(references, tmp_path / "out", vendor, policy=policy)
    assert list(suggestions(tmp_path / "out").values()) == expected


@EVERY_VENDOR
def test_answers_that_cannot_be_read_once_cost_no_image_its_verdict(emulate, tmp_path, name):
    kinds = enumerate(("huge", "wrong_encoding", "malformed"), 1)
    spec = FaultSpec(faults=[Fault(kind=kind, nth=(n,)) for n, kind in kinds])
    running = backfill(emulate, tmp_path, name, urls(5), settings={"faults": spec})
    assert running.stats()["faults"] == {"huge": 1, "wrong_encoding": 1, "malformed": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((n, "wrong_encoding") for n in emulator.VENDORS), ("alibaba", "huge"), ("huawei", "huge")],
)
def test_answers_that_can_never_be_read_end_as_dead_letters(emulate, tmp_path, name, kind):
    running = emulate(name, faults=faults(kind))
    references = write_references(tmp_path / "r.parquet", by_id(urls(5)))
    retries = Retries(tries=2, pause_s=0.01)
    run(references, tmp_path / "out", vendor_at(name, running.url), retries=retries)
    dead = rows(tmp_path / "out", "dead_letters")
    assert {(row.code, row.retryable, row.attempts) for row in dead} == {
        ("vendor-answer-malformed", True, 2)
    }
    assert (len(dead), rows(tmp_path / "out", "scenes")) == (5, [])


def test_another_policy_makes_new_rows_without_a_call(emulate, tmp_path):
    running = backfill(emulate, tmp_path, "alibaba", urls(3))
    asked = running.stats()["calls"]
    policy = bm.Policy({"scenes": {"porn": {"normal": {"block": 0.0}}}})
    vendor = vendor_at("alibaba", running.url)
    run(tmp_path / "r.parquet", tmp_path / "out", vendor, policy=policy)
    assert len({row.policy_version for row in rows(tmp_path / "out", "scenes")}) == 2
    assert running.stats()["calls"] == asked


@pytest.mark.parametrize("lanes", [1, 3])
def test_lanes_share_the_work_and_the_quota(emulate, tmp_path, lanes):
    running = emulate("alibaba", latency_s=0.02)
    references = write_references(tmp_path / "r.parquet", by_id(urls(60)))
    vendor = vendor_at("alibaba", running.url, max_items=1)
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    quota = Quota(1000, None, 6, lanes=lanes)
    run(references, tmp_path / "out", vendor, *flags, batch_size=6, quota=quota)
    assert suggestions(tmp_path / "out") == truths("alibaba", by_id(urls(60)))
    assert running.stats()["highest_in_flight"] <= 6


def test_the_runner_is_told_of_throttling(emulate, tmp_path):
    spec = faults("throttled", nth=(1,), retry_after_s=2)
    running = emulate("alibaba", faults=spec)
    references = write_references(tmp_path / "r.parquet", by_id(urls(5)))
    vendor = vendor_at("alibaba", running.url, max_items=1)
    counters = run(references, tmp_path / "out", vendor, observe=committed)
    assert counters["vendor_throttled_msec"] > 500
    assert counters["cumulativeThrottlingSeconds"] >= 1


def committed(result):
    return {m.key.metric.name: m.committed for m in result.metrics().query()["counters"]}


def test_two_arguments_are_enough_to_try_a_vendor(emulate, tmp_path):
    running = emulate("alibaba", task_s=0.01)
    references = write_references(tmp_path / "r.parquet", by_id(urls(12)))
    vendor = vendor_at("alibaba", running.url, asynchronous=True)
    moderation = bm.ModerateWithVendor(vendor, quota=bm.Quota(100), credentials=keys)
    with beam.Pipeline("FnApiRunner") as pipeline:
        batches = pipeline | beam.Create(list(read(references, 5)))
        outcomes = batches | moderation
        _ = outcomes | bm.WriteParquet(bm.Tables(str(tmp_path / "out")))
    assert suggestions(tmp_path / "out") == truths("alibaba", by_id(urls(12)))
    assert set(running.stats()["tasks_per_data_id"].values()) == {1}


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("alibaba", {"inbox": print}, "without callback"),
        ("huawei", {"inbox": print}, "delivers no results"),
        ("alibaba", {"deadline_s": 3601.0}, "keeps results 3600 s"),
        ("huawei", {"deadline_s": 1801.0}, "keeps results 1800 s"),
    ],
)
def test_results_that_could_not_come_are_a_mistake_before_any_call(name, options, reason):
    vendor = vendor_at(name, "http://127.0.0.1:9", asynchronous=True)
    with pytest.raises(errors.ConfigurationError, match=reason):
        ModerateWithVendor(vendor, Quota(1), **options)
