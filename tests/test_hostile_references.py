"""A stranger's ids and URIs are cells and dead letters, never file names or forged lines."""

import pathlib
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import web
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


LOST = "http://169.254.169.254/a.jpg"
"""What leads nowhere: the reference is a dead letter."""

SECRET = "hunter2"
HEADERS = {"Set_Cookie": f"session={SECRET}", "X_Error": SECRET}
BODY = f"<html>{SECRET}</html>".encode()
ROUTES = {
    "/page": web.answer(BODY, **HEADERS),
    "/missing": web.answer(BODY, 404, **HEADERS),
    "/failing": web.answer(BODY, 503, **HEADERS),
    "/odd": web.answer(BODY, 418, **HEADERS),
    "/broken": web.raw(f"HTTP/1.1 {SECRET}\r\n\r\n".encode()),
    "/moved": web.redirect(f"/missing?token={SECRET}"),
    "/away": web.redirect(f"http://user:{SECRET}@example.com/?token={SECRET}"),
    "/inside": web.redirect(f"http://169.254.169.254/latest?token={SECRET}"),
}
CODES = {
    "uri-invalid",
    "scheme-refused",
    "address-refused",
    "redirect-refused",
    "fetch-not-found",
    "fetch-unavailable",
    "fetch-status",
    "format-unsupported",
    "text-not-utf-8",
}


@pytest.fixture
def moderated(tmp_path, monkeypatch, capfd):
    """The folder of the tables, and what the command printed."""
    inside = tmp_path / "work"
    inside.mkdir()
    with web.Site(ROUTES) as site:
        signed = [site.url(f"{path}?X-Amz-Signature={SECRET}") for path in ROUTES]
        _write(inside / "r.parquet", [*URIS, *signed])
        host = site.url("").removeprefix("http://")
        arguments = ["--content-column", "content", "--carry-column", "note", "--scanner", "qrcode"]
        out = ["--out", str(inside / "out"), "--local-root", str(inside), "--allow-host", host]
        program = ["beam-moderation", "backfill", str(inside / "r.parquet")]
        monkeypatch.setattr(sys, "argv", [*program, *out, *arguments])
        monkeypatch.setenv("LOG_LEVEL", "DEBUG")
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    return inside, capfd.readouterr()


def _write(path, uris):
    """Hostile ids beside a good image, beside a bad URI, and hostile URIs, and half a surrogate."""
    ids = [*IDS, *(f"dead {key}" for key in IDS), *(f"u{n}" for n in range(len(uris))), "half"]
    places = [None] * len(IDS) + [LOST] * len(IDS) + uris + [None]
    raw = [uri and uri.encode() for uri in places]
    raw[-1] = b"http://h/\xed\xa0\x80.jpg"
    columns = {
        "data_id": ids,
        "uri": pa.array(raw, pa.binary()).view(pa.string()),
        "content": [picture(9)] * len(IDS) + [None] * (len(ids) - len(IDS)),
        "note": ["\x1b[2J\n"] * len(ids),
    }
    pq.write_table(pa.table(columns), path)


def test_hostile_ids_are_cells_and_hostile_uris_are_dead_letters(moderated):
    folder, _ = moderated
    images = duckdb.sql(f"select data_id from '{folder}/out/images/**/*.parquet'").fetchall()
    assert sorted(key for (key,) in images) == sorted(IDS)
    dead = duckdb.sql(
        f"select data_id, code from '{folder}/out/dead_letters/**/*.parquet'"
    ).fetchall()
    expected = [f"dead {key}" for key in IDS] + [f"u{n}" for n in range(len(URIS) + len(ROUTES))]
    unread = f"file://{folder}/r.parquet#{2 * len(IDS) + len(URIS) + len(ROUTES)}"
    assert sorted(key for key, _ in dead) == sorted([*expected, unread])
    assert {code for _, code in dead} == CODES


def test_no_file_is_named_by_a_stranger(moderated):
    folder, _ = moderated
    written = {path.name for path in folder.rglob("*") if path.is_file()}
    stems = {pathlib.PurePath(name).stem for name in written - {"r.parquet"}}
    assert all(len(stem) == 32 and stem.isalnum() for stem in stems), stems
    assert {path.name for path in folder.parent.iterdir()} == {"work"}


def test_no_dead_letter_carries_a_secret_or_a_control_character_or_what_is_long(moderated):
    folder, _ = moderated
    columns = "data_id, uri, message, payload, source"
    query = f"select {columns} from '{folder}/out/dead_letters/**/*.parquet'"
    for data_id, uri, message, payload, source in duckdb.sql(query).fetchall():
        assert SECRET not in f"{uri}{message}{payload}{source}"
        assert f"{uri}{message}{source}".isprintable()
        assert not any(character < " " for character in payload)
        assert len(f"{uri}{message}{source}") < 1_000
        assert len(payload) < 1_000 + len(data_id.encode("unicode_escape"))


def test_nothing_that_is_printed_or_logged_can_be_forged(moderated):
    _, printed = moderated
    assert SECRET not in printed.out + printed.err
    assert "\x1b[2J" not in printed.out + printed.err
    assert "forged: line" not in [line.strip() for line in printed.err.splitlines()]
    assert not [line for line in printed.err.splitlines() if line.startswith("INFO forged")]
