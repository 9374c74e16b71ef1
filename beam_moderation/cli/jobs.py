"""Runs a pipeline under the eyes of a user: progress, summary, and errors in one line."""

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_moderation import errors, metrics, progress
from beam_moderation.cli import INTERRUPTED


def run(
    steps: Sequence[beam.PTransform],
    options: PipelineOptions,
    watch: progress.Progress,
    where: str,
) -> None:
    """Runs the steps one behind the other, and prints a summary at the end.

    Raises:
      ConfigurationError: the job failed, with the reason in one line.
    """
    started = time.monotonic()
    try:
        pipeline = beam.Pipeline(options=options)
        flow = pipeline
        for step in steps:
            flow = flow | step
        with watch:
            result = _in_thread(lambda: _finished(pipeline))
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"stopped; finished batches are in {where}. To go on, run it again:\n"
            f"  {shlex.join(['beam-moderation', *sys.argv[1:]])}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # an orderly end would wait for the batches that are in work
    except errors.ConfigurationError:
        raise
    except Exception as error:
        raise errors.ConfigurationError(f"the job failed: {_reason(error)}") from error
    summary = metrics.summarise(result)
    progress.print_summary(Console(), summary, time.monotonic() - started, where)


def _finished(pipeline: beam.Pipeline) -> Any:
    result = pipeline.run()
    result.wait_until_finish()
    return result


def _in_thread(function: Callable[[], Any]) -> Any:
    """Keeps Ctrl-C out of the DoFns, where a runner would report it as a failure of theirs."""
    return ThreadPoolExecutor(1, "pipeline").submit(function).result()


def _reason(error: BaseException) -> str:
    """The exception at the end of the traceback that a runner reports, without its step's name."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("[while", "File", "^", "~"))]
    reason = re.sub(r"\s*\[while running [^]]*\]", "", told[-1] if told else type(error).__name__)
    return re.sub(r"^[\w.]+\.(\w+): ", "", reason)
