"""The demo: moderates the sample with the command line, then checks every outcome in the tables.

`python pipelines/demo.py [FOLDER]` writes the sample to `FOLDER/sample` (default `out/sample`) and
has it judged by the local scanners, with the tables in `FOLDER/demo`, and then by each vendor as a
server on loopback plays it, with the tables in `FOLDER/demo-VENDOR`. Tables of an earlier demo are
replaced. It exits with 1, and lists the differences, unless each reference ended as its column
`expected`, or `expected_VENDOR`, says, and no image was paid for twice.
"""

import json
import pathlib
import shlex
import shutil
import subprocess
import sys
from typing import Any

import demo_sample
import demo_vendors
import duckdb
from rich.console import Console
from rich.table import Table

from beam_moderation import emulator, records

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
FROM sample FULL JOIN outcomes USING (data_id)
ORDER BY data_id
"""
"""What became of every reference, beside what was expected of it."""


LOCAL = ("--scanner", "qrcode", "--scanner", "text")
EXPECTED = ("expected", "expected_frame")


def command(references: pathlib.Path, tables: pathlib.Path, *judges: str) -> list[str]:
    """The command that has the sample judged."""
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
        *judges,
    ]


def run(arguments: list[str]) -> None:
    """Runs a command of this environment, shown first.

    Raises:
      CalledProcessError: it exited with something other than 0.
    """
    CONSOLE.print(f"$ {shlex.join(arguments)}", style="bold", markup=False, soft_wrap=True)
    program = pathlib.Path(sys.executable).with_name(arguments[0])
    subprocess.run([program, *arguments[1:]], check=True)  # noqa: S603


def moderate(references: pathlib.Path, tables: pathlib.Path, *judges: str) -> None:
    """Has the sample judged into tables that hold nothing else."""
    if (tables / "_batches").is_dir():
        shutil.rmtree(tables)  # an earlier demo's verdicts would stand beside or for this one's
    run(command(references, tables, *judges))


def moderate_by_vendor(vendor: str, references: pathlib.Path, tables: pathlib.Path) -> bool:
    """Has the sample judged by a vendor with its documented quota, as a server here plays it.

    Returns:
      Whether it paid for no image twice.
    """
    keys = references.parent / "keys.yaml"
    keys.write_text(json.dumps({vendor: demo_vendors.KEYS}))
    with emulator.serve(vendor, emulator.Settings.documented(vendor)) as running:
        moderate(references, tables, *demo_vendors.arguments(vendor, running.url, str(keys)))
        stats = running.stats()
    times = stats["judged_per_data_id"]
    again = [data_id for data_id, count in times.items() if count > 1]
    CONSOLE.print(
        f"{vendor} billed {stats['billed_units']} units for {len(times)} images, "
        f"{len(again) or 'none'} of them more than once."
    )
    return not again


def outcomes(
    references: pathlib.Path, tables: pathlib.Path, expected: tuple[str, str] = EXPECTED
) -> list[tuple[Any, ...]]:
    """The rows of `OUTCOMES`; a table without rows has no files.

    Args:
      expected: the columns of the references that hold the expected outcome and its frame.
    """
    database = duckdb.connect()
    wanted = f"data_id, {expected[0]} AS expected, {expected[1]} AS expected_frame"
    database.read_parquet(str(references)).project(wanted).create_view("sample")
    for name in ("scenes", "dead_letters"):
        if (tables / name).exists():
            files = f"{tables}/{name}/**/*.parquet"
            database.read_parquet(files, hive_partitioning=True).create_view(name)
        else:
            database.register(name, records.arrow_schema(records.TABLES[name]).empty_table())
    return database.execute(OUTCOMES).fetchall()


def as_expected(
    _: str, expected: str, expected_frame: int | None, outcome: str, frame: int | None
) -> bool:
    """Whether a row of `OUTCOMES` shows what was expected."""
    return outcome == expected and expected_frame in (None, frame)


def check(rows: list[tuple[Any, ...]], column: str) -> bool:
    """Says whether each outcome is the expected one, and shows those that are not."""
    wrong = [row for row in rows if not as_expected(*row)]
    if not wrong:
        CONSOLE.print(
            f"All {len(rows)} references ended as the sample's column [bold]{column}[/bold] says."
        )
        return True
    report = Table("data_id", "expected", "frame", "outcome", "frame", title="Not as expected")
    for row in wrong:
        report.add_row(*map(str, row))
    CONSOLE.print(report)
    return False


def main(folder: pathlib.Path) -> int:
    """Runs the demo below `folder`; returns the exit code."""
    references = demo_sample.write_sample(folder / "sample")
    moderate(references, folder / "demo", *LOCAL)
    good = [check(outcomes(references, folder / "demo"), EXPECTED[0])]
    for vendor in demo_vendors.VENDORS:
        tables, column = folder / f"demo-{vendor}", f"expected_{vendor}"
        good.append(moderate_by_vendor(vendor, references, tables))
        good.append(check(outcomes(references, tables, (column, "NULL")), column))
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "out")))
