"""Parquet files by fsspec URL: which there are, their row groups, their columns."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_moderation import errors

StorageOptions = Mapping[str, Any]

_CREDENTIALS = re.compile(r"(?<=://)[^/?#@]*:[^/?#]*@")
_WEB_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_WEB_URL = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)


class File(pq.ParquetFile):
    """A Parquet file that knows the URL it came from."""

    def __init__(self, url: str, stream: Any) -> None:
        super().__init__(stream, pre_buffer=False)
        self.url = url


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

    A file or folder of exactly that name comes before what the name matches as a glob.

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
        return [name for name in fs.find(path) if name.endswith(".parquet")]
    return [name for name in fs.glob(path) if not fs.isdir(name)]


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
                    f"{shown(file)} has no column '{name}'; it has {', '.join(present)}"
                )
        return int(parquet.metadata.num_rows)


def iterate(
    parquet: File, group: int, names: Iterable[str], batch_size: int
) -> Iterator[pa.RecordBatch]:
    """The rows of one row group, `batch_size` at a time, of those columns that there are.

    Raises:
      ConfigurationError: its pages are damaged.
    """
    present = [name for name in names if name in parquet.schema_arrow.names]
    try:
        yield from parquet.iter_batches(
            batch_size, row_groups=[group], columns=present, use_threads=False
        )
    except Exception as error:
        raise _cannot("read", parquet.url, error) from error
