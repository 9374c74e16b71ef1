"""The command `backfill`."""

from typing import Annotated

import apache_beam as beam
import typer
from rich.console import Console

from beam_moderation import parquet_files, progress, references, runs, sinks, sources, tables
from beam_moderation.cli import jobs, options
from beam_moderation.cli.moderation import Moderation


def backfill(
    context: typer.Context,
    references_url: Annotated[
        str,
        typer.Argument(metavar="REFERENCES", help="Parquet file, folder or glob; an fsspec URL."),
    ],
    out: options.Out,
    moderation: Moderation,
    uri_column: Annotated[str, typer.Option(help="Column of the URIs.")] = "uri",
    id_column: Annotated[str, typer.Option(help="Column of the ids.")] = "data_id",
    time_column: Annotated[
        str | None, typer.Option(help="Column of the event times; chooses the partition dt.")
    ] = None,
    content_column: Annotated[
        str | None, typer.Option(help="Column of images inline, which are not fetched.")
    ] = None,
    carry_column: Annotated[
        list[str], typer.Option(help="Column to carry into the table images. Repeatable.")
    ] = [],  # noqa: B006
    batch_size: Annotated[
        int, typer.Option(min=1, help="References a batch, the unit of retry.")
    ] = sources.DEFAULT_BATCH_SIZE,
) -> None:
    """Moderates the images that Parquet files refer to. Run it again to go on where it stopped."""
    beam_options = options.make_beam_options(context.args, options.names(context))
    columns = references.Columns(
        id_column, uri_column, content_column, time_column, tuple(carry_column)
    )
    files = parquet_files.list_files(references_url, {})
    total = sum(parquet_files.check_columns(file, columns.names(), {}) for file in files)
    written, run_id = tables.Tables(out), runs.new_run_id()
    written.create()
    judge = moderation.transform(written, run_id, resumes=True)
    read = sources.ReadReferencesFromParquet(
        references_url,
        id_column=id_column,
        uri_column=uri_column,
        content_column=content_column,
        time_column=time_column,
        carry_columns=carry_column,
        batch_size=batch_size,
        run_id=run_id,
    )

    def wire(pipeline: beam.Pipeline) -> None:
        _ = pipeline | read | judge | sinks.WriteParquet(written)

    watch = progress.Progress(Console(stderr=True), written, run_id, total, files)
    jobs.run(wire, beam_options, watch, out)
