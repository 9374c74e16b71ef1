import asyncio
import os
import pickle
import re
import socket
import threading
from typing import ClassVar

import fsspec
import pytest
import web
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from beam_moderation import addresses, errors, filesystems


async def ignore(size):
    pass


def read(sources, uri, max_bytes=100_000):
    """Reads one URI through a table, as the fetcher does, on the loop of fsspec's filesystems."""
    scheme, absolute = sources.locate(uri)
    opened = sources.open()[scheme](absolute, max_bytes, ignore)
    return asyncio.run_coroutine_threadsafe(opened, fsspec.asyn.get_loop()).result(10)


@pytest.fixture
def folder(tmp_path):
    """`root/` with an image in a folder, and a secret beside it."""
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "root" / "in" / "a b%20c.jpg").write_bytes(web.IMAGE)
    (tmp_path / "secret").write_bytes(b"testsecret")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "secret").write_bytes(b"testsecret")
    return tmp_path


@pytest.fixture
def files(folder):
    return filesystems.Filesystems.of(roots=[str(folder / "root")])


def test_table_holds_http_and_https_alone_by_default():
    assert set(filesystems.Filesystems().sources) == {"http", "https"}


def test_http_and_https_share_their_connections():
    opened = filesystems.Filesystems().open()
    assert opened["http"] is opened["https"]


def test_table_survives_pickling():
    sources = filesystems.Filesystems.of(
        roots=["/data"], buckets=["memory://in"], policy=addresses.AddressPolicy(["store"])
    )
    copy = pickle.loads(pickle.dumps(sources))
    assert copy == sources
    assert copy.sources["http"] is copy.sources["https"]


def test_options_of_a_bucket_are_not_shown():
    assert "testsecret" not in repr(filesystems.Buckets(["b"], {"secret": "testsecret"}))


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("file:///etc/passwd", errors.SchemeRefused),
        ("FILE:///etc/passwd", errors.SchemeRefused),
        ("simplecache::file:///etc/passwd", errors.SchemeRefused),
        ("C:\\a.jpg", errors.SchemeRefused),
        ("/etc/passwd", errors.UriInvalid),
        ("etc/passwd", errors.UriInvalid),
        ("~/a", errors.UriInvalid),
        ("", errors.UriInvalid),
    ],
)
def test_reference_outside_the_table_is_refused(reference, error):
    with pytest.raises(error):
        filesystems.Filesystems().locate(reference)


def test_local_file_is_read(files, folder):
    path = folder / "root" / "in" / "a b%20c.jpg"
    assert read(files, path.as_uri()) == web.IMAGE


def test_link_within_a_root_is_followed(files, folder):
    (folder / "root" / "link").symlink_to("in")
    assert read(files, f"file://{folder}/root/link/a%20b%2520c.jpg") == web.IMAGE


def test_root_may_be_a_link(folder):
    (folder / "link").symlink_to(folder / "root")
    sources = filesystems.Filesystems.of(roots=[f"{folder}/link/"])
    assert read(sources, f"file://{folder}/root/in/a%20b%2520c.jpg") == web.IMAGE


@pytest.mark.parametrize("path", ["root/file-link", "root/folder-link/secret", "root/../secret"])
def test_file_outside_the_roots_is_refused(files, folder, path):
    (folder / "root" / "file-link").symlink_to(folder / "secret")
    (folder / "root" / "folder-link").symlink_to(folder)
    with pytest.raises(errors.SchemeRefused):
        read(files, f"file://{folder}/{path}")


@pytest.mark.parametrize("path", ["secret", "root-2/secret", "root"])
def test_only_what_is_below_a_root_may_be_read(files, folder, path):
    with pytest.raises(errors.SchemeRefused):
        read(files, f"file://{folder}/{path}")


@pytest.mark.parametrize("path", ["secret", "root/../secret", "link/in/a", "root-2/secret"])
def test_nothing_outside_the_roots_is_even_looked_at(files, folder, monkeypatch, path):
    opened = files.open()["file"]
    monkeypatch.setattr(os.path, "realpath", None)
    with pytest.raises(errors.SchemeRefused):
        asyncio.run(opened(f"file://{folder}/{path}", 100, ignore))


def test_link_made_after_the_path_was_resolved_is_not_followed(folder, monkeypatch):
    (folder / "root" / "link").symlink_to(folder)
    monkeypatch.setattr(os.path, "realpath", str)
    with pytest.raises(errors.FetchNotFound):
        filesystems.read_file([f"{folder}/root/"], f"{folder}/root/link/secret", 100)


def test_what_is_no_regular_file_is_not_found(files, folder, monkeypatch):
    os.mkfifo(folder / "root" / "fifo")
    (folder / "root" / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder / "root")  # the path of a socket is short
        listener.bind("socket")
        for name in ("fifo", "in", "socket", "in/a b%2520c.jpg/b"):
            with pytest.raises(errors.FetchNotFound):
                read(files, f"file://{folder}/root/{name}")
    devices = filesystems.Filesystems.of(roots=["/dev"])
    with pytest.raises(errors.FetchNotFound):
        read(devices, "file:///dev/null")


def test_missing_file_is_not_found(files, folder):
    with pytest.raises(FileNotFoundError):
        read(files, f"file://{folder}/root/missing.jpg")


def test_file_above_the_limit_is_too_large(files, folder):
    with pytest.raises(errors.FetchTooLarge):
        read(files, f"file://{folder}/root/in/a%20b%2520c.jpg", len(web.IMAGE) - 1)


def test_file_that_is_not_in_memory_is_left_to_a_thread(files, folder, monkeypatch):
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    path = folder / "root" / "in" / "a b%20c.jpg"
    with pytest.raises(BlockingIOError):
        filesystems.read_cached([f"{folder}/root/"], str(path), 100_000)
    assert read(files, path.as_uri()) == web.IMAGE


@pytest.mark.parametrize("name", ["link", "link/a b%20c.jpg", "in/../in/a b%20c.jpg", "missing"])
def test_what_may_lead_to_another_mount_is_left_to_a_thread(files, folder, name):
    (folder / "root" / "link").symlink_to(folder / "root" / "in")
    with pytest.raises(BlockingIOError):
        filesystems.read_cached([f"{folder}/root/"], f"{folder}/root/{name}", 100_000)
    with pytest.raises(BlockingIOError):
        filesystems.read_cached([f"{folder}/root/"], f"{folder}/secret", 100_000)


MOUNTS = """
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:30 / /mnt/lake rw - nfs4 server:/lake rw
25 22 8:2 / /data rw - xfs /dev/sdb rw
26 25 0:31 / /data/old\\040pictures rw - fuse.sshfs server: rw
""".strip()


@pytest.mark.parametrize(
    ("root", "on_disks"),
    [
        ("/home/pictures/", True),
        ("/data/new/", True),
        ("/data/", False),
        ("/data/old pictures/", False),
        ("/data/old pictures/in/", False),
        ("/data/old pictures and more/", True),
        ("/mnt/lake/in/", False),
        ("/mnt/", False),
        ("/", False),
    ],
)
def test_a_folder_is_on_disks_if_all_that_is_mounted_there_is(root, on_disks):
    assert filesystems.is_on_disks(root, MOUNTS) == on_disks
    assert not filesystems.is_on_disks(root, "")


def test_a_mount_that_hangs_holds_up_nobody_else(folder, monkeypatch):
    (folder / "lake").mkdir()
    mounts = f"1 0 8:1 / / rw - ext4 a rw\n2 1 0:1 / {folder}/lake rw - nfs4 b rw\n"
    monkeypatch.setattr(filesystems, "_mounts", lambda: mounts)
    hangs, realpath = threading.Event(), os.path.realpath

    def hanging(path, **options):
        return hangs.wait(60) if "/lake/" in str(path) else realpath(path, **options)

    roots = [f"{folder}/lake", f"{folder}/root"]
    sources = filesystems.Filesystems.of(roots=roots, buckets=["memory://images"])
    fsspec.filesystem("memory").pipe("/images/a", web.IMAGE)
    opened, loop = sources.open(), fsspec.asyn.get_loop()
    monkeypatch.setattr(os.path, "realpath", hanging)

    def begin(uri):
        return asyncio.run_coroutine_threadsafe(opened[uri[:4]](uri, 100_000, ignore), loop)

    stuck = [begin(f"file://{folder}/lake/{n}.jpg") for n in range(20)]
    assert begin(f"file://{folder}/root/in/a%20b%2520c.jpg").result(30) == web.IMAGE
    opened["memo"] = opened["memory"]
    assert begin("memory://images/a").result(30) == web.IMAGE
    for future in stuck:
        future.cancel()
    hangs.set()


@pytest.mark.parametrize("reference", ["in/a b%20c.jpg", "{folder}/root/in/a b%20c.jpg"])
def test_relative_reference_lies_below_the_base(folder, reference):
    sources = filesystems.Filesystems.of(roots=[f"{folder}/root"], base=f"file://{folder}/root/")
    assert read(sources, reference.format(folder=folder)) == web.IMAGE


def test_absolute_path_outside_the_roots_is_refused_with_a_base_too(folder):
    sources = filesystems.Filesystems.of(roots=[f"{folder}/root"], base=f"file://{folder}/root/")
    with pytest.raises(errors.SchemeRefused):
        read(sources, f"{folder}/secret")


@pytest.mark.parametrize("base", ["file:///data", "s3://b/", "data/"])
def test_base_outside_the_table_is_the_operators_mistake(base):
    with pytest.raises(errors.ConfigurationError):
        filesystems.Filesystems.of(roots=["/data"], base=base)


@pytest.fixture
def memory():
    fsspec.filesystem("memory").pipe("/images/a [1]*.jpg", web.IMAGE)
    fsspec.filesystem("memory").pipe("/images/empty", b"")
    fsspec.filesystem("memory").pipe("/other/secret", b"testsecret")
    yield filesystems.Filesystems.of(buckets=["memory://images"])
    fsspec.filesystem("memory").store.clear()


def test_object_in_memory_is_read_by_its_literal_name(memory):
    assert read(memory, "memory://images/a [1]*.jpg") == web.IMAGE
    assert read(memory, "memory://images/empty") == b""


def test_no_more_is_read_of_an_object_than_shows_that_it_is_too_large(memory):
    assert len(read(memory, "memory://images/a [1]*.jpg", 100)) == 101


@pytest.mark.parametrize("uri", ["memory://other/secret", "memory://images.evil/a"])
def test_bucket_outside_the_list_is_refused(memory, uri):
    with pytest.raises(errors.SchemeRefused):
        read(memory, uri)


LAKE = "abfss://images@lake.dfs.core.windows.net"


class Azure(MemoryFileSystem):
    """A container of Azure as its filesystem has it: by its name, of the account of an option."""

    protocol = "abfss"
    store: ClassVar = {"/images/a.jpg": MemoryFile(None, "/images/a.jpg", web.IMAGE)}

    def __init__(self, account_name):
        super().__init__()
        assert account_name == "lake"


@pytest.fixture
def azure(monkeypatch):
    monkeypatch.setattr(filesystems, "_filesystem_class", {"abfss": Azure}.get)


@pytest.mark.usefixtures("azure")
def test_a_container_of_azure_is_named_with_its_account():
    assert read(filesystems.Filesystems.of(buckets=[LAKE]), f"{LAKE}/a.jpg") == web.IMAGE


@pytest.mark.usefixtures("azure")
@pytest.mark.parametrize("name", ["images", "images@other.dfs.core.windows.net"])
def test_a_container_of_another_account_is_refused(name):
    with pytest.raises(errors.SchemeRefused):
        read(filesystems.Filesystems.of(buckets=[LAKE]), f"abfss://{name}/a.jpg")


@pytest.mark.usefixtures("azure")
def test_containers_of_two_accounts_are_the_operators_mistake():
    with pytest.raises(errors.ConfigurationError, match="one account"):
        filesystems.Filesystems.of(buckets=[LAKE, LAKE.replace("lake", "sea")])


@pytest.mark.parametrize("bucket", ["images", "s3:images", "memory://", "nosuch://images"])
def test_bucket_that_cannot_be_meant_is_the_operators_mistake(bucket):
    with pytest.raises(errors.ConfigurationError):
        filesystems.Filesystems.of(buckets=[bucket])


def test_missing_extra_is_named(monkeypatch):
    def missing(protocol):
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(errors.ConfigurationError, match=re.escape("beam-moderation[s3]")):
        filesystems.Filesystems.of(buckets=["s3://images"])


@pytest.fixture
def s3():
    """A bucket behind a site that answers as S3 does to a range."""
    pytest.importorskip("s3fs", reason="needs the extra s3")

    async def send(request, writer):
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        part = web.IMAGE[first : last + 1]
        span = f"bytes {first}-{first + len(part) - 1}/{len(web.IMAGE)}"
        await web.answer(part, 206, Content_Range=span)(request, writer)

    def fail(status, code, message):
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        return web.answer(body, status, Content_Type="application/xml")

    routes = {
        "/allowed-bucket/a%3A%3Ab%20%5B1%5D.jpg": send,
        "/allowed-bucket/missing": fail(404, "NoSuchKey", "No such key"),
        "/allowed-bucket/denied": fail(403, "AccessDenied", "Access Denied"),
        "/allowed-bucket/empty": fail(
            416, "InvalidRange", "The requested range is not satisfiable"
        ),
    }
    with web.Site(routes) as site:
        options = {"anon": True, "client_kwargs": {"endpoint_url": site.url("")}}
        bucket = filesystems.Buckets(["allowed-bucket"], options)
        yield site, filesystems.Filesystems({"s3": bucket})


def test_object_of_s3_is_had_by_one_request(s3):
    site, sources = s3
    assert read(sources, "s3://allowed-bucket/a::b [1].jpg") == web.IMAGE
    assert len(read(sources, "s3://allowed-bucket/a::b [1].jpg", 100)) == 101
    assert [request.method for request in site.requests] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("key", "error"), [("missing", FileNotFoundError), ("denied", PermissionError)]
)
def test_failure_of_s3_is_an_error_of_the_operating_system(s3, key, error):
    with pytest.raises(error):
        read(s3[1], f"s3://allowed-bucket/{key}")


def test_empty_object_of_s3_is_empty_though_no_range_of_it_can_be_had(s3):
    assert read(s3[1], "s3://allowed-bucket/empty") == b""
