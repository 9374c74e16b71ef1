"""Parquet files by fsspec URL: which there are, their row groups, their columns."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_moderation import errors

StorageOptions = Mapping[str, Any]

_CREDENTIALS = re.compile(r"(?<=://)[^/?#@]*:[^/?#]*@")
_WEB_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_WEB_URL = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)

_TEXT_BYTES = 2**24
_OTHER_BYTES = 2**29
"""What a column's cells that are read together may take, by what the file says of them: one value
that stands in a page's dictionary, or that compresses well, may expand ten thousand times."""

_PEEK_BUFFER_BYTES = 2**16


class File(pq.ParquetFile):
    """A Parquet file that knows the URL it came from."""

    def __init__(self, url: str, stream: Any) -> None:
        super().__init__(stream, pre_buffer=False)
        self.url, self._stream = url, stream

    def longest(self, group: int, names: Sequence[str]) -> Mapping[str, int]:
        """The bytes of the longest value in the dictionaries of some columns of bytes."""
        peeking = pq.ParquetFile(
            self._stream,
            metadata=self.metadata,
            read_dictionary=names,
            buffer_size=_PEEK_BUFFER_BYTES,
            pre_buffer=False,
        )
        row = next(peeking.iter_batches(1, [group], names, use_threads=False))
        return {
            name: pc.max(pc.binary_length(column.dictionary)).as_py() or 0
            for name, column in zip(row.schema.names, row.columns, strict=True)
            if pa.types.is_dictionary(column.type)
        }

    def check_columns(self, names: Iterable[str]) -> None:
        """Checks that there are columns of some names.

        Raises:
          ConfigurationError: one line that names the missing column and those that there are.
        """
        present = self.schema_arrow.names
        for name in names:
            if name not in present:
                raise errors.ConfigurationError(
                    f"{shown(self.url)} has no column '{name}'; it has {', '.join(present)}"
                )


class RowGroup(NamedTuple):
    """A row group of a file: which, the number in the file of its first row, how many rows."""

    file: str
    number: int
    first_row: int
    rows: int


def shown(url: str) -> str:
    """A file's URL for people and for tables, the same whoever signed it: without credentials.

    A web URL's query and fragment are left out too; of other filesystems they are names.
    """
    if not _WEB_URL.search(url):
        return _CREDENTIALS.sub("", url)
    return re.split("[?#]", _WEB_USERINFO.sub("", url))[0]


def reason(error: Exception) -> str:
    """An error's text in one line; of web URLs in it, what `shown` leaves of them."""
    text = _WEB_URL.sub(lambda found: shown(found[0]), str(error))
    return " ".join(text.split())


def _cannot(do: str, url: str, error: Exception) -> errors.ConfigurationError:
    """A filesystem's error; its text may hold the URL as it was asked for."""
    why = reason(error).replace(url, shown(url)) or type(error).__name__
    return errors.ConfigurationError(f"cannot {do} {shown(url)}: {why}")


def list_files(pattern: str, storage_options: StorageOptions) -> list[str]:
    """The files that an fsspec URL, a glob or a folder names, as full URLs, sorted.

    A file or folder of exactly that name comes before what the name matches as a glob. Of a folder
    what begins with `_` or `.` is left out, as Spark and Arrow do: files that are not finished.

    Raises:
      ConfigurationError: there is none, or they cannot be listed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(pattern, **storage_options)
        paths = _list(fs, path)
    except Exception as error:  # of a cloud's library it may be anything
        raise _cannot("list", pattern, error) from error
    if not paths:
        raise errors.ConfigurationError(f"no file matches {shown(pattern)}")
    return sorted(fs.unstrip_protocol(path) for path in paths)


def _list(fs: Any, path: str) -> list[str]:
    if fs.isfile(path):
        return [path]
    if fs.isdir(path):
        return [name for name in fs.find(path) if _is_visible(name.removeprefix(path))]
    return [name for name in fs.glob(path) if not fs.isdir(name)]


def _is_visible(name: str) -> bool:
    """Whether a file, by its name below a folder, is Parquet that is meant to be seen."""
    hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
    return name.endswith(".parquet") and not hidden


@contextlib.contextmanager
def opened(file: str, storage_options: StorageOptions) -> Iterator[File]:
    """The Parquet file at an fsspec URL, closed at the end.

    Raises:
      ConfigurationError: it cannot be opened, or is not Parquet.
    """
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(fsspec.open(file, "rb", **storage_options))
            parquet = File(file, stream)
        except Exception as error:
            raise _cannot("read", file, error) from error
        yield parquet


def row_groups(
    file: str, storage_options: StorageOptions, needed: Iterable[str] = ()
) -> Iterator[RowGroup]:
    """The row groups of a Parquet file that have rows.

    Raises:
      ConfigurationError: one of the needed columns is missing.
    """
    first_row = 0
    with opened(file, storage_options) as parquet:
        parquet.check_columns(needed)
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
        parquet.check_columns(names)
        return int(parquet.metadata.num_rows)


def iterate(
    parquet: File, group: int, names: Iterable[str], batch_size: int
) -> Iterator[pa.RecordBatch]:
    """The rows of one row group, `batch_size` at a time, of those columns that there are.

    They are fewer at a time where they would take too much memory.

    Raises:
      ConfigurationError: its pages are damaged.
    """
    present = [name for name in names if name in parquet.schema_arrow.names]
    try:
        yield from parquet.iter_batches(
            _rows_at_once(parquet, group, present, batch_size),
            row_groups=[group],
            columns=present,
            use_threads=False,
        )
    except Exception as error:
        raise _cannot("read", parquet.url, error) from error


def _rows_at_once(parquet: File, group: int, names: Sequence[str], most: int) -> int:
    """`most`, halved until no column's cells take too much, were each the longest of a dictionary.

    Where there is no dictionary the mean counts. In lists and structures no dictionary is looked
    at.
    """
    chunks = parquet.metadata.row_group(group)
    columns = [
        (chunks.column(index), parquet.schema.column(index).logical_type.type)
        for index in range(chunks.num_columns)
        if chunks.column(index).path_in_schema.partition(".")[0] in names
    ]
    paths = [chunk.path_in_schema for chunk, _ in columns if chunk.has_dictionary_page]
    longest = parquet.longest(group, [path for path in paths if path in names])
    for chunk, kind in columns:
        mean = chunk.total_uncompressed_size // chunks.num_rows
        a_row = max(mean, longest.get(chunk.path_in_schema, 0))
        while most > 1 and most * a_row > (_TEXT_BYTES if kind == "STRING" else _OTHER_BYTES):
            most //= 2
    return most
