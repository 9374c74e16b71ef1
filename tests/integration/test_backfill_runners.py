"""A backfill's rows are the same on whatever runs it."""

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from brightness import BRIGHT, Brightness, picture
from vendor_jobs import rows

import beam_moderation as bm
from beam_moderation import records

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(300)]

OF_THE_RUN = ("run_id", "moderated_at", "failed_at", "latency_ms", "attempts")
"""Columns that tell of a run, not of what was judged."""


@pytest.fixture(params=["prism", "flink"])
def elsewhere(request):
    """The options of another runner than the embedded one."""
    service = request.getfixturevalue(request.param)
    if request.param == "flink":
        return service.options()
    return ["--runner=PrismRunner", f"--prism_location={service}"]


@pytest.fixture
def references(tmp_path):
    """Forty pictures from dark to bright, one that is no picture, and one that is not there."""
    names = [f"{number}.png" for number in range(40)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(number * 6))
    (tmp_path / "page.png").write_text("<html>")
    uris = [*names, "page.png", "missing.png"]
    path = tmp_path / "references.parquet"
    pq.write_table(pa.table({"data_id": uris, "uri": uris}), path, row_group_size=10)
    return path


def backfill(references, out, options):
    folder = str(references.parent)
    fetcher = bm.Fetcher(bm.Filesystems.of(roots=[folder], base=f"file://{folder}/"))
    tables = bm.Tables(str(out))
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        (
            pipeline
            | bm.ReadReferencesFromParquet(str(references), batch_size=4)
            | bm.ModerateWithModel(
                [Brightness()], policy=bm.Policy(BRIGHT), fetcher=fetcher, resume_from=tables
            )
            | bm.WriteParquet(tables)
        )
    return {
        table: [
            {name: cell for name, cell in row._asdict().items() if name not in OF_THE_RUN}
            for row in rows(out, table)
        ]
        for table in records.TABLES
    }


def test_backfill_has_the_rows_of_the_embedded_runner(references, tmp_path, elsewhere):
    made = backfill(references, tmp_path / "elsewhere", elsewhere)
    assert [len(found) for found in made.values()] == [40, 40, 2]
    assert made == backfill(references, tmp_path / "embedded", ["--runner=FnApiRunner"])
