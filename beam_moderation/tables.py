"""The three tables as Parquet files in a folder, written one batch at a time, each exactly once.

```
scenes/dt=2026-11-20/scene=porn/<batch>.parquet     rows; the partition's column is in the path
images/dt=2026-11-20/<batch>.parquet
dead_letters/dt=2026-11-20/<batch>.parquet
_batches/<batch>.json                               the commit: what the batch is made of
_staging/<batch>-<attempt>/…                        rows that are not committed yet
```

A batch is written to `_staging`, committed by the appearance of its commit file, and only then
moved to where readers look, one file after the other. So readers see nothing of a batch that may be
done again, and a batch that was killed half-way is either finished from its commit file or done
again. Of several attempts at one batch the first to commit wins. What is committed is on the disk.

Whoever deletes published files, those of old partitions say, leaves the commit: the batch is done,
and its rows are no more.

`dt` is the UTC date of the reference's event time, `__HIVE_DEFAULT_PARTITION__` (Hive's null) where
it has none: a date of processing would put a batch that is done again into two places.
"""

import contextlib
import dataclasses
import json
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_moderation import durable_files, errors, records

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""Hive's name for the partition of rows whose column is null."""

_PARTITION_COLUMNS = {"scenes": ("dt", "scene"), "images": ("dt",), "dead_letters": ("dt",)}


@dataclasses.dataclass(frozen=True)
class Commit:
    """What a committed batch is made of.

    `files` maps the path of each file below the root to its path in `_staging`. `references` counts
    the references that the batch accounts for.
    """

    batch_id: str
    files: Mapping[str, str]
    references: int
    dead_letters: int
    source: str
    run_id: str


class Tables:
    """The tables below an fsspec URL. Picklable; opens its filesystem where it is used.

    Raises:
      ConfigurationError: the URL's filesystem cannot be had.
    """

    def __init__(self, url: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self._options = dict(storage_options or {})
        self._open()

    def _open(self) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url, **self._options)
        except (ImportError, ValueError, OSError) as error:
            raise errors.ConfigurationError(f"cannot write to {self.url}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def create(self) -> None:
        """Makes the folder, so that one that cannot be written to is known before the work.

        Raises:
          ConfigurationError: it cannot be made.
        """
        try:
            durable_files.make_folder(self._fs, self._path("_batches"))
        except OSError as error:
            raise errors.ConfigurationError(f"cannot write to {self.url}: {error}") from error

    def write(self, outcome: records.OutcomeBatch) -> Commit:
        """Writes a batch, or finishes what an earlier attempt committed. May be repeated."""
        commit = self.commit(outcome.id) or self._commit(outcome)
        self._publish(commit)
        return commit

    def commit(self, batch_id: str) -> Commit | None:
        """The commit of a batch, None where there is none, or none that was written whole."""
        try:
            content = self._fs.cat_file(self._commit_path(batch_id))
            return Commit(**json.loads(content))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def commits(self, batch_ids: Iterable[str]) -> Iterator[Commit]:
        """The commits of many batches, which an object store is asked for at once."""
        paths = [self._commit_path(batch_id) for batch_id in batch_ids]
        for content in self._fs.cat_ranges(paths, None, None, on_error="return"):
            with contextlib.suppress(ValueError, TypeError):  # an error, or one not written whole
                yield Commit(**json.loads(content))

    def _commit_path(self, batch_id: str) -> str:
        return self._path("_batches", f"{batch_id}.json")

    def batch_ids(self) -> set[str]:
        """The ids of all committed batches."""
        folder = self._path("_batches")
        self._fs.invalidate_cache(folder)
        try:
            names = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return set()
        return {posixpath.basename(n).removesuffix(".json") for n in names if n.endswith(".json")}

    def read(self, commit: Commit) -> records.OutcomeBatch:
        """The rows of a committed batch, but those whose files were removed since."""
        self._publish(commit)
        parts: dict[str, list[pa.Table]] = {name: [] for name in records.TABLES}
        for path in commit.files:
            with contextlib.suppress(FileNotFoundError):
                parts[path.partition("/")[0]].append(self._read_file(path))
        batches = {}
        for name, record in records.TABLES.items():
            empty = records.to_arrow([], record)
            table = pa.concat_tables([pa.Table.from_batches([empty]), *parts[name]])
            batches[name] = (table.combine_chunks().to_batches() or [empty])[0]
        return records.OutcomeBatch(commit.batch_id, **batches)

    def _read_file(self, path: str) -> pa.Table:
        """A file's rows with the column that its path holds, in the schema of its table."""
        table_name, *partitions, _ = path.split("/")
        with self._fs.open(self._path(path), "rb") as file:
            rows = pq.ParquetFile(file).read()
        schema = records.arrow_schema(records.TABLES[table_name])
        for partition in partitions:
            column, _, value = partition.partition("=")
            if column in schema.names:
                rows = rows.append_column(column, pa.array([unquote(value)] * rows.num_rows))
        return rows.select(schema.names).cast(schema)

    def _commit(self, outcome: records.OutcomeBatch) -> Commit:
        """Stages the rows of a batch and commits them, unless another attempt is faster."""
        staging = f"_staging/{outcome.id}-{uuid.uuid4().hex}"
        commit = self._plan(outcome, staging)
        try:
            for (_, rows), staged in zip(files_of(outcome), commit.files.values(), strict=True):
                self._write_file(staged, rows)
            self._create(commit)
        except (FileExistsError, FileNotFoundError):  # a faster one, which discards what is staged
            self._remove(staging)
            return self._winner(outcome.id)
        self._discard_staging(outcome.id, but=staging)
        return commit

    def _plan(self, outcome: records.OutcomeBatch, staging: str) -> Commit:
        paths = [path for path, _ in files_of(outcome)]
        return Commit(
            outcome.id,
            {path: f"{staging}/{number}.parquet" for number, path in enumerate(paths)},
            references=len(outcome),
            dead_letters=outcome.dead_letters.num_rows,
            **_provenance(outcome),
        )

    def _winner(self, batch_id: str) -> Commit:
        commit = self.commit(batch_id)
        if commit is None:
            raise FileNotFoundError(f"what was staged of batch {batch_id} is gone")
        return commit

    def _write_file(self, path: str, rows: pa.RecordBatch) -> None:
        self._fs.makedirs(posixpath.dirname(self._path(path)), exist_ok=True)
        content = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches([rows]), content, compression="zstd")
        durable_files.write(self._fs, self._path(path), content.getvalue().to_pybytes())

    def _create(self, commit: Commit) -> None:
        """Makes the commit file at once and whole; FileExistsError if there is one already."""
        path, content = self._commit_path(commit.batch_id), json.dumps(dataclasses.asdict(commit))
        self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        if durable_files.create(self._fs, path, content.encode()):
            return
        if self.commit(commit.batch_id):
            raise FileExistsError(path)
        durable_files.write(self._fs, path, content.encode())  # the one that is there is damaged

    def _publish(self, commit: Commit) -> None:
        """Moves what is still staged to where readers look.

        What is neither staged nor there was published and then removed, by whoever owns the tables.
        """
        for path, staged in commit.files.items():
            target = self._path(path)
            if self._fs.exists(target) or not self._fs.exists(self._path(staged)):
                continue
            self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another attempt is faster
                self._fs.mv(self._path(staged), target)
        for staged in list(commit.files.values())[:1]:
            self._remove(posixpath.dirname(staged))

    def _discard_staging(self, batch_id: str, but: str) -> None:
        """Removes what attempts left that cannot commit any more."""
        for path in self._fs.glob(self._path("_staging", f"{batch_id}-*")):
            if posixpath.basename(path) != posixpath.basename(but):
                self._remove(f"_staging/{posixpath.basename(path)}")

    def _remove(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # another attempt may be removing it too
            self._fs.rm(self._path(folder), recursive=True)


def files_of(outcome: records.OutcomeBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The files of a batch: the path of each below the root, and its rows."""
    for name, rows in outcome.tables():
        if rows.num_rows:
            yield from _partitioned(name, rows, _PARTITION_COLUMNS[name], outcome.id)


def _partitioned(
    folder: str, rows: pa.RecordBatch, columns: Sequence[str], batch_id: str
) -> Iterator[tuple[str, pa.RecordBatch]]:
    if not columns:
        yield f"{folder}/{batch_id}.parquet", rows
        return
    column, *deeper = columns
    values = _dates(rows) if column == "dt" else rows.column(column)
    for value in values.unique().to_pylist():
        part = rows.filter(pc.equal(values, value))
        rest = [name for name in part.schema.names if name != column]
        path = f"{folder}/{column}={quote(value, safe='')}"
        yield from _partitioned(path, part.select(rest), deeper, batch_id)


def _dates(rows: pa.RecordBatch) -> pa.Array:
    return pc.strftime(rows.column("event_time"), "%Y-%m-%d").fill_null(NULL_PARTITION)


def _provenance(outcome: records.OutcomeBatch) -> dict[str, str]:
    """Where the first reference of a batch came from, and the run that judged it."""
    for _, rows in outcome.tables():
        if rows.num_rows:
            return {name: rows.column(name)[0].as_py() for name in ("source", "run_id")}
    return {"source": "", "run_id": ""}
