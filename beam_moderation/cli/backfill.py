"""The command `backfill`."""

from typing import Annotated

import typer
from rich.console import Console

from beam_moderation import (
    fetch,
    images,
    moderate,
    parquet_files,
    progress,
    references,
    sinks,
    sources,
    tables,
)
from beam_moderation.cli import jobs, options

_LIMITS = fetch.FetchLimits()
_SAMPLING = images.Sampling()


def backfill(
    context: typer.Context,
    references_url: Annotated[
        str,
        typer.Argument(metavar="REFERENCES", help="Parquet file, folder or glob; an fsspec URL."),
    ],
    out: options.Out,
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
    scanner: options.Scanners = [],  # noqa: B006
    model: options.Models = [],  # noqa: B006
    policy: options.PolicyUrl = None,
    interval: options.Interval = _SAMPLING.interval,
    max_frames: options.MaxFrames = _SAMPLING.max_frames,
    workers: options.Workers = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="References a batch, the unit of retry.")
    ] = sources.DEFAULT_BATCH_SIZE,
    local_root: options.LocalRoots = [],  # noqa: B006
    bucket: options.Buckets = [],  # noqa: B006
    allow_host: options.AllowHosts = [],  # noqa: B006
    timeout: options.Timeout = _LIMITS.deadline_s,
    max_bytes: options.MaxBytes = _LIMITS.max_bytes,
) -> None:
    """Moderates the images that Parquet files refer to. Run it again to go on where it stopped."""
    own = [name for parameter in context.command.params for name in parameter.opts]
    beam_options = options.make_beam_options(context.args, own)
    columns = references.Columns(
        id_column, uri_column, content_column, time_column, tuple(carry_column)
    )
    files = parquet_files.list_files(references_url, {})
    total = sum(parquet_files.check_columns(file, columns.names(), {}) for file in files)
    judges, rules = options.make_judges(scanner, model, policy)
    written, run_id = tables.Tables(out), moderate.new_run_id()
    jobs.run(
        [
            sources.ReadReferencesFromParquet(
                references_url,
                id_column=id_column,
                uri_column=uri_column,
                content_column=content_column,
                time_column=time_column,
                carry_columns=carry_column,
                batch_size=batch_size,
                run_id=run_id,
            ),
            moderate.ModerateWithModel(
                judges,
                policy=rules,
                fetcher=options.make_fetcher(local_root, bucket, allow_host, timeout, max_bytes),
                sampling=images.Sampling(interval, max_frames),
                threads=workers,
                resume_from=written,
                run_id=run_id,
            ),
            sinks.WriteParquet(written),
        ],
        beam_options,
        progress.Progress(Console(stderr=True), written, files, total),
        out,
    )
