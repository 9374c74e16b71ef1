import datetime
import importlib
import pathlib

import pyarrow.parquet as pq
import pytest
from apache_beam.utils.timestamp import Timestamp

from beam_moderation import records, tables

pytest.importorskip("duckdb", reason="needs the extra demo")
pytest.importorskip("skimage", reason="needs the extra demo")
pytest.importorskip("zxingcpp", reason="needs the extra demo")

PIPELINES = pathlib.Path(__file__).parent.parent / "pipelines"
NOW = Timestamp.of(datetime.datetime(2026, 3, 2, tzinfo=datetime.timezone.utc).timestamp())


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(PIPELINES))
    return importlib.import_module("demo")


@pytest.fixture
def demo_sample(monkeypatch):
    monkeypatch.syspath_prepend(str(PIPELINES))
    return importlib.import_module("demo_sample")


@pytest.fixture
def demo_vendors(monkeypatch):
    monkeypatch.syspath_prepend(str(PIPELINES))
    return importlib.import_module("demo_vendors")


def scene_row(data_id, scene, label, suggestion, frame=0):
    finding = records.Finding(label, 1.0)
    return records.SceneResult(
        data_id=data_id,
        scene=scene,
        provider="test@1",
        policy_version="1",
        uri=None,
        label=label,
        score=1.0,
        suggestion=suggestion,
        sub_label="",
        findings=[finding],
        frame=frame,
        frames_judged=1,
        frames_total=1,
        task_id=None,
        request_id=None,
        detail="{}",
        source="",
        event_time=NOW,
        moderated_at=NOW,
        run_id="",
    )


def dead_row(data_id, code):
    return records.DeadLetter(
        data_id=data_id,
        stage="decode",
        uri=None,
        scene=None,
        provider=None,
        code=code,
        message="",
        retryable=False,
        attempts=1,
        payload="{}",
        source="",
        event_time=NOW,
        failed_at=NOW,
        run_id="",
    )


def outcomes(demo, folder, expected, scenes=(), dead_letters=()):
    """What the demo sees, by data_id, where `expected` are (data_id, outcome, frame)."""
    import pyarrow as pa

    names = ["data_id", "expected", "expected_frame"]
    columns = dict(zip(names, zip(*expected, strict=True), strict=True))
    schema = pa.schema(
        [("data_id", pa.string()), ("expected", pa.string()), ("expected_frame", pa.int64())]
    )
    references = folder / "references.parquet"
    pq.write_table(pa.table(columns, schema), references)
    outcome = records.OutcomeBatch.of("b", scenes, [], dead_letters)
    tables.Tables(str(folder / "tables")).write(outcome)
    rows = demo.outcomes(references, folder / "tables")
    return {row[0]: (row[3], demo.as_expected(*row)) for row in rows}


def test_an_image_that_passes_every_scene_passes(demo, tmp_path):
    scenes = [scene_row("a", "ad", "normal", "pass"), scene_row("a", "qrcode", "normal", "pass")]
    assert outcomes(demo, tmp_path, [("a", "pass", None)], scenes) == {"a": ("pass", True)}


def test_every_flagged_scene_is_part_of_the_outcome(demo, tmp_path):
    scenes = [
        scene_row("a", "qrcode", "qrcode", "review"),
        scene_row("a", "ad", "contact", "review"),
    ]
    expected = "ad:contact=review,qrcode:qrcode=review"
    assert outcomes(demo, tmp_path, [("a", expected, None)], scenes) == {"a": (expected, True)}


def test_another_deciding_frame_is_a_difference(demo, tmp_path):
    scenes = [scene_row("a", "qrcode", "qrcode", "review", frame=4)]
    expected = "qrcode:qrcode=review"
    found = outcomes(demo, tmp_path, [("a", expected, 5)], scenes)
    assert found == {"a": (expected, False)}


def test_a_reference_without_outcome_is_a_difference(demo, tmp_path):
    assert outcomes(demo, tmp_path, [("a", "pass", None)]) == {"a": ("nothing", False)}


def test_a_reference_with_two_outcomes_is_a_difference(demo, tmp_path):
    found = outcomes(
        demo,
        tmp_path,
        [("a", "image-broken", None)],
        [scene_row("a", "ad", "normal", "pass")],
        [dead_row("a", "image-broken")],
    )
    assert found == {"a": ("pass and image-broken", False)}


def test_an_outcome_of_no_reference_is_a_difference(demo, tmp_path):
    found = outcomes(
        demo,
        tmp_path,
        [("a", "image-broken", None)],
        dead_letters=[dead_row("a", "image-broken"), dead_row("b", "image-broken")],
    )
    assert found == {"a": ("image-broken", True), "b": ("image-broken", False)}


def test_a_doubled_row_is_a_difference(demo, tmp_path):
    scenes = [scene_row("a", "ad", "normal", "pass")] * 2
    found = outcomes(demo, tmp_path, [("a", "pass", None)], scenes)
    assert found == {"a": ("pass and 1 doubled rows", False)}


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sample_is_the_same_each_time_and_one_file_is_missing(demo_sample, tmp_path):
    references = pq.read_table(demo_sample.write_sample(tmp_path / "first")).to_pylist()
    files = files_in(tmp_path / "first" / "images")
    assert {row["data_id"] for row in references} - set(files) == {"missing.jpg"}
    assert len(references) == len(files) + 1
    demo_sample.write_sample(tmp_path / "second")
    assert files == files_in(tmp_path / "second" / "images")


JPEG, TIFF = b"\xff\xd8\xff", b"II*\x00"


@pytest.mark.parametrize(
    ("vendor", "content", "locally", "outcome"),
    [
        ("alibaba", JPEG + b" porn-block ad-pass terrorism-pass ", "pass", "porn:porn=block"),
        (
            "alibaba",
            JPEG + b" porn-review ad-block terrorism-pass ",
            "qrcode:qrcode=review",
            "ad:ad=block,porn:sexy=review",
        ),
        ("tencent", JPEG + b" porn-block ad-pass ", "pass", "porn:Porn+SexyHigh=block"),
        ("huawei", JPEG + b" porn-block terrorism-pass ", "pass", "porn:porn+sexy=block"),
        ("huawei", JPEG + b" porn-pass terrorism-pass ", "pass", "pass"),
        ("alibaba", JPEG + b" image-broken ", "image-broken", "vendor-refused-input"),
        ("tencent", TIFF + b" porn-block ", "pass", "vendor-refused-input"),
        ("huawei", b"GIF89a porn-block ", "pass", "vendor-refused-input"),
        ("alibaba", b"", "image-empty", "image-empty"),
        ("alibaba", None, "fetch-not-found", "fetch-not-found"),
    ],
)
def test_what_a_vendor_must_say_is_known_beforehand(
    demo_vendors, vendor, content, locally, outcome
):
    assert demo_vendors.expected(vendor, content, locally) == outcome


@pytest.fixture
def small_sample(demo_sample, tmp_path, monkeypatch):
    """A sample of the files of every kind of outcome, and as few as that takes."""
    names = {"photo-coins.jpg", "qr.tiff", "qr.webp", "truncated.jpg", "missing.jpg", "drawing.svg"}
    cases = [case for make in demo_sample.FAMILIES for case in make() if case.name in names]
    monkeypatch.setattr(demo_sample, "FAMILIES", [lambda: cases])
    return demo_sample.write_sample(tmp_path / "sample")


@pytest.mark.parametrize("vendor", ["alibaba", "tencent", "huawei"])
def test_the_sample_ends_as_expected_at_a_vendor_and_is_paid_for_once(
    demo, small_sample, tmp_path, vendor
):
    assert demo.moderate_by_vendor(vendor, small_sample, tmp_path / "tables")
    column = f"expected_{vendor}"
    rows = demo.outcomes(small_sample, tmp_path / "tables", (column, "NULL"))
    assert demo.check(rows, column)
    expected = {row[1] for row in rows}
    assert expected >= {"fetch-not-found", "format-unsupported", "vendor-refused-input"}


def test_a_difference_is_shown_and_is_no_success(demo, capsys):
    assert not demo.check([("a", "pass", None, "porn:porn=block", 0)], "expected_alibaba")
    assert "porn:porn=block" in capsys.readouterr().out
