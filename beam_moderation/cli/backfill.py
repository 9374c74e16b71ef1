"""The command `backfill`."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import apache_beam as beam
import typer
from rich.console import Console

from beam_moderation import (
    parquet_files,
    progress,
    references,
    resumption,
    runs,
    sinks,
    sources,
    tables,
)
from beam_moderation.cli import jobs, options
from beam_moderation.cli.moderation import Moderation

_URI_COLUMN = "uri"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How references are read."""

    uri_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the URIs.",
            show_default="uri; with --content-column only if there is one",
        ),
    ] = None
    id_column: Annotated[str, typer.Option(help="Column of the ids.")] = "data_id"
    time_column: Annotated[
        str | None, typer.Option(help="Column of the event times; chooses the partition dt.")
    ] = None
    content_column: Annotated[
        str | None, typer.Option(help="Column of images inline, which are not fetched.")
    ] = None
    carry_column: Annotated[
        list[str], typer.Option(help="Column to carry into the table images. Repeatable.")
    ] = dataclasses.field(default_factory=list)
    batch_size: Annotated[
        int, typer.Option(min=1, help="References a batch, the unit of retry.")
    ] = sources.DEFAULT_BATCH_SIZE
    unique_ids: Annotated[
        bool,
        typer.Option("--unique-ids", help="Trust that no id is there twice: begin without a look."),
    ] = False

    def count(self, files: Sequence[str]) -> int:
        """How many references files have.

        Raises:
          ConfigurationError: one has not all the columns.
        """
        default = None if self.content_column else _URI_COLUMN
        needed = references.Columns(
            self.id_column,
            self.uri_column or default,
            self.content_column,
            self.time_column,
            tuple(self.carry_column),
        )
        return sum(parquet_files.check_columns(file, needed.names(), {}) for file in files)

    def transform(self, references_url: str, run_id: str) -> sources.ReadReferencesFromParquet:
        """The transform that the options describe."""
        return sources.ReadReferencesFromParquet(
            references_url,
            id_column=self.id_column,
            uri_column=self.uri_column or _URI_COLUMN,
            content_column=self.content_column,
            time_column=self.time_column,
            carry_columns=self.carry_column,
            batch_size=self.batch_size,
            unique_ids=self.unique_ids,
            run_id=run_id,
        )


def backfill(
    context: typer.Context,
    references_url: Annotated[
        str,
        typer.Argument(metavar="REFERENCES", help="Parquet file, folder or glob; an fsspec URL."),
    ],
    out: options.Out,
    reading: Reading,
    moderation: Moderation,
    retry_dead_letters: Annotated[
        list[str],
        typer.Option(
            metavar="CODE",
            help="Judge again what ended in a dead letter of this code, as scheme-refused or "
            f"fetch-too-large, or {resumption.RETRYABLE}. Repeatable.",
        ),
    ] = [],  # noqa: B006
) -> None:
    """Moderates the images that Parquet files refer to. Run it again to go on where it stopped."""
    beam_options = options.make_beam_options(context.args, options.names(context))
    files = parquet_files.list_files(references_url, {})
    total = reading.count(files)
    written, run_id = tables.Tables(out), runs.new_run_id()
    written.create()
    judge = moderation.transform(
        written, run_id, resumes=True, retry_dead_letters=retry_dead_letters
    )
    read = reading.transform(references_url, run_id)

    def wire(pipeline: beam.Pipeline) -> None:
        _ = pipeline | read | judge | sinks.WriteParquet(written)

    watch = progress.Progress(Console(stderr=True), written, run_id, total, files)
    jobs.run(wire, beam_options, watch, out)
