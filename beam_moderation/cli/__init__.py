"""The command `beam-moderation`."""

import logging
import os
import sys

import typer
from rich.console import Console

from beam_moderation import errors
from beam_moderation.cli import backfill, callbacks, emulate

USER_MISTAKE = 2

app = typer.Typer(
    help="Image moderation on Apache Beam: references in, verdict tables out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command(
    "backfill",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Any other option goes to Beam, for instance --runner=FlinkRunner.",
)(backfill.backfill)
app.command("emulate")(emulate.emulate)
app.command("callbacks")(callbacks.callbacks)


def main() -> None:
    """Runs the command; ends with 0, or with 2 and one line for a user's mistake."""
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "CRITICAL").upper())
    console = Console(stderr=True)
    try:
        app()
    except errors.ConfigurationError as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(USER_MISTAKE)
