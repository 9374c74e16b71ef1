"""The command `views`."""

from typing import Annotated

import fsspec
import typer

from beam_moderation import duckdb_views, errors


def views(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of tables; an fsspec URL.")],
) -> None:
    """Prints the tables' views in DuckDB's SQL: one row a key, one outcome a reference.

    For instance `beam-moderation views out/tables | duckdb verdicts.db`.
    """
    statements = duckdb_views.views(folder)
    filesystem, root = fsspec.core.url_to_fs(folder)
    if not filesystem.exists(root):
        raise errors.ConfigurationError(f"there is no folder {folder}")
    typer.echo(statements, nl=False)
