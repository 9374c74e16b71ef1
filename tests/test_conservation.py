"""Every reference ends exactly once, whatever it leads to and whatever stands beside it."""

import functools
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import web
from apache_beam.metrics.metric import MetricsFilter
from brightness import BRIGHT, Brightness, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import beam_moderation as bm
from beam_moderation import (
    addresses,
    decoding,
    examination,
    fetch,
    filesystems,
    images,
    judging,
    metrics,
    policy,
    records,
    references,
    worker,
)

REFUSED_GREY = 77
LIMITS = images.ImageLimits(max_pixels=1_000_000)
JUDGED = {"pass", "review", "block"}

OUTCOMES = {
    "dark": {"pass"},
    "grey": {"review"},
    "bright": {"block"},
    "judge fails": {"judge-failed"},
    "empty": {"image-empty"},
    "text": {"format-unsupported"},
    "truncated": {"image-broken"},
    "bomb": {"image-too-many-pixels"},
    "huge": {"fetch-too-large"},
    "missing file": {"fetch-not-found"},
    "outside": {"scheme-refused"},
    "metadata": {"address-refused"},
    "no scheme": {"uri-invalid", "scheme-refused", "fetch-not-found"},
    "not found": {"fetch-not-found", "fetch-timeout"},
    "slow": {"fetch-timeout"},
    "reset": {"fetch-unavailable", "fetch-timeout"},
    "no id": {"id-missing"},
    "no uri": {"uri-missing"},
    "id taken": {"id-duplicate"},
}
"""Every kind of reference, and what may become of it: a machine under load may time out early."""


class Place(NamedTuple):
    """What fetches and judges, and the URI or the content of each kind of reference."""

    fetcher: fetch.Fetcher
    worker: worker.Worker
    uris: Mapping[str, str]
    contents: Mapping[str, bytes]

    def rows(self, kinds):
        """References of these kinds, whose ids are their numbers."""
        ids = [None if kind == "no id" else f"{n}" for n, kind in enumerate(kinds)]
        return {
            "data_id": ids,
            "uri": pa.array([self.uris.get(kind) for kind in kinds], pa.string()),
            "content": pa.array([self.contents.get(kind) for kind in kinds], pa.binary()),
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "huge.png").write_bytes(bytes(50_001))
    routes = {"/slow": web.silence, "/reset": web.reset, "/404": web.answer(b"", 404)}
    with web.Site(routes) as site:
        host = site.url("/").removeprefix("http://").rstrip("/")
        table = filesystems.Filesystems.of(
            roots=[str(folder)], policy=addresses.AddressPolicy(allow_hosts=[host])
        )
        limits = fetch.FetchLimits(max_bytes=50_000, deadline_s=0.3, attempts=1)
        how = decoding.Decoding.for_judges([Brightness()], LIMITS, images.Sampling())
        examiner = examination.Examiner(
            functools.partial(decoding.decode, decoding=how),
            judging.Panel([Brightness(refuses=REFUSED_GREY / 255)]),
            policy.Policy(BRIGHT),
            "run",
        )
        fetcher = fetch.Fetcher(table, limits)
        yield Place(
            fetcher,
            worker.Worker(examiner.examine, fetcher, 4, "run"),
            {
                "huge": f"file://{folder}/huge.png",
                "missing file": f"file://{folder}/none.png",
                "outside": "file:///etc/hostname",
                "metadata": "http://169.254.169.254/latest/meta-data/",
                "no scheme": "a.png",
                "not found": site.url("/404"),
                "slow": site.url("/slow"),
                "reset": site.url("/reset"),
                "no id": "http://x/a.png",
                "id taken": "http://x/a.png",
            },
            {
                "dark": picture(3),
                "grey": picture(150),
                "bright": picture(252),
                "judge fails": picture(REFUSED_GREY),
                "empty": b"",
                "text": b"<html>",
                "truncated": picture(9, (200, 200), "JPEG")[:-300],
                "bomb": picture(9, (2000, 2000)),
            },
        )


def outcome_of(place, kinds, batch_size):
    """What becomes of references of these kinds, whose ids are their numbers."""
    rows = pa.record_batch(place.rows(kinds))
    taken = frozenset(n for n, kind in enumerate(kinds) if kind == "id taken")
    columns = references.Columns(content="content")
    batches = references.to_batches(rows, "f", 0, columns, taken, batch_size, "run")
    return [place.worker.begin(batch, batch.id).result(60).outcome for batch in batches]


def number(source):
    return int(source.rpartition("#")[2])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=40),
    size=st.sampled_from([1, 7, 256]),
)
def test_any_mix_of_references_ends_as_many_times_as_there_are_references(place, kinds, size):
    outcomes = outcome_of(place, kinds, size)
    ends = [
        (number(row.source), row.suggestion)
        for outcome in outcomes
        for row in records.from_arrow(outcome.images, records.ImageResult)
    ] + [
        (number(row.source), row.code)
        for outcome in outcomes
        for row in records.from_arrow(outcome.dead_letters, records.DeadLetter)
    ]
    assert sorted(n for n, _ in ends) == list(range(len(kinds)))
    assert {(kinds[n], end) for n, end in ends if end not in OUTCOMES[kinds[n]]} == set()


def test_scene_rows_and_counters_agree_with_the_images(place):
    kinds = sorted(OUTCOMES) * 3
    (outcome,) = outcome_of(place, kinds, 256)
    scenes = outcome.scenes.column("data_id").to_pylist()
    assert sorted(scenes) == sorted(outcome.images.column("data_id").to_pylist())
    count = metrics.counts(outcome, resumed=False)
    assert count["references"] == len(kinds) == count["images"] + count["dead_letters"]
    assert count["dead_letters"] == sum(
        value for name, value in count.items() if name.startswith("dead_letters/")
    )
    assert sum(count[f"scene/brightness/{s}"] for s in JUDGED) == count["images"]


def test_counters_of_a_job_agree_with_its_tables(place, tmp_path):
    kinds = ["dark", *sorted(OUTCOMES) * 3]
    rows = place.rows(kinds)
    rows["data_id"] = [
        "0" if kind == "id taken" else rows["data_id"][n] for n, kind in enumerate(kinds)
    ]
    pq.write_table(pa.table(rows), tmp_path / "r.parquet", row_group_size=25)
    tables = bm.Tables(str(tmp_path / "out"))
    read = bm.ReadReferencesFromParquet(
        str(tmp_path / "r.parquet"), content_column="content", batch_size=7
    )
    moderate = bm.ModerateWithModel(
        [Brightness(refuses=REFUSED_GREY / 255)],
        policy=policy.Policy(BRIGHT),
        fetcher=place.fetcher,
        limits=LIMITS,
        resume_from=tables,
    )
    pipeline = beam.Pipeline("FnApiRunner")
    _ = pipeline | read | moderate | bm.WriteParquet(tables)
    result = pipeline.run()
    result.wait_until_finish()
    found = {
        table: [
            row
            for batch_id in tables.batch_ids()
            for row in records.from_arrow(
                getattr(tables.read(tables.commit(batch_id)), table), records.TABLES[table]
            )
        ]
        for table in records.TABLES
    }
    ends = {number(row.source): row.suggestion for row in found["images"]}
    ends |= {number(row.source): row.code for row in found["dead_letters"]}
    assert sorted(ends) == list(range(len(kinds)))
    assert {(kinds[n], end) for n, end in ends.items() if end not in OUTCOMES[kinds[n]]} == set()
    query = MetricsFilter().with_namespace(metrics.NAMESPACE)
    counted = Counter()
    for metric in result.metrics().query(query)["counters"]:
        counted[metric.key.metric.name] += metric.result
    expected = Counter(
        references=len(kinds),
        images=len(found["images"]),
        dead_letters=len(found["dead_letters"]),
        bytes=sum(row.bytes for row in found["images"]),
    )
    expected.update(f"dead_letters/{row.code}" for row in found["dead_letters"])
    expected.update(f"scene/{row.scene}/{row.suggestion}" for row in found["scenes"])
    assert counted == expected
    assert metrics.summarise(result).references == len(kinds)


def test_a_dead_letter_has_the_stage_and_the_key_of_its_reference(place):
    (outcome,) = outcome_of(place, ["text", "missing file", "judge fails", "no id"], 256)
    letters = list(records.from_arrow(outcome.dead_letters, records.DeadLetter))
    assert {(row.data_id, row.stage) for row in letters} == {
        ("0", "decode"),
        ("1", "fetch"),
        ("2", "judge"),
        ("f#3", "read"),
    }
