"""The commands of `beam-moderation`."""

import typer

from beam_moderation.cli import backfill, callbacks, emulate

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for an option that is missing or wrong, for which it exports no name."""

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
