"""The tables as readers should see them: a row a key, an outcome a reference; for DuckDB."""

from typing import Any, get_args, get_type_hints

import fsspec
from apache_beam.utils.timestamp import Timestamp

from beam_moderation import errors, records

_PARTITIONS = {
    "scenes": "dt: DATE, scene: VARCHAR",
    "images": "dt: DATE",
    "dead_letters": "dt: DATE",
}

_TYPES = {
    str: "VARCHAR",
    int: "BIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    Timestamp: "TIMESTAMP WITH TIME ZONE",
}

_VIEWS = """\
CREATE OR REPLACE VIEW scenes AS
SELECT * FROM {scenes}
QUALIFY row_number() OVER (
    PARTITION BY data_id, scene, provider, policy_version
    ORDER BY moderated_at DESC, run_id DESC, source DESC
) = 1;

CREATE OR REPLACE VIEW images AS
SELECT * FROM {images}
QUALIFY row_number() OVER (
    PARTITION BY data_id, policy_version ORDER BY moderated_at DESC, run_id DESC, source DESC
) = 1;

CREATE OR REPLACE VIEW dead_letters AS
SELECT * FROM {dead_letters} AS dead
WHERE data_id NOT IN (SELECT data_id FROM {images})
AND NOT (stage = 'read' AND EXISTS (
    SELECT 1 FROM {images} AS judged
    WHERE judged.source = dead.source AND judged.moderated_at > dead.failed_at
))
QUALIFY row_number() OVER (
    PARTITION BY data_id ORDER BY failed_at DESC, run_id DESC, source DESC
) = 1;
"""


def views(folder: str) -> str:
    """DuckDB's statements that make the views `scenes`, `images` and `dead_letters` of a folder.

    What a stream or a repeated job wrote more than once is there once, the latest; and every
    reference has exactly one outcome: a row of `images` for each policy that judged it, else its
    latest row of `dead_letters`. A success supersedes a dead letter, whichever was first; of a row
    that could not be read, whose key is its place, a later success of what is at that place does.
    It is a success under any policy, for a dead letter names none: what another policy failed on
    later is hidden too. Such references have no row of `images` with its `policy_version`.

    The views see files that come later, except those of a table that had no file yet: make the
    views again.

    Args:
      folder: of the tables, an fsspec URL; DuckDB must be able to read it.

    Raises:
      ConfigurationError: the URL's filesystem cannot be had.
    """
    return _VIEWS.format(**{table: _rows(folder, table) for table in records.TABLES})


def _rows(folder: str, table: str) -> str:
    """All rows of a table, as a part of a FROM clause."""
    try:
        filesystem, root = fsspec.core.url_to_fs(folder)
        path = f"{root.rstrip('/')}/{table}"
        if not _has_files(filesystem, path):
            return _no_rows(table)
    except (ImportError, ValueError, OSError) as error:
        raise errors.ConfigurationError(f"cannot read {folder}: {error}") from error
    if "file" not in filesystem.protocol:
        path = filesystem.unstrip_protocol(path)
    return (
        f"read_parquet({_text(_literally(path) + '/**/*.parquet')}, "
        f"hive_partitioning = true, hive_types = {{{_PARTITIONS[table]}}})"
    )


def _has_files(filesystem: Any, path: str) -> bool:
    filesystem.invalidate_cache(path)
    return any(name.endswith(".parquet") for _, _, names in filesystem.walk(path) for name in names)


def _literally(path: str) -> str:
    """A path in which DuckDB finds no wildcard."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in path)


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _no_rows(table: str) -> str:
    hints = get_type_hints(records.TABLES[table])
    columns = [f"NULL::{_type(hint)} AS {name}" for name, hint in hints.items()]
    return f"(SELECT {', '.join([*columns, 'NULL::DATE AS dt'])} WHERE false)"


def _type(hint: Any) -> str:
    """DuckDB's type of a field, as its Parquet reader gives it."""
    arguments = [a for a in get_args(hint) if a is not type(None)]
    if hasattr(hint, "_fields"):
        fields = get_type_hints(hint).items()
        return f"STRUCT({', '.join(f'{name} {_type(kind)}' for name, kind in fields)})"
    if not arguments:
        return _TYPES[hint]
    return _type(arguments[0]) + ("[]" if len(get_args(hint)) == 1 else "")
