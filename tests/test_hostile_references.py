"""A stranger's ids and URIs are cells and dead letters, never file names or forged lines."""

import pathlib
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brightness import picture

from beam_moderation import cli

LONG = "x" * 1_000_000
IDS = [
    LONG,
    "a\0b",
    "../../../etc/passwd",
    "C:\\x",
    "new\nline",
    "\x1b[2J",
    "'; DROP",
    "İ\u202e",
    "|",
    " ",
]
URIS = [
    "http://h/" + LONG,
    "http://h/a\0.jpg",
    "file:///etc/passwd",
    "../../etc/passwd",
    "http://h/a\nINFO forged: line",
    "\x1b[31mred\x1b[0m",
    "https://user:hunter2@h/a.jpg",
    "https://127.0.0.1/a.jpg?X-Amz-Signature=hunter2",
    "simplecache::file:///etc/passwd",
    "http://h\\@127.0.0.1/",
]


@pytest.fixture
def moderated(tmp_path, monkeypatch, capfd):
    """The folder of the tables, and what the command printed."""
    inside = tmp_path / "work"
    inside.mkdir()
    count = len(IDS) + len(URIS)
    columns = {
        "data_id": [*IDS, *(f"u{n}" for n in range(len(URIS)))],
        "uri": [None] * len(IDS) + URIS,
        "content": [picture(9)] * len(IDS) + [None] * len(URIS),
        "note": ["\x1b[2J\n"] * count,
    }
    pq.write_table(pa.table(columns), inside / "r.parquet")
    arguments = ["--content-column", "content", "--carry-column", "note", "--scanner", "qrcode"]
    out = ["--out", str(inside / "out"), "--local-root", str(inside)]
    monkeypatch.setattr(
        sys, "argv", ["beam-moderation", "backfill", str(inside / "r.parquet"), *out, *arguments]
    )
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    return inside, capfd.readouterr()


def test_hostile_ids_are_cells_and_hostile_uris_are_dead_letters(moderated):
    folder, _ = moderated
    images = duckdb.sql(f"select data_id from '{folder}/out/images/**/*.parquet'").fetchall()
    assert sorted(key for (key,) in images) == sorted(IDS)
    dead = duckdb.sql(
        f"select data_id, code from '{folder}/out/dead_letters/**/*.parquet'"
    ).fetchall()
    assert sorted(key for key, _ in dead) == sorted(f"u{n}" for n in range(len(URIS)))
    assert {code for _, code in dead} <= {"uri-invalid", "scheme-refused", "address-refused"}


def test_no_file_is_named_by_a_stranger(moderated):
    folder, _ = moderated
    written = {path.name for path in folder.rglob("*") if path.is_file()}
    stems = {pathlib.PurePath(name).stem for name in written - {"r.parquet"}}
    assert all(len(stem) == 32 and stem.isalnum() for stem in stems), stems
    assert {path.name for path in folder.parent.iterdir()} == {"work"}


def test_no_dead_letter_carries_a_secret_or_a_control_character(moderated):
    folder, _ = moderated
    query = f"select uri, message, payload from '{folder}/out/dead_letters/**/*.parquet'"
    cells = [cell for row in duckdb.sql(query).fetchall() for cell in row if cell]
    assert not [cell for cell in cells if "hunter2" in cell]
    assert all(cell.isprintable() for cell in cells)
    assert max(map(len, cells[:2])) < 10_000


def test_nothing_that_is_printed_or_logged_can_be_forged(moderated):
    _, printed = moderated
    assert "hunter2" not in printed.out + printed.err
    assert "\x1b[2J" not in printed.out + printed.err
    assert "forged: line" not in [line.strip() for line in printed.err.splitlines()]
    assert not [line for line in printed.err.splitlines() if line.startswith("INFO forged")]
