"""Parquet files by fsspec URL: which there are, their row groups, their columns."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_moderation import errors

StorageOptions = Mapping[str, Any]


class RowGroup(NamedTuple):
    """A row group of a file: which, the number in the file of its first row, how many rows."""

    file: str
    number: int
    first_row: int
    rows: int


def list_files(pattern: str, storage_options: StorageOptions) -> list[str]:
    """The files that an fsspec URL, a glob or a folder names, as full URLs, sorted.

    Raises:
      ConfigurationError: there is none, or they cannot be listed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(pattern, **storage_options)
        if fs.isdir(path):
            path = path.rstrip("/") + "/**/*.parquet"
        paths = [name for name in fs.glob(path) if not fs.isdir(name)]
    except (OSError, ValueError, ImportError) as error:
        raise errors.ConfigurationError(f"cannot list {pattern}: {error}") from error
    if not paths:
        raise errors.ConfigurationError(f"no file matches {pattern}")
    return sorted(fs.unstrip_protocol(path) for path in paths)


@contextlib.contextmanager
def opened(file: str, storage_options: StorageOptions) -> Iterator[pq.ParquetFile]:
    """The Parquet file at an fsspec URL, closed at the end.

    Raises:
      ConfigurationError: it cannot be opened, or is not Parquet.
    """
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(fsspec.open(file, "rb", **storage_options))
            parquet = pq.ParquetFile(stream, pre_buffer=False)
        except (OSError, pa.ArrowInvalid, ImportError) as error:
            raise errors.ConfigurationError(f"cannot read {file}: {error}") from error
        yield parquet


def row_groups(file: str, storage_options: StorageOptions) -> Iterator[RowGroup]:
    """The row groups of a Parquet file that have rows."""
    first_row = 0
    with opened(file, storage_options) as parquet:
        for number in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(number).num_rows
            if rows:
                yield RowGroup(file, number, first_row, rows)
            first_row += rows


def check_columns(file: str, names: Iterable[str], storage_options: StorageOptions) -> int:
    """Checks that a file has the columns, and returns how many rows it has.

    Raises:
      ConfigurationError: one line that names the missing column and those that there are.
    """
    with opened(file, storage_options) as parquet:
        present = parquet.schema_arrow.names
        for name in names:
            if name not in present:
                raise errors.ConfigurationError(
                    f"{file} has no column '{name}'; it has {', '.join(present)}"
                )
        return int(parquet.metadata.num_rows)


def iterate(
    parquet: pq.ParquetFile, group: int, names: Iterable[str], batch_size: int
) -> Iterator[pa.RecordBatch]:
    """The rows of one row group, `batch_size` at a time, of those columns that there are."""
    present = [name for name in names if name in parquet.schema_arrow.names]
    return parquet.iter_batches(batch_size, row_groups=[group], columns=present, use_threads=False)
