import ast
import pathlib

import pyarrow as pa
import pytest

import beam_moderation
from beam_moderation import errors, records, references

COUNT = 40


def batches(rows, columns=references.Columns(), batch_size=8, taken=frozenset()):  # noqa: B008
    return list(references.to_batches(rows, "f", 100, columns, taken, batch_size, "run"))


def letters(found):
    return [
        letter
        for batch in found
        for letter in records.from_arrow(batch.dead_letters, records.DeadLetter)
    ]


def rows(**columns):
    given = {"data_id": [f"{n}" for n in range(COUNT)], "uri": ["u"] * COUNT} | columns
    return pa.record_batch(given)


def dictionary(text):
    return pa.DictionaryArray.from_arrays(pa.array([0] * COUNT, pa.int32()), pa.array([text]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x" * 100] * COUNT),
        pa.array(["x" * 100] * COUNT, pa.large_string()),
        dictionary("x" * 100),
    ],
    ids=lambda column: str(column.type),
)
def test_rows_whose_texts_are_more_than_arrow_holds_are_cut_smaller(monkeypatch, column):
    monkeypatch.setattr(references, "_MOST_TEXT_BYTES", 500)
    found = batches(rows(uri=column), taken=frozenset({103}))
    assert [row.source for batch in found for row in batch] == [
        f"f#{n}" for n in range(100, 100 + COUNT) if n != 103
    ]
    assert [(letter.source, letter.code) for letter in letters(found)] == [
        ("f#103", "id-duplicate")
    ]
    assert max(len(batch) for batch in found) <= 4
    assert len({batch.id for batch in found}) == len(found)


def test_images_that_are_more_than_arrow_holds_are_cut_smaller(monkeypatch):
    monkeypatch.setattr(references, "_MOST_CONTENT_BYTES", 500)
    contents = pa.array([bytes(100)] * COUNT, pa.large_binary())
    found = batches(rows(content=contents), references.Columns(content="content"))
    assert [row.content for batch in found for row in batch] == [bytes(100)] * COUNT
    assert max(len(batch) for batch in found) <= 5


def test_texts_hidden_in_a_dictionary_are_more_than_arrow_holds():
    hidden = dictionary("x" * 2**20)
    assert hidden.nbytes < 2**21
    assert references._bytes(hidden) == COUNT * 2**20


def test_a_dictionary_of_numbers_is_read():
    numbers = pa.array(range(COUNT)).dictionary_encode()
    found = batches(rows(data_id=numbers), references.Columns(carried=["data_id"]))
    assert [row.data_id for batch in found for row in batch] == [f"{n}" for n in range(COUNT)]


@pytest.mark.parametrize("name", ["data_id", "uri"])
def test_a_text_that_is_far_too_long_is_a_small_dead_letter(name):
    cells = ["x"] * COUNT
    cells[3], cells[7] = "x" * references.MAX_TEXT_BYTES, "y" * (references.MAX_TEXT_BYTES + 1)
    found = batches(rows(**{name: cells}))
    (letter,) = letters(found)
    assert (letter.source, letter.code) == ("f#107", "text-too-long")
    assert len(str(letter)) < 1000
    assert sum(len(batch.references) for batch in found) == COUNT - 1


def _codes(module):
    """The first arguments of what makes an error of a reference."""
    for node in ast.walk(ast.parse(module.read_text())):
        name = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2]
        if name in ("ReferenceInvalid", "_Problem") and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value


def test_every_code_that_a_reader_gives_is_in_the_one_table():
    package = pathlib.Path(beam_moderation.__file__).parent
    given = {
        code
        for name in ("references", "messages", "avro", "kafka")
        for code in _codes(package / f"{name}.py")
    }
    assert given == set(errors.READ_CODES)
