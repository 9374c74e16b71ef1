"""`ReadReferencesFromParquet`: from Parquet files to `ReferenceBatch`es.

A file is cut by row group and a row group by slices of `batch_size` rows; the references cross one
shuffle as (file, row group), and rows are read only behind it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import apache_beam as beam

from beam_moderation import duplicates, errors, parquet_files, records, references
from beam_moderation.parquet_files import RowGroup, StorageOptions

DEFAULT_BATCH_SIZE = 256
"""References a batch: 1.5 seconds of work at 170 images a second, and what a kill may cost."""

_BATCHES_A_READ = 16


def read_batches(
    group: RowGroup,
    columns: references.Columns,
    taken: frozenset[int] = frozenset(),
    batch_size: int = DEFAULT_BATCH_SIZE,
    run_id: str = "",
    storage_options: StorageOptions = MappingProxyType({}),
) -> Iterator[records.ReferenceBatch]:
    """Cuts a row group into reference batches.

    Args:
      taken: the numbers of the rows, in the file, whose id an earlier row has.
      run_id: what dead letters carry.
    """
    row = group.first_row
    at_once = batch_size * (1 if columns.content else _BATCHES_A_READ)
    with parquet_files.opened(group.file, storage_options) as parquet:
        for rows in parquet_files.iterate(parquet, group.number, columns.names(), at_once):
            yield from references.to_batches(
                rows, group.file, row, columns, taken, batch_size, run_id
            )
            row += rows.num_rows


class ReadReferencesFromParquet(beam.PTransform):
    """Reads image references from Parquet files.

    A column that a file does not have stops the job, with one line; only `uri_column` may be
    missing, where images come inline. A row whose id is null, empty or taken, that has neither a
    URI nor content, or whose column is of a wrong type becomes a dead letter with file and row as
    its `data_id` and `source`.

    Args:
      pattern: an fsspec URL of a file, a folder or a glob.
      id_column: text or integers.
      uri_column: text; None where all images are inline.
      content_column: bytes of the images, which then need no URI.
      time_column: timestamps or dates of the events; they choose the partition `dt`.
      carry_columns: columns that go to the table `images`, as JSON, untouched.
      batch_size: references a batch, the unit of work, retry and checkpoint.
      unique_ids: whether the ids are known to be unique. If not, all of them are read and compared
        before the first batch begins, which takes their size in memory over all workers.
      run_id: what dead letters carry.
      storage_options: for fsspec, to read the files.

    Returns:
      A PCollection of `ReferenceBatch`.
    """

    def __init__(
        self,
        pattern: str,
        *,
        id_column: str = "data_id",
        uri_column: str | None = "uri",
        content_column: str | None = None,
        time_column: str | None = None,
        carry_columns: Sequence[str] = (),
        batch_size: int = DEFAULT_BATCH_SIZE,
        unique_ids: bool = False,
        run_id: str = "",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not (uri_column or content_column):
            raise errors.ConfigurationError("name a uri column, a content column, or both")
        if batch_size < 1:
            raise errors.ConfigurationError(f"batch_size must be at least 1, not {batch_size}")
        self._pattern = pattern
        self._columns = references.Columns(
            id_column, uri_column, content_column, time_column, tuple(carry_columns)
        )
        self._batch_size = batch_size
        self._unique_ids = unique_ids
        self._run_id = run_id
        self._options = dict(storage_options or {})

    def expand(self, root: Any) -> Any:
        """Lists files, shuffles row groups, finds duplicate ids, and reads."""
        groups = (
            root
            | "Once" >> beam.Impulse()
            | "ListRowGroups" >> beam.FlatMap(self._list)
            | "SpreadRowGroups" >> beam.Reshuffle()
        )
        return groups | "ReadBatches" >> beam.FlatMap(
            self._read, *self._taken(groups)
        ).with_output_types(records.ReferenceBatch)

    def _taken(self, groups: Any) -> Iterator[Any]:
        if not self._unique_ids:
            find = duplicates.FindDuplicates(self._columns, self._options)
            yield beam.pvalue.AsMultiMap(groups | "FindDuplicates" >> find)

    def _list(self, _: bytes) -> Iterator[tuple[RowGroup, int]]:
        """The row groups, each with the number of places where all their ids are compared."""
        files = parquet_files.list_files(self._pattern, self._options)
        groups = [
            group
            for file in files
            for group in parquet_files.row_groups(file, self._options, self._columns.needed())
        ]
        shards = duplicates.shards_for(groups)
        return ((group, shards) for group in groups)

    def _read(
        self,
        listed: tuple[RowGroup, int],
        taken: Mapping[tuple[str, int], Iterable[frozenset[int]]] | None = None,
    ) -> Iterator[records.ReferenceBatch]:
        group, _ = listed
        rows = () if taken is None else taken[group.file, group.number]
        return read_batches(
            group,
            self._columns,
            frozenset().union(*rows),
            self._batch_size,
            self._run_id,
            self._options,
        )
