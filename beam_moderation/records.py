"""The records that cross a PCollection or land in a table, their coders and their Arrow schemas.

References and outcomes travel as Arrow tables inside a `ReferenceBatch` and an `OutcomeBatch`; the
rows of a table are NamedTuples, and the Arrow schema of a table is derived from its NamedTuple, so
type, coder and table agree by construction.

Postponed annotations would make `RowCoder` silently non-deterministic: this module has none.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.timestamp import Timestamp

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own takes 60 MB more for batches this small

SUGGESTIONS = ("pass", "review", "block")
"""Every suggestion, from the mildest to the worst."""

Row = TypeVar("Row", bound=NamedTuple)


class ImageReference(NamedTuple):
    """One image to be judged, as its source named it.

    `content` holds the bytes themselves where they came inline; then `uri` may be None. `carried`
    is a JSON object of further columns that go to the tables untouched. `source` says where the
    reference stood: `file#row` or `topic/partition/offset`.
    """

    data_id: str
    uri: Optional[str]
    content: Optional[bytes]
    event_time: Optional[Timestamp]
    carried: str
    source: str


class Finding(NamedTuple):
    """A label and the judge's confidence in it, in [0, 1]."""

    label: str
    score: float


class SceneResult(NamedTuple):
    """One row of the table `scenes`: one image, one scene, one judge.

    `score` is the confidence in `label`, in [0, 1]. `frame` is the index of the deciding frame or
    tile among `frames_total`; `detail` is a JSON object.
    """

    data_id: str
    scene: str
    provider: str
    policy_version: str
    uri: Optional[str]
    label: str
    score: float
    suggestion: str
    sub_label: str
    findings: Sequence[Finding]
    frame: int
    frames_judged: int
    frames_total: int
    task_id: Optional[str]
    request_id: Optional[str]
    detail: str
    source: str
    event_time: Optional[Timestamp]
    moderated_at: Timestamp
    run_id: str


class ImageResult(NamedTuple):
    """One row of the table `images`: one image and the worst of its suggestions.

    `flagged` lists `scene:label` of every scene that did not pass; `decided_by` is the provider of
    the worst one. `sha256`, `bytes`, `width`, `height` and `format` are None where the product
    never held the bytes. `billed_units` counts what a vendor charges for.
    """

    data_id: str
    policy_version: str
    uri: Optional[str]
    suggestion: str
    flagged: Sequence[str]
    decided_by: str
    sha256: Optional[str]
    bytes: Optional[int]
    width: Optional[int]
    height: Optional[int]
    format: Optional[str]
    billed_units: int
    latency_ms: float
    carried: str
    source: str
    event_time: Optional[Timestamp]
    moderated_at: Timestamp
    run_id: str


class DeadLetter(NamedTuple):
    """One row of the table `dead_letters`: a reference, or one scene of it, without a verdict.

    `scene` is None where no scene has a verdict. `payload` is the reference as it came, as JSON,
    for replay.
    """

    data_id: str
    stage: str
    uri: Optional[str]
    scene: Optional[str]
    provider: Optional[str]
    code: str
    message: str
    retryable: bool
    attempts: int
    payload: str
    source: str
    event_time: Optional[Timestamp]
    failed_at: Timestamp
    run_id: str


TABLES: Mapping[str, Any] = {
    "scenes": SceneResult,
    "images": ImageResult,
    "dead_letters": DeadLetter,
}
"""The tables and the records that are their rows."""

_ARROW_TYPES: Mapping[Any, pa.DataType] = {
    str: pa.string(),
    bytes: pa.binary(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    Timestamp: pa.timestamp("us", tz="UTC"),
}


def _arrow_type(hint: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field, and whether the field may be null."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:
        return _arrow_type(arguments[0])[0], True
    if origin is not None and issubclass(origin, Sequence):
        return pa.list_(pa.field("item", _arrow_type(arguments[0])[0], nullable=False)), False
    if hasattr(hint, "_fields"):
        return pa.struct(list(arrow_schema(hint))), False
    return _ARROW_TYPES[hint], False


@functools.cache
def arrow_schema(record: Any) -> pa.Schema:
    """The Arrow schema of a record: its fields in order, nullable where they are Optional."""
    fields = []
    for name, hint in get_type_hints(record).items():
        kind, nullable = _arrow_type(hint)
        fields.append(pa.field(name, kind, nullable=nullable))
    return pa.schema(fields)


def _to_cell(value: Any) -> Any:
    """What Arrow takes for a field's value: microseconds for a Timestamp, dicts for structs."""
    if isinstance(value, Timestamp):
        return value.micros
    if isinstance(value, (list, tuple)):
        return [item._asdict() if hasattr(item, "_asdict") else item for item in value]
    return value


def _from_cell(value: Any, hint: Any) -> Any:
    if value is None:
        return None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:
        return _from_cell(value, arguments[0])
    if origin is not None:
        return [_from_cell(item, arguments[0]) for item in value]
    if hint is Timestamp:
        return Timestamp(micros=value)
    return hint(**value) if hasattr(hint, "_fields") else value


def to_arrow(rows: Sequence[Any], record: Any) -> pa.RecordBatch:
    """The rows of one table as an Arrow record batch in `arrow_schema(record)`."""
    if not rows:
        return _no_rows(record)
    schema = arrow_schema(record)
    columns = zip(*rows, strict=True)
    arrays = [_array(column, field.type) for field, column in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    cells = [_to_cell(value) for value in column]
    try:
        return pa.array(cells, kind)
    except UnicodeEncodeError:  # a stranger's JSON can hold half a surrogate pair
        return pa.array([cell and cell.encode(errors="replace").decode() for cell in cells], kind)


@functools.cache
def _no_rows(record: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=arrow_schema(record))


def from_arrow(batch: pa.RecordBatch | pa.Table, record: type[Row]) -> Iterator[Row]:
    """The rows of an Arrow table as records, in order."""
    hints = get_type_hints(record)
    columns = []
    for name, hint in hints.items():
        column = batch.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        columns.append([_from_cell(value, hint) for value in column.to_pylist()])
    return (record(*values) for values in zip(*columns, strict=True))


def stable_id(*parts: str) -> str:
    """A name that depends on `parts` alone: 32 hexadecimal digits, safe in a file name."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@dataclasses.dataclass(frozen=True)
class ReferenceBatch:
    """The unit of work, of retry and of checkpoint: references and what is wrong with some rows.

    `id` depends only on where the references came from. `references` has the schema of
    `ImageReference`, `dead_letters` that of `DeadLetter`: rows that are no usable reference.
    `block` names what the batch was cut out of, by a source that may cut it otherwise another time:
    what a vendor says of one batch of a block is known to the others.
    """

    id: str
    references: pa.RecordBatch
    dead_letters: pa.RecordBatch
    block: str = ""

    def __len__(self) -> int:
        return self.references.num_rows + self.dead_letters.num_rows

    def __iter__(self) -> Iterator[ImageReference]:
        return from_arrow(self.references, ImageReference)


@dataclasses.dataclass(frozen=True)
class OutcomeBatch:
    """What became of a reference batch: its rows for the three tables.

    `id` depends on where the references came from and on what judged them.
    """

    id: str
    scenes: pa.RecordBatch
    images: pa.RecordBatch
    dead_letters: pa.RecordBatch

    @classmethod
    def of(
        cls,
        id: str,  # noqa: A002
        scenes: Sequence[SceneResult],
        images: Sequence[ImageResult],
        dead_letters: Sequence[DeadLetter],
    ) -> "OutcomeBatch":
        """Makes the batch from rows."""
        return cls(
            id,
            to_arrow(scenes, SceneResult),
            to_arrow(images, ImageResult),
            to_arrow(dead_letters, DeadLetter),
        )

    def tables(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The name and the rows of each table."""
        return ((name, getattr(self, name)) for name in TABLES)

    def __len__(self) -> int:
        """The number of references that have an outcome here."""
        return self.images.num_rows + self.dead_letters.num_rows


class ArrowBatchCoder(beam.coders.Coder):
    """Codes a dataclass of strings and record batches: deterministic, and only the rows it has.

    Pickling a slice of a record batch would carry the whole buffer that it is a slice of.
    """

    batch_type: type[Any]

    def encode(self, value: Any) -> bytes:
        """One IPC stream a field, behind the strings and the lengths as JSON."""
        head: list[Any] = []
        streams: list[bytes] = []
        for field in dataclasses.fields(value):
            cell = getattr(value, field.name)
            if isinstance(cell, str):
                head.append(cell)
                continue
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, cell.schema) as writer:
                writer.write_batch(cell.take(pa.array(range(cell.num_rows), pa.int64())))
            streams.append(sink.getvalue().to_pybytes())
            head.append(len(streams[-1]))
        return b"\n".join([json.dumps(head).encode(), b"".join(streams)])

    def decode(self, encoded: bytes) -> Any:
        """The reverse of `encode`."""
        head, _, body = encoded.partition(b"\n")
        values: list[Any] = []
        position = 0
        for cell in json.loads(head):
            if isinstance(cell, str):
                values.append(cell)
                continue
            reader = pa.ipc.open_stream(pa.py_buffer(body)[position : position + cell])
            values.append(reader.read_next_batch())
            position += cell
        return self.batch_type(*values)

    def is_deterministic(self) -> bool:
        """Whether equal values have equal bytes: they do."""
        return True

    def to_type_hint(self) -> type[Any]:
        """The class that this coder codes."""
        return self.batch_type


class ReferenceBatchCoder(ArrowBatchCoder):
    """Codes a `ReferenceBatch`."""

    batch_type = ReferenceBatch


class OutcomeBatchCoder(ArrowBatchCoder):
    """Codes an `OutcomeBatch`."""

    batch_type = OutcomeBatch


beam.coders.registry.register_coder(ReferenceBatch, ReferenceBatchCoder)
beam.coders.registry.register_coder(OutcomeBatch, OutcomeBatchCoder)
for _record in (ImageReference, *TABLES.values()):
    beam.coders.registry.register_coder(_record, beam.coders.RowCoder)


def worst(suggestions: Iterable[str]) -> str:
    """The worst of some suggestions; `review` where there is none, for nothing was judged."""
    return max(suggestions, key=SUGGESTIONS.index, default="review")
