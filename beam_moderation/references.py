"""From the rows of a file to image references: what is usable, and what is a dead letter and why.

Work is done by Arrow, a column at a time; only rows with a problem are touched one by one.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_moderation import dead_letters, errors, parquet_files, records


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a references file: the id, and at least one of `uri` and `content`."""

    data_id: str = "data_id"
    uri: str | None = "uri"
    content: str | None = None
    event_time: str | None = None
    carried: Sequence[str] = ()

    def names(self) -> list[str]:
        """Every column that is read, once."""
        chosen = [self.data_id, self.uri, self.content, self.event_time, *self.carried]
        return list(dict.fromkeys(name for name in chosen if name))

    def needed(self) -> list[str]:
        """Those that a file must have: images that are there inline need no URI."""
        return [name for name in self.names() if name != self.uri or not self.content]


class _Problem(NamedTuple):
    code: str
    message: str


MAX_TEXT_BYTES = 2**20
"""Of an id or a URI: far more than any that leads somewhere, and a cell that tables can show."""

_MOST_TEXT_BYTES = 2**28
"""Of the texts of some rows, worked on together: an Arrow array has at most 2**31 bytes, and JSON
may take six for one."""

_MOST_CONTENT_BYTES = 2**31 - 2**20

_TICKS_A_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

_FIRST_DAY, _END_DAY = -719_162, 2_932_897
"""0001-01-01 and 10000-01-01 in days since 1970: between them is what Python and SQL can show."""

_STRICT_JSON = json.JSONEncoder(default=str, ensure_ascii=False, allow_nan=False)

_NOTHING = pa.array([None, ""])
_NO_ID = _Problem("id-missing", "the id is null or empty")
_NO_PLACE = _Problem("uri-missing", "there is neither a uri nor content")
_DUPLICATE = _Problem("id-duplicate", "an earlier reference has the same id")


def to_batches(
    rows: pa.RecordBatch,
    file: str,
    first_row: int,
    columns: Columns,
    taken: frozenset[int],
    batch_size: int,
    run_id: str,
) -> Iterator[records.ReferenceBatch]:
    """Cuts some rows of a file into batches; rows that cannot be used are their dead letters.

    A batch is smaller where its rows are so large that Arrow cannot hold `batch_size` of them.

    Args:
      file: its URL; what rows say of their source has no credentials of it.
      first_row: the number, in the file, of the first row.
      taken: the numbers of the rows whose id an earlier row has.
      run_id: what dead letters carry.
    """
    name = parquet_files.shown(file)
    for first, part in _bounded(rows, first_row, columns):
        cells, problems = _read(part, name, first, columns)
        for number in taken.intersection(range(first, first + part.num_rows)):
            problems.setdefault(number - first, _DUPLICATE)
        starts = range(0, part.num_rows, batch_size)
        for start, digest in zip(starts, _digests(cells, problems, batch_size), strict=True):
            of_batch = {index - start: problem for index, problem in problems.items()}
            yield records.ReferenceBatch(
                records.stable_id(name, str(first + start), digest),
                *_part(cells.slice(start, batch_size), of_batch, run_id),
            )


def _bounded(
    rows: pa.RecordBatch, first_row: int, columns: Columns
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows in slices that Arrow can hold, with the number of the first row of each."""
    if rows.num_rows <= 1 or _is_bounded(rows, columns):
        yield first_row, rows
        return
    half = rows.num_rows // 2
    yield from _bounded(rows.slice(0, half), first_row, columns)
    yield from _bounded(rows.slice(half), first_row + half, columns)


def _is_bounded(rows: pa.RecordBatch, columns: Columns) -> bool:
    sizes = {name: _bytes(rows.column(name)) for name in rows.schema.names}
    content_bytes = sizes.pop(columns.content, 0) if columns.content else 0
    return content_bytes <= _MOST_CONTENT_BYTES and sum(sizes.values()) <= _MOST_TEXT_BYTES


def _bytes(column: pa.Array) -> int:
    """The bytes of a column as it is without a dictionary, which would hide how often each is."""
    kind = column.type
    if not pa.types.is_dictionary(kind) or pa.types.is_primitive(kind.value_type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return pc.sum(lengths.take(column.indices)).as_py() or 0


def _read(
    rows: pa.RecordBatch, file: str, first_row: int, columns: Columns
) -> tuple[pa.RecordBatch, dict[int, _Problem]]:
    """The rows in the schema of `ImageReference`, nulls allowed, and what is wrong with which."""
    problems: dict[int, _Problem] = {}
    numbers = pa.array(np.arange(first_row, first_row + rows.num_rows))
    cells = [
        _texts(rows, columns.data_id, problems, numbers_too=True),
        _texts(rows, columns.uri, problems),
        _contents(rows, columns.content, problems),
        _times(rows, columns.event_time, problems),
        _carried(rows, columns.carried, problems),
        pc.binary_join_element_wise(file, numbers.cast(pa.string()), "#"),
    ]
    _find_missing(cells, problems)
    names = records.ImageReference._fields
    return pa.RecordBatch.from_arrays(cells, names=names), problems


def _part(
    rows: pa.RecordBatch, problems: Mapping[int, _Problem], run_id: str
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows of a slice that can be used, and the dead letters of those that cannot."""
    here = {index: problems[index] for index in range(rows.num_rows) if index in problems}
    unusable = [
        _dead_letter(reference, problem, run_id)
        for index, problem in here.items()
        for reference in records.from_arrow(rows.slice(index, 1), records.ImageReference)
    ]
    usable = _without(rows, here).cast(records.arrow_schema(records.ImageReference))
    return usable, records.to_arrow(unusable, records.DeadLetter)


def _without(rows: pa.RecordBatch, dropped: Collection[int]) -> pa.RecordBatch:
    if not dropped:
        return rows
    return rows.filter(pa.array([index not in dropped for index in range(rows.num_rows)]))


def data_ids(rows: pa.RecordBatch, columns: Columns) -> pa.Array:
    """The ids of some rows as text; null where there is none, or none that can be read."""
    return _texts(rows, columns.data_id, {}, numbers_too=True)


def _digests(
    rows: pa.RecordBatch, problems: Mapping[int, _Problem], batch_size: int
) -> Iterator[str]:
    """A hash of each slice: a changed file, or changed duplicates, make another batch."""
    times = rows.column("event_time").cast(pa.int64()).cast(pa.string())
    texts = [rows.column(name) for name in ("source", "data_id", "uri", "carried")]
    lines = pc.binary_join_element_wise(
        *texts, times, "\x1f", null_handling="replace", null_replacement="\x00"
    )
    offsets = np.frombuffer(lines.buffers()[1], np.int32, rows.num_rows + 1)
    characters = memoryview(lines.buffers()[2] or b"")
    for start in range(0, rows.num_rows, batch_size):
        end = min(start + batch_size, rows.num_rows)
        digest = hashlib.blake2b(characters[offsets[start] : offsets[end]], digest_size=16)
        contents = rows.column("content").slice(start, batch_size)
        for content in contents.drop_null():
            digest.update(hashlib.blake2b(content.as_buffer()).digest())
        wrong = [(n - start, problems[n].code) for n in range(start, end) if n in problems]
        digest.update(repr(wrong).encode() if wrong else b"")
        yield digest.hexdigest()


def _column(rows: pa.RecordBatch, name: str | None) -> pa.Array | None:
    if name is None or name not in rows.schema.names:
        return None
    column = rows.column(name)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _refuse(rows: pa.RecordBatch, column: str, found: Any, problems: dict[int, _Problem]) -> None:
    problem = _Problem("type-wrong", f"column {column} holds {found}")
    problems.update(dict.fromkeys(range(rows.num_rows), problem))


def _texts(
    rows: pa.RecordBatch,
    name: str | None,
    problems: dict[int, _Problem],
    numbers_too: bool = False,
) -> pa.Array:
    """A column of text; of integers too, where they serve as ids."""
    column = _column(rows, name)
    if column is None:
        return pa.nulls(rows.num_rows, pa.string())
    kind = column.type
    if pa.types.is_null(kind) or (numbers_too and pa.types.is_integer(kind)):
        return column.cast(pa.string())
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        _refuse(rows, str(name), kind, problems)
        return pa.nulls(rows.num_rows, pa.string())
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        column = _valid_texts(column, str(name), problems)
    return _short_texts(column.cast(pa.string()), str(name), problems)


def _short_texts(texts: pa.Array, name: str, problems: dict[int, _Problem]) -> pa.Array:
    """The texts that are no longer than a cell should be; the others are problems."""
    too_long = pc.greater(pc.binary_length(texts), MAX_TEXT_BYTES).fill_null(False)
    if not too_long.true_count:
        return texts
    problem = _Problem("text-too-long", f"column {name} has more than {MAX_TEXT_BYTES} bytes")
    for index in np.flatnonzero(too_long):
        problems.setdefault(int(index), problem)
    return pc.if_else(too_long, None, texts)


def _valid_texts(column: pa.Array, name: str, problems: dict[int, _Problem]) -> pa.Array:
    """The texts that are UTF-8; the others, which Parquet does not forbid, are problems."""
    texts: list[str | None] = []
    for index, raw in enumerate(column.cast(pa.binary()).to_pylist()):
        try:
            texts.append(None if raw is None else raw.decode())
        except UnicodeDecodeError:
            problems[index] = _Problem("text-not-utf-8", f"column {name} is not UTF-8")
            texts.append(None)
    return pa.array(texts, pa.string())


def _contents(rows: pa.RecordBatch, name: str | None, problems: dict[int, _Problem]) -> pa.Array:
    column = _column(rows, name)
    if column is None:
        return pa.nulls(rows.num_rows, pa.binary())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return column.cast(pa.binary())
    if not pa.types.is_null(column.type):
        _refuse(rows, str(name), column.type, problems)
    return pa.nulls(rows.num_rows, pa.binary())


def _times(rows: pa.RecordBatch, name: str | None, problems: dict[int, _Problem]) -> pa.Array:
    """A column of timestamps or dates; those without a time zone are taken as UTC.

    A time outside the years 1 to 9999 is a problem of its row.
    """
    column = _column(rows, name)
    utc = pa.timestamp("us", tz="UTC")
    if column is None:
        return pa.nulls(rows.num_rows, utc)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        times = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), False)
        return _within_years(times.cast(utc), _is_in_years(column), str(name), problems)
    if not pa.types.is_null(column.type):
        _refuse(rows, str(name), column.type, problems)
    return pa.nulls(rows.num_rows, utc)


def _is_in_years(column: pa.Array) -> pa.Array:
    """Which times are in the years 1 to 9999, told before a cast to microseconds overflows."""
    days_only = pa.types.is_date32(column.type)
    ticks = column.view(pa.int32()).cast(pa.int64()) if days_only else column.view(pa.int64())
    ticks_a_day = 1 if days_only else _TICKS_A_DAY[getattr(column.type, "unit", "ms")]
    first = max(_FIRST_DAY * ticks_a_day, -(2**63))
    last = min(_END_DAY * ticks_a_day, 2**63) - 1
    return pc.and_(pc.greater_equal(ticks, first), pc.less_equal(ticks, last))


def _within_years(
    times: pa.Array, in_years: pa.Array, name: str, problems: dict[int, _Problem]
) -> pa.Array:
    problem = _Problem("time-out-of-range", f"column {name} is outside the years 1 to 9999")
    for index in np.flatnonzero(pc.invert(in_years).fill_null(False)):
        problems.setdefault(int(index), problem)
    return pc.if_else(in_years, times, None)


def _carried(rows: pa.RecordBatch, names: Sequence[str], problems: dict[int, _Problem]) -> pa.Array:
    present = [name for name in names if name in rows.schema.names]
    if not present:
        return pa.array(["{}"] * rows.num_rows, pa.string())
    cells = rows.select(present)
    try:
        texts = [_json(row) for row in cells.to_pylist()]
    except Exception:  # noqa: BLE001 - a cell that Python cannot hold; which one, is found below
        texts = [_json(_cells(cells, index, problems)) for index in range(rows.num_rows)]
    return pa.array(texts, pa.string())


def _cells(rows: pa.RecordBatch, index: int, problems: dict[int, _Problem]) -> dict[str, Any]:
    """One row as Python has it; None for a cell that it cannot hold, a problem of the row."""
    row: dict[str, Any] = dict.fromkeys(rows.schema.names)
    for name in row:
        try:
            row[name] = rows.column(name)[index].as_py()
        except Exception as error:  # noqa: BLE001 - Arrow raises many kinds
            problems.setdefault(index, _unreadable(name, error))
    return row


def _unreadable(name: str, error: Exception) -> _Problem:
    if isinstance(error, UnicodeDecodeError):
        return _Problem("text-not-utf-8", f"column {name} is not UTF-8")
    if isinstance(error, OverflowError):
        return _Problem("time-out-of-range", f"column {name} is outside the years 1 to 9999")
    return _Problem("type-wrong", f"column {name} cannot be read: {type(error).__name__}")


def _json(row: Mapping[str, Any]) -> str:
    """A row as JSON, which has no NaN and no infinity: they are null."""
    try:
        return _STRICT_JSON.encode(row)
    except ValueError:
        text = json.dumps(row, default=str, ensure_ascii=False)
        return json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)


def _find_missing(cells: Sequence[pa.Array], problems: dict[int, _Problem]) -> None:
    data_ids, uris, contents = cells[:3]
    no_id = _is_missing(data_ids)
    no_place = pc.and_(_is_missing(uris), pc.is_null(contents))
    for mask, problem in ((no_id, _NO_ID), (no_place, _NO_PLACE)):
        for index in np.flatnonzero(mask):
            problems.setdefault(int(index), problem)


def _is_missing(texts: pa.Array) -> pa.Array:
    return pc.is_in(texts, value_set=_NOTHING)


def _dead_letter(row: records.ImageReference, problem: _Problem, run_id: str) -> records.DeadLetter:
    """The dead letter of a row, whose id may be missing or another row's: its key is the place."""
    error = errors.ReferenceInvalid(problem.code, problem.message)
    return dead_letters.of(row, error, run_id)._replace(data_id=row.source)
