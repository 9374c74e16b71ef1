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
    runs,
    sinks,
    sources,
    tables,
    vendor_moderation,
)
from beam_moderation.cli import jobs, options, vendors

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
    gpu: options.Gpu = False,
    policy: options.PolicyUrl = None,
    interval: options.Interval = _SAMPLING.interval,
    max_frames: options.MaxFrames = _SAMPLING.max_frames,
    workers: options.Workers = None,
    isolate: options.Isolate = False,
    vendor: vendors.Name = None,
    region: vendors.Region = None,
    scene: vendors.Scenes = [],  # noqa: B006
    mode: vendors.Mode = "sync",
    biz_type: vendors.BizType = None,
    endpoint: vendors.Endpoint = None,
    vendor_option: vendors.Options = [],  # noqa: B006
    credentials: vendors.Credentials = None,
    qps: vendors.CallsPerSecond = None,
    images_per_second: vendors.ImagesPerSecond = None,
    max_in_flight: vendors.MaxInFlight = None,
    lanes: vendors.Lanes = 1,
    fit: vendors.Fit = False,
    deadline: vendors.Deadline = vendors.DEADLINE_S,
    callback: vendors.Callback = None,
    callback_seed: vendors.CallbackSeed = None,
    callbacks_from: vendors.CallbacksFrom = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="References a batch, the unit of retry.")
    ] = sources.DEFAULT_BATCH_SIZE,
    local_root: options.LocalRoots = [],  # noqa: B006
    bucket: options.Buckets = [],  # noqa: B006
    allow_host: options.AllowHosts = [],  # noqa: B006
    allow_network: options.AllowNetworks = [],  # noqa: B006
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
    written, run_id = tables.Tables(out), runs.new_run_id()
    written.create()
    fetcher = options.make_fetcher(
        local_root, bucket, allow_host, allow_network, timeout, max_bytes
    )
    moderation: moderate.ModerateWithModel | vendor_moderation.ModerateWithVendor
    if vendor is None:
        judges, rules = options.make_judges(scanner, model, gpu, policy)
        moderation = moderate.ModerateWithModel(
            judges,
            policy=rules,
            fetcher=fetcher,
            sampling=images.Sampling(interval, max_frames),
            threads=workers,
            isolate=isolate,
            resume_from=written,
            run_id=run_id,
        )
    else:
        moderation = vendors.make_moderation(
            vendors.make_vendor(
                vendor,
                vendor_option,
                region=region,
                scenes=tuple(scene),
                asynchronous=mode == "async",
                biz_type=biz_type,
                endpoint=endpoint,
                **vendors.callback_options(vendor, callback, callback_seed),
            ),
            vendors.make_quota(vendor, qps, images_per_second, max_in_flight, lanes),
            credentials,
            policy=options.make_policy(policy),
            fetcher=fetcher,
            fit=fit,
            deadline_s=deadline,
            inbox=vendors.make_inbox(callback, callbacks_from),
            resume_from=written,
            run_id=run_id,
        )
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
            moderation,
            sinks.WriteParquet(written),
        ],
        beam_options,
        progress.Progress(Console(stderr=True), written, run_id, total),
        out,
    )
