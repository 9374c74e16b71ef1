"""The command `beam-moderation`.

What it needs is imported when it runs, so that even an early Ctrl-C ends in one line.
"""

import os
import sys
from typing import NoReturn

USER_MISTAKE = 2
INTERRUPTED = 130
"""The exit code of what Ctrl-C ended: 128 and the number of the signal."""


def main() -> None:
    """Runs the command; ends with 0, or with 2 and one line for a user's mistake."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        _stop()


def _run() -> int:
    import logging

    import typer
    from rich.console import Console

    from beam_moderation import errors
    from beam_moderation.cli import commands

    # Beam has made a handler of its own by now, which would show its tracebacks.
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "CRITICAL").upper(), force=True)
    try:
        return commands.app(standalone_mode=False) or 0
    except (errors.ConfigurationError, commands.UsageError) as error:
        message = getattr(error, "message", str(error))
        Console(stderr=True).print(
            f"error: {message}", markup=False, highlight=False, soft_wrap=True
        )
        return USER_MISTAKE
    except typer.Abort:
        _stop()


def _stop() -> NoReturn:
    """Ends at once: an orderly end would wait for the batches that are in work."""
    print("stopped", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(INTERRUPTED)
