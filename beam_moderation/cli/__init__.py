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

    from beam_moderation.cli import allocator

    allocator.share_arenas()  # before there are threads

    import typer

    from beam_moderation import errors, parquet_files
    from beam_moderation.cli import commands

    try:
        _log(os.environ.get("LOG_LEVEL", "CRITICAL").upper())
        return commands.app(standalone_mode=False) or 0
    except errors.ConfigurationError as error:
        return _mistake(str(error))
    except commands.UsageError as error:
        return _mistake(error.format_message())
    except typer.Abort:
        _stop()
    except Exception as error:
        logging.getLogger(__name__).debug("the command failed", exc_info=error)
        return _mistake(f"{type(error).__name__}: {parquet_files.reason(error)}")


def _log(level: str) -> None:
    """Shows what is logged; Beam has made a handler of its own by now, which shows tracebacks.

    Raises:
      ConfigurationError: there is no such level.
    """
    import logging

    from beam_moderation import errors

    if not isinstance(logging.getLevelName(level), int):
        raise errors.ConfigurationError(
            f"LOG_LEVEL is DEBUG, INFO, WARNING, ERROR or CRITICAL, not {level}"
        )
    logging.basicConfig(level=level, force=True)
    logging.captureWarnings(True)  # Pillow warns of odd files, over the line of progress


def _mistake(message: str) -> int:
    """Says in one line what is wrong."""
    from rich.console import Console

    line = " ".join(message.split())
    Console(stderr=True).print(f"error: {line}", markup=False, highlight=False, soft_wrap=True)
    return USER_MISTAKE


def _stop() -> NoReturn:
    """Ends at once: an orderly end would wait for the batches that are in work."""
    print("stopped", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(INTERRUPTED)
