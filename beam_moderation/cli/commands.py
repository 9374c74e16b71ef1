"""The commands of `beam-moderation`."""

from typing import Any

import typer

from beam_moderation.cli import backfill, callbacks, emulate, stream, views
from beam_moderation.cli.signatures import flattened

UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises for an option that is missing or wrong, for which it exports no name."""

app = typer.Typer(
    help="Image moderation on Apache Beam: references in, verdict tables out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_BEAM_TOO = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command(
    "backfill",
    context_settings=_BEAM_TOO,
    epilog="Any other option goes to Beam, for instance --runner=FlinkRunner.",
)(flattened(backfill.backfill))
app.command(
    "stream",
    context_settings=_BEAM_TOO,
    epilog="Any other option goes to Beam: --runner=FlinkRunner --flink_master=HOST:8081.",
)(flattened(stream.stream))
app.command("views")(views.views)
app.command("emulate")(emulate.emulate)
app.command("callbacks")(callbacks.callbacks)
