"""Which rows of a set of Parquet files have an id that an earlier row has.

Ids cross the shuffle as Arrow arrays, by row group and shard: about a microsecond a row.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_moderation import parquet_files, references
from beam_moderation.parquet_files import RowGroup, StorageOptions

IDS_A_SHARD = 1_000_000
"""How many ids are compared in one place; a guess at what fits a worker's memory with ease."""

_ROWS_A_READ = 65_536

_ID_CHARACTERS = 1024
"""Ids of more are compared by their hashes, for all are held at once."""


class FindDuplicates(beam.PTransform):
    """From `(row group, shards)` to `((file, row group's number), rows)`, once for every shard.

    `rows` is a frozenset of row numbers. The first row, by file and number, keeps the id.
    """

    def __init__(self, columns: references.Columns, storage_options: StorageOptions) -> None:
        super().__init__()
        self._columns, self._options = columns, storage_options

    def expand(self, groups: Any) -> Any:
        """Groups the ids by shard, and compares within one."""
        return (
            groups
            | "ReadIds" >> beam.FlatMap(self._read)
            | "GroupByShard" >> beam.GroupByKey()
            | "Compare" >> beam.FlatMapTuple(lambda _, shard: find_duplicates(shard))
        )

    def _read(self, listed: tuple[RowGroup, int]) -> Iterator[tuple[int, "Ids"]]:
        return read_ids(*listed, self._columns, self._options)


class Ids(NamedTuple):
    """Ids of one row group, with the number of each one's row in the file."""

    file: str
    group: int
    ids: pa.Array
    rows: pa.Array


def shards_for(groups: Iterable[RowGroup]) -> int:
    """In how many places the ids of some row groups are compared."""
    return 1 + sum(group.rows for group in groups) // IDS_A_SHARD


def read_ids(
    group: RowGroup, shards: int, columns: references.Columns, storage_options: StorageOptions
) -> Iterator[tuple[int, Ids]]:
    """The ids of a row group, by shard."""
    row = group.first_row
    with parquet_files.opened(group.file, storage_options) as parquet:
        for rows in parquet_files.iterate(parquet, group.number, [columns.data_id], _ROWS_A_READ):
            ids = _with_hashes(references.data_ids(rows, columns))
            numbers = np.arange(row, row + rows.num_rows)
            for shard, chosen in _by_shard(ids, shards):
                yield (
                    shard,
                    Ids(group.file, group.number, ids.filter(chosen), pa.array(numbers[chosen])),
                )
            row += rows.num_rows


def _with_hashes(ids: pa.Array) -> pa.Array:
    """The ids, long ones as their hashes."""
    long = pc.greater(pc.utf8_length(ids), _ID_CHARACTERS).fill_null(False)
    if not long.true_count:
        return ids
    pa.default_memory_pool().release_unused()  # or what is kept lies between what was long
    hashes = [hashlib.sha256(text.as_buffer()).hexdigest() for text in ids.filter(long)]
    return pc.replace_with_mask(ids, long, pa.array(hashes, pa.string()))


def _by_shard(ids: pa.Array, shards: int) -> Iterator[tuple[int, np.ndarray]]:
    """The shards that some ids belong to, each with which of the ids; null ids to none."""
    present = np.asarray(ids.is_valid())
    if shards == 1:
        yield 0, present
        return
    texts = ids.fill_null("").to_pylist()
    shard = np.fromiter((zlib.crc32(text.encode()) % shards for text in texts), int, len(texts))
    for number in np.unique(shard[present]):
        yield int(number), (shard == number) & present


def find_duplicates(parts: Iterable[Ids]) -> Iterator[tuple[tuple[str, int], frozenset[int]]]:
    """The rows, by file and row group, whose id an earlier row has."""
    parts = sorted(parts, key=lambda part: (part.file, part.rows[:1].to_pylist()))
    ids = pa.chunked_array([part.ids for part in parts], pa.string())
    counts = pa.table({"id": ids}).group_by("id").aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))["id"].combine_chunks()
    seen: set[str] = set()
    for part in parts if len(repeated) else ():
        suspect = pc.is_in(part.ids, repeated)
        rows = set()
        for text, row in zip(
            part.ids.filter(suspect).to_pylist(), part.rows.filter(suspect).to_pylist(), strict=True
        ):
            rows.update([row] if text in seen else [])
            seen.add(text)
        if rows:
            yield (part.file, part.group), frozenset(rows)
