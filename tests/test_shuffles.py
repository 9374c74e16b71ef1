"""What crosses a shuffle: references do, images that are fetched never."""

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.pipeline import PipelineVisitor
from apache_beam.runners.common import DoFnSignature
from brightness import Brightness, picture

import beam_moderation as bm
from beam_moderation import parquet_files, records, references, sources


class Shuffles(PipelineVisitor):
    """The shuffles of a pipeline, explicit or by a state, with the type of what crosses each."""

    def __init__(self, pipeline):
        self.types = {}
        pipeline.visit(self)

    def visit_transform(self, node):
        step = node.transform
        keyed = isinstance(step, beam.ParDo) and DoFnSignature(step.fn).is_stateful_dofn()
        if keyed or isinstance(step, beam.GroupByKey):
            self.types[node.full_label] = node.inputs[0].element_type

    def after_reading(self):
        reading = "ReadReferencesFromParquet/"
        return {label: kind for label, kind in self.types.items() if not label.startswith(reading)}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a.bmp").write_bytes(picture(90, (100, 100), "BMP"))
    uris = [f"file://{tmp_path}/a.bmp"]
    pq.write_table(pa.table({"data_id": ["a"], "uri": uris}), tmp_path / "references.parquet")
    return tmp_path / "references.parquet"


def shuffles(file, moderation, tables):
    pipeline = beam.Pipeline("FnApiRunner")
    read = bm.ReadReferencesFromParquet(str(file))
    _ = pipeline | read | moderation | bm.WriteParquet(tables)
    return Shuffles(pipeline)


def test_judging_and_writing_shuffle_nothing(file, tmp_path):
    tables = bm.Tables(str(tmp_path / "out"))
    found = shuffles(file, bm.ModerateWithModel([Brightness()], resume_from=tables), tables)
    assert found.types
    assert found.after_reading() == {}


def test_only_references_go_to_the_lanes(file, tmp_path):
    tables = bm.Tables(str(tmp_path / "out"))
    moderation = bm.ModerateWithVendor(bm.vendors.Alibaba(), bm.Quota(5), resume_from=tables)
    found = shuffles(file, moderation, tables).after_reading()
    assert found == {"ModerateWithVendor/Moderate": beam.typehints.Tuple[int, bm.ReferenceBatch]}


def test_a_batch_of_references_holds_no_bytes_of_images(file):
    group = next(parquet_files.row_groups(str(file), {}))
    (batch,) = sources.read_batches(group, references.Columns())
    assert len(records.ReferenceBatchCoder().encode(batch)) < 10_000
    assert file.with_name("a.bmp").stat().st_size > 30_000
