"""The demo: moderates the sample with the command line, then checks every outcome in the tables.

`python pipelines/demo.py [FOLDER]` writes the sample to `FOLDER/sample` (default `out/sample`) and
the tables to `FOLDER/demo`, in place of those of an earlier demo. It exits with 1, and the list of
the differences, unless each reference ended as its column `expected` says.
"""

import pathlib
import shlex
import shutil
import subprocess
import sys
from typing import Any

import demo_sample
import duckdb
from rich.console import Console
from rich.table import Table

from beam_moderation import records

CONSOLE = Console()

OUTCOMES = """
WITH flagged AS (
    SELECT
        *,
        [finding.label FOR finding IN findings IF finding.label <> 'normal'] AS labels,
        CASE WHEN suggestion <> 'pass' THEN
            scene || ':' || array_to_string(list_sort(labels), '+') || '=' || suggestion
        END AS flag
    FROM scenes
),
judged AS (
    SELECT
        data_id,
        coalesce(string_agg(flag, ',' ORDER BY scene), 'pass') AS verdict,
        min(frame) FILTER (flag IS NOT NULL) AS frame,
        count(*) - count(DISTINCT scene) AS doubled
    FROM flagged
    GROUP BY data_id
),
dead AS (
    SELECT data_id, string_agg(code, ',') AS codes
    FROM dead_letters
    GROUP BY data_id
),
outcomes AS (
    SELECT
        data_id,
        concat_ws(
            ' and ',
            verdict,
            codes,
            CASE WHEN doubled > 0 THEN doubled || ' doubled rows' END
        ) AS outcome,
        frame
    FROM judged FULL JOIN dead USING (data_id)
)
SELECT data_id, expected, expected_frame, coalesce(outcome, 'nothing') AS outcome, frame
FROM read_parquet($references) FULL JOIN outcomes USING (data_id)
ORDER BY data_id
"""
"""What became of every reference, beside what was expected of it."""


def command(references: pathlib.Path, tables: pathlib.Path) -> list[str]:
    """The command that moderates the sample."""
    return [
        "beam-moderation",
        "backfill",
        str(references),
        *("--out", str(tables)),
        *("--id-column", "data_id"),
        *("--uri-column", "uri"),
        *("--time-column", "time"),
        *("--carry-column", "note"),
        *("--local-root", str(references.parent)),
        *("--scanner", "qrcode"),
        *("--scanner", "text"),
    ]


def run(arguments: list[str]) -> None:
    """Runs a command of this environment, shown first.

    Raises:
      CalledProcessError: it exited with something other than 0.
    """
    CONSOLE.print(f"$ {shlex.join(arguments)}", style="bold", markup=False, soft_wrap=True)
    program = pathlib.Path(sys.executable).with_name(arguments[0])
    subprocess.run([program, *arguments[1:]], check=True)  # noqa: S603


def outcomes(references: pathlib.Path, tables: pathlib.Path) -> list[tuple[Any, ...]]:
    """The rows of `OUTCOMES`; a table without rows has no files."""
    database = duckdb.connect()
    for name in ("scenes", "dead_letters"):
        if (tables / name).exists():
            files = f"{tables}/{name}/**/*.parquet"
            database.read_parquet(files, hive_partitioning=True).create_view(name)
        else:
            database.register(name, records.arrow_schema(records.TABLES[name]).empty_table())
    return database.execute(OUTCOMES, {"references": str(references)}).fetchall()


def as_expected(
    _: str, expected: str, expected_frame: int | None, outcome: str, frame: int | None
) -> bool:
    """Whether a row of `OUTCOMES` shows what was expected."""
    return outcome == expected and expected_frame in (None, frame)


def main(folder: pathlib.Path) -> int:
    """Runs the demo below `folder`; returns the exit code."""
    tables = folder / "demo"
    if (tables / "_batches").is_dir():
        shutil.rmtree(tables)  # an earlier demo's verdicts would stand beside or for this one's
    references = demo_sample.write_sample(folder / "sample")
    run(command(references, tables))
    rows = outcomes(references, tables)
    wrong = [row for row in rows if not as_expected(*row)]
    if not wrong:
        CONSOLE.print(
            f"All {len(rows)} references ended as the sample's column [bold]expected[/bold] says."
        )
        return 0
    report = Table("data_id", "expected", "frame", "outcome", "frame", title="Not as expected")
    for row in wrong:
        report.add_row(*map(str, row))
    CONSOLE.print(report)
    return 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "out")))
