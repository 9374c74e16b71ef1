import pickle
import typing

import apache_beam as beam
import outcomes
import pyarrow as pa
import pytest

from beam_moderation import records


@pytest.mark.parametrize("record", [records.ImageReference, *records.TABLES.values()])
def test_coders_of_records_are_deterministic(record):
    assert beam.coders.registry.get_coder(record).is_deterministic()


@pytest.mark.parametrize("record", list(records.TABLES.values()))
def test_schema_has_every_field_in_order_and_nulls_only_where_optional(record):
    schema = records.arrow_schema(record)
    assert schema.names == list(record._fields)
    optional = {
        name
        for name, hint in typing.get_type_hints(record).items()
        if type(None) in typing.get_args(hint)
    }
    assert {field.name for field in schema if field.nullable} == optional


def test_rows_survive_arrow():
    rows = [outcomes.scene(), outcomes.scene(data_id="b", event_time=None, findings=[])]
    assert (
        list(records.from_arrow(records.to_arrow(rows, records.SceneResult), records.SceneResult))
        == rows
    )


def test_no_rows_have_the_schema_too():
    assert records.to_arrow([], records.DeadLetter).schema == records.arrow_schema(
        records.DeadLetter
    )


def test_half_a_surrogate_pair_becomes_a_question_mark():
    batch = records.to_arrow([outcomes.scene(uri="x\ud800y", label="\udfff")], records.SceneResult)
    assert (batch.column("uri")[0].as_py(), batch.column("label")[0].as_py()) == ("x?y", "?")


def test_outcome_batch_survives_its_coder():
    outcome = records.OutcomeBatch.of("id", [outcomes.scene()], [], [])
    coder = beam.coders.registry.get_coder(records.OutcomeBatch)
    assert coder.decode(coder.encode(outcome)) == outcome
    assert coder.is_deterministic()


def test_coder_carries_only_the_rows_of_a_slice():
    many = records.to_arrow(
        [outcomes.scene(data_id=f"{n}") for n in range(10_000)], records.SceneResult
    )
    outcome = records.OutcomeBatch("id", many.slice(5, 1), many.slice(0, 0), many.slice(0, 0))
    coder = beam.coders.registry.get_coder(records.OutcomeBatch)
    assert len(coder.encode(outcome)) < 20_000 < len(pickle.dumps(many))
    assert coder.decode(coder.encode(outcome)).scenes.column("data_id").to_pylist() == ["5"]


def test_stable_id_tells_parts_apart():
    assert records.stable_id("a", "b") == records.stable_id("a", "b")
    assert records.stable_id("a", "b") != records.stable_id("ab")
    assert records.stable_id("a/../b").isalnum()


@pytest.mark.parametrize(
    ("suggestions", "worst"),
    [(["pass", "block", "review"], "block"), (["pass"], "pass"), ([], "review")],
)
def test_worst_suggestion(suggestions, worst):
    assert records.worst(suggestions) == worst


def test_unequal_batches_are_unequal():
    one = records.OutcomeBatch.of("id", [outcomes.scene()], [], [])
    assert one != records.OutcomeBatch.of("id", [outcomes.scene(score=0.1)], [], [])
    assert isinstance(one.scenes, pa.RecordBatch)
