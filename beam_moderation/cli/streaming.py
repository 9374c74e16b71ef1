"""Runs a pipeline that has no end: what the runner must be told, and how a user goes on."""

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from rich.console import Console

from beam_moderation.cli import jobs, runners


def run(wire: jobs.Wire, options: PipelineOptions, source: str, where: str) -> None:
    """Runs a stream until somebody stops it.

    Args:
      source: what is read.
      where: the tables.

    Raises:
      ConfigurationError: the job failed, with the reason in one line.
    """
    _tell(f"streaming {source} into {where}")
    result = jobs.finish(wire, options, _how_to_go_on(options))
    _tell(f"the stream has ended: {result.state}\ntables: {where}")


def _tell(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def _how_to_go_on(options: PipelineOptions) -> str:
    if _workers_are_here(options):
        return (
            "stopped; what was in open windows is not in the tables. To go on and lose nothing, "
            f"read all again; readers see it once:\n  {jobs.command('--start=earliest')}"
        )
    return (
        "left; the job goes on without this command. To stop it, take a savepoint; to go on from "
        f"that:\n  {jobs.command('--savepoint_path=SAVEPOINT')}"
    )


def _workers_are_here(options: PipelineOptions) -> bool:
    """Whether the job cannot go on when this process has ended."""
    runner = runners.kind(options.view_as(StandardOptions).runner)
    environment = options.view_as(PortableOptions).environment_type
    local = options.view_as(FlinkRunnerOptions).flink_master in ("[local]", "[auto]")
    return (
        runner == "prism"
        or environment == "LOOPBACK"
        or (runner == "flink" and local and environment is None)
    )
