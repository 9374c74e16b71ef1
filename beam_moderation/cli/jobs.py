"""Runs a pipeline under the eyes of a user: progress, summary, and errors in one line."""

import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from rich.console import Console

from beam_moderation import errors, metrics, progress
from beam_moderation.cli import INTERRUPTED

Wire = Callable[[beam.Pipeline], None]
"""Builds a pipeline."""


def run(wire: Wire, options: PipelineOptions, watch: progress.Progress, where: str) -> None:
    """Runs a bounded job to its end, and prints a summary.

    Args:
      where: the tables.

    Raises:
      ConfigurationError: the job failed, with the reason in one line.
    """
    started = time.monotonic()
    stopped = f"stopped; finished batches are in {where}. To go on, run it again:\n  {command()}"
    with watch:
        result = finish(wire, options, stopped)
    summary = metrics.summarise(result)
    progress.print_summary(Console(), summary, time.monotonic() - started, where)


def command(*more: str) -> str:
    """The command line that runs now, with more options, as a shell reads it."""
    return shlex.join(["beam-moderation", *sys.argv[1:], *more])


def finish(wire: Wire, options: PipelineOptions, stopped: str) -> Any:
    """Runs a pipeline and returns its result when it has ended.

    Args:
      stopped: what Ctrl-C says before it ends the process.

    Raises:
      ConfigurationError: the job failed, with the reason in one line.
    """
    try:
        pipeline = beam.Pipeline(options=options)
        wire(pipeline)
        return _finished(pipeline)
    except KeyboardInterrupt:
        _stop(stopped)
    except errors.ConfigurationError:
        raise
    except Exception as error:
        raise errors.ConfigurationError(f"the job failed: {_reason(error)}") from error


def _stop(said: str) -> NoReturn:
    """Ends at once: an orderly end would wait for the batches that are in work."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.line()  # the line of progress is there, and hides the cursor
        console.show_cursor()
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _finished(pipeline: beam.Pipeline) -> Any:
    """Keeps Ctrl-C out of the DoFns, where a runner would report it as a failure of theirs.

    A runner that starts a job server wants to end it at Ctrl-C, and so to be in the main thread;
    its DoFns are not.
    """
    if isinstance(pipeline.runner, PortableRunner):
        return _waited_for(pipeline)
    return ThreadPoolExecutor(1, "pipeline").submit(_waited_for, pipeline).result()


def _waited_for(pipeline: beam.Pipeline) -> Any:
    result = pipeline.run()
    result.wait_until_finish()
    return result


def _reason(error: BaseException) -> str:
    """The exception at the end of the traceback that a runner reports, without its step's name."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("[while", "File", "^", "~"))]
    reason = re.sub(r"\s*\[while running [^]]*\]", "", told[-1] if told else type(error).__name__)
    return re.sub(r"^[\w.]+\.(\w+): ", "", reason)
