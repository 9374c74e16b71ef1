import functools
import http.server
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_moderation import duplicates, errors, parquet_files, records, references, sources

SIGNED = "http://{user}{host}/refs.parquet?X-Amz-Signature={signature}"


@pytest.fixture
def host(tmp_path):
    """Serves the test's folder; answers whatever the query."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def signed(host, signature="testsecret", user=""):
    return SIGNED.format(host=host, signature=signature, user=user)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a/r.parquet?sig=testsecret#x", "https://h/a/r.parquet"),
        ("https://user:testsecret@h/it's.parquet?sig=testsecret", "https://h/it's.parquet"),
        ("simplecache::https://testsecret@h/r.parquet", "simplecache::https://h/r.parquet"),
        ("ftp://user:testsecret@h/a?b.parquet", "ftp://h/a?b.parquet"),
        ("abfs://in@account.dfs.core.windows.net/r", "abfs://in@account.dfs.core.windows.net/r"),
        ("s3://lake/part-?.parquet", "s3://lake/part-?.parquet"),
        ("file:///in/a#b?c@d:e@f.parquet", "file:///in/a#b?c@d:e@f.parquet"),
        ("references.parquet", "references.parquet"),
    ],
)
def test_a_url_is_shown_without_credentials(url, shown):
    assert parquet_files.shown(url) == shown


def test_rows_of_a_signed_url_show_no_signature_and_another_one_changes_nothing(host, tmp_path):
    pq.write_table(pa.table({"data_id": ["a", None], "uri": ["x", "y"]}), tmp_path / "refs.parquet")

    def read(signature):
        (file,) = parquet_files.list_files(signed(host, signature), {})
        (group,) = parquet_files.row_groups(file, {})
        (batch,) = sources.read_batches(group, references.Columns())
        return batch

    batch = read("testsecret")
    (letter,) = records.from_arrow(batch.dead_letters, records.DeadLetter)
    assert [row.source for row in batch] == [f"http://{host}/refs.parquet#0"]
    assert letter.data_id == letter.source == f"http://{host}/refs.parquet#1"
    assert "testsecret" not in str(batch.dead_letters.to_pylist())
    assert read("another").id == batch.id


def test_what_cannot_be_read_is_said_without_the_signature(host, tmp_path):
    (tmp_path / "refs.parquet").write_bytes(b"no parquet")
    (file,) = parquet_files.list_files(signed(host), {})
    with pytest.raises(errors.ConfigurationError, match="cannot read") as unreadable:
        list(parquet_files.row_groups(file, {}))
    (tmp_path / "refs.parquet").unlink()
    with pytest.raises(errors.ConfigurationError) as gone:
        list(parquet_files.row_groups(file, {}))
    with pytest.raises(errors.ConfigurationError) as unlisted:
        parquet_files.list_files(signed(host), {})
    pq.write_table(pa.table({"x": [1]}), tmp_path / "refs.parquet")
    with pytest.raises(errors.ConfigurationError, match="no column 'uri'") as incomplete:
        parquet_files.check_columns(signed(host), ["uri"], {})
    for raised in (unreadable, gone, unlisted, incomplete):
        assert f"http://{host}/refs.parquet" in str(raised.value)
        assert "testsecret" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_whatever_a_filesystem_raises_is_a_mistake_in_one_line(monkeypatch, tmp_path):
    import fsspec

    class NoCredentialsError(Exception):
        pass

    class Cloud(fsspec.AbstractFileSystem):
        protocol = "nocloud"

        def info(self, path, **_):
            raise NoCredentialsError("Unable to locate\ncredentials")

    fsspec.register_implementation("nocloud", Cloud, clobber=True)
    with pytest.raises(errors.ConfigurationError) as raised:
        parquet_files.check_columns("nocloud://b/r.parquet", ["uri"], {})
    assert str(raised.value).endswith("Unable to locate credentials")


@pytest.mark.parametrize("dictionary", [True, False])
def test_no_more_rows_are_read_together_than_memory_holds(tmp_path, dictionary):
    hidden = pa.DictionaryArray.from_arrays(pa.array([None] + [0] * 1999), ["x" * 100_000])
    table = pa.table({"data_id": [str(n) for n in range(2000)], "uri": hidden})
    file = str(tmp_path / "refs.parquet")
    pq.write_table(table, file, use_dictionary=dictionary, store_schema=False)
    with parquet_files.opened(file, {}) as parquet:
        read = [
            (rows.num_rows, rows.nbytes)
            for rows in parquet_files.iterate(parquet, 0, ["data_id", "uri"], 4096)
        ]
        ids = [rows.num_rows for rows in parquet_files.iterate(parquet, 0, ["data_id"], 4096)]
    assert sum(rows for rows, _ in read) == 2000
    assert 2**23 < max(size for _, size in read) <= 2**24
    assert ids == [2000]


def test_long_ids_are_compared_by_their_hashes(tmp_path):
    ids = ["x" * 2000, "y" * 2000, "a", None, "x" * 2000, "a"]
    file = str(tmp_path / "refs.parquet")
    pq.write_table(pa.table({"data_id": ids}), file)
    (group,) = parquet_files.row_groups(file, {})
    parts = [part for _, part in duplicates.read_ids(group, 1, references.Columns(), {})]
    assert dict(duplicates.find_duplicates(parts)) == {(file, 0): frozenset({4, 5})}
    assert max(len(found) for part in parts for found in part.ids.to_pylist()) == 64
