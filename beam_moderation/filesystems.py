"""The operator's table: which schemes may be read, from where, through which fsspec filesystem.

`fsspec.open`, `url_to_fs` and globbing never see a reference: they read the local disk where no
scheme is recognised, and take `::` for a chain of filesystems. A reference's scheme is looked up
here, and what the table does not name is refused.
"""

import asyncio
import concurrent.futures
import dataclasses
import errno
import functools
import os
import re
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import fsspec

from beam_moderation import addresses, errors, guarded_http, uris

Read: TypeAlias = Callable[[str, int, guarded_http.Received], Awaitable[bytes]]
"""Reads a URI: all of it, or more than `max_bytes` of it; tells of every piece that it received.

Raises a FetchError, or whatever the filesystem raises.
"""

_FILE_THREADS = 16
"""That wait for local files, apart from all other waiting: a mount that hangs may take them all."""

_ON_DISKS = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs"}
"""Linux's names for filesystems that wait for no other machine and no other process."""

_OCTAL = re.compile(r"\\(\d{3})")
"""How mountinfo writes a blank in the name of a folder."""

EXTRAS: Mapping[str, str] = {
    "s3": "s3",
    "gs": "gs",
    "gcs": "gs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
}
"""The schemes whose filesystems are extras of this package, and the extra's name."""


class Source(Protocol):
    """Where the references of a scheme may point to. Picklable."""

    def open(self, scheme: str, /) -> Read:
        """Makes the filesystem; called on the worker, once a process."""


@dataclasses.dataclass(frozen=True)
class Web:
    """http and https: any public address, and what the policy adds. See `GuardedHTTPFileSystem`."""

    policy: addresses.AddressPolicy = dataclasses.field(default_factory=addresses.AddressPolicy)
    max_redirects: int = 5
    user_agent: str = "beam-moderation"
    ca_file: str | None = None

    def open(self, _scheme: str, /) -> Read:
        """One filesystem, and so one set of connections, for both schemes."""
        filesystem = guarded_http.GuardedHTTPFileSystem(
            self.policy, self.max_redirects, self.user_agent, self.ca_file, skip_instance_cache=True
        )

        async def read(uri: str, max_bytes: int, received: guarded_http.Received) -> bytes:
            return await filesystem._cat_file(uri, max_bytes=max_bytes, received=received)

        return read


@dataclasses.dataclass(frozen=True)
class LocalFiles:
    """Regular files below some folders, and below where symbolic links there lead.

    A path must name one of the folders, as it is given here or resolved.
    """

    roots: Sequence[str]

    def open(self, _scheme: str, /) -> Read:
        """The roots are resolved here, once.

        A path is compared as it is written before it is touched: where nothing may be read there is
        to be no waiting, and no mounting, either.

        A file that is in memory is read at once, for a hop to a thread costs more than that. But
        only on disks of this machine: a mount that hangs is to hold up a thread, not all fetching.
        """
        roots = [os.path.join(os.path.realpath(root), "") for root in self.roots]
        named = (*roots, *(os.path.join(os.path.abspath(root), "") for root in self.roots))
        quick = [root for root in roots if is_on_disks(root, _mounts())]
        threads = concurrent.futures.ThreadPoolExecutor(_FILE_THREADS, "read-file")

        async def read(uri: str, max_bytes: int, received: guarded_http.Received) -> bytes:
            path = uris.parse_file_path(uri)
            _check_spelling(named, path)
            try:
                content = read_cached(quick, path, max_bytes)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                content = await loop.run_in_executor(threads, read_file, roots, path, max_bytes)
            await received(len(content))
            return content

        return read


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Some buckets (or containers, or top folders of `memory:`) of an fsspec filesystem.

    Args:
      names: the buckets that may be read; of Azure as references have them, `container` or
        `container@account.dfs.core.windows.net`.
      options: of the filesystem, an endpoint for instance; credentials are better left to the
        worker's environment.
    """

    names: Sequence[str]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def open(self, scheme: str, /) -> Read:
        """Whole objects by one request each; a filesystem that blocks does so in a thread."""
        options = {**self.options, "skip_instance_cache": True}
        filesystem = _filesystem_class(scheme)(**options)
        cat_file: Callable[..., Awaitable[bytes]] = (
            filesystem._cat_file
            if filesystem.async_impl
            else functools.partial(asyncio.to_thread, filesystem.cat_file)
        )

        async def read(uri: str, max_bytes: int, received: guarded_http.Received) -> bytes:
            bucket, key = uris.parse_object(uri)
            if bucket not in self.names:
                raise errors.SchemeRefused(f"not an allowed bucket: {uris.redact_uri(uri)}")
            try:
                content = await cat_file(
                    f"{bucket.partition('@')[0]}/{key}", start=0, end=max_bytes + 1
                )
            except Exception as error:
                # Of an object's first bytes, only those of an empty one are "not satisfiable".
                if "satisfiable" not in str(error):
                    raise
                content = b""
            await received(len(content))
            return content

        return read


def _filesystem_class(scheme: str) -> Any:
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"pip install 'beam-moderation[{extra}]'" if extra else str(error)
        raise errors.ConfigurationError(f"{scheme}:// cannot be read: {remedy}") from error
    except ValueError as error:
        raise errors.ConfigurationError(f"fsspec knows no {scheme}://") from error


@dataclasses.dataclass(frozen=True)
class Filesystems:
    """What may be read: a source for each scheme, and what relative references are relative to.

    Args:
      sources: by scheme, in lower case; by default http and https.
      base: a URI that ends in a slash; without it a relative reference is refused.

    Raises:
      ConfigurationError: a source's package is not installed, or `base` is not in the table.
    """

    sources: Mapping[str, Source] = dataclasses.field(default_factory=lambda: _web(Web()))
    base: str | None = None

    def __post_init__(self) -> None:
        for scheme, source in self.sources.items():
            if isinstance(source, Buckets):
                _filesystem_class(scheme)
        if self.base is not None:
            self._check_base(self.base)

    def _check_base(self, base: str) -> None:
        if uris.scheme_of(base) not in self.sources or not base.endswith("/"):
            raise errors.ConfigurationError(
                f"a base ends in a slash and has a scheme of {sorted(self.sources)}: {base!r}"
            )

    @classmethod
    def of(
        cls,
        *,
        roots: Sequence[str] = (),
        buckets: Sequence[str] = (),
        policy: addresses.AddressPolicy | None = None,
        base: str | None = None,
    ) -> "Filesystems":
        """The table from what a command line can say.

        Args:
          roots: folders whose files may be read.
          buckets: as `s3://name`, or `abfss://container@account.dfs.core.windows.net`.
          policy: which addresses http and https may dial.
          base: what relative references are relative to.
        """
        sources: dict[str, Source] = _web(Web(policy or addresses.AddressPolicy()))
        if roots:
            sources["file"] = LocalFiles(tuple(roots))
        names: dict[str, list[str]] = {}
        for bucket in buckets:
            scheme, separator, name = bucket.partition("://")
            if not separator or not name.strip("/"):
                raise errors.ConfigurationError(f"a bucket is given as s3://name, not {bucket!r}")
            names.setdefault(scheme, []).append(name.strip("/"))
        for scheme, allowed in names.items():
            sources[scheme] = Buckets(tuple(allowed), _account(allowed))
        return cls(sources, base)

    def locate(self, reference: str) -> tuple[str, str]:
        """The scheme and the absolute URI of a reference.

        Raises:
          UriInvalid: no scheme and no base, or not below the base.
          SchemeRefused: no source for the scheme.
        """
        scheme = uris.scheme_of(reference)
        if scheme is None:
            if self.base is None:
                raise errors.UriInvalid(f"not an absolute URI: {uris.redact_uri(reference)}")
            reference = uris.below(self.base, reference)
            scheme = uris.scheme_of(self.base)
        if scheme is None or scheme not in self.sources:
            raise errors.SchemeRefused(f"no source for {uris.redact_uri(reference)}")
        return scheme, reference

    def open(self) -> Mapping[str, Read]:
        """Makes every filesystem; a source that stands for several schemes is opened once."""
        opened: dict[int, Read] = {}
        for scheme, source in self.sources.items():
            if id(source) not in opened:
                opened[id(source)] = source.open(scheme)
        return {scheme: opened[id(source)] for scheme, source in self.sources.items()}


def _account(buckets: Sequence[str]) -> Mapping[str, str]:
    """The option that names the account of Azure, where buckets do."""
    accounts = {bucket.partition("@")[2].partition(".")[0] for bucket in buckets} - {""}
    if len(accounts) > 1:
        raise errors.ConfigurationError(f"buckets of one account, not of {sorted(accounts)}")
    return {"account_name": accounts.pop()} if accounts else {}


def _web(web: Web) -> dict[str, Source]:
    return {"https": web, "http": web}


def _mounts() -> str:
    """What is mounted where: proc(5), mountinfo. Empty where the system does not say."""
    try:
        with open("/proc/self/mountinfo") as mounts:
            return mounts.read()
    except OSError:
        return ""


def is_on_disks(root: str, mounts: str) -> bool:
    """Whether a folder, and all that is mounted below it, is on disks of this machine.

    Args:
      root: a real path that ends in a slash.
      mounts: the content of `/proc/self/mountinfo`.
    """
    kinds = {}
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        folder = _OCTAL.sub(lambda found: chr(int(found[1], 8)), place.split(" ")[4])
        kinds[os.path.join(folder, "")] = kind.split(" ")[0]
    above = max((folder for folder in kinds if root.startswith(folder)), key=len, default=None)
    concerned = [kind for folder, kind in kinds.items() if folder.startswith(root)]
    return above is not None and {kinds[above], *concerned} <= _ON_DISKS


def read_cached(roots: Sequence[str], path: str, max_bytes: int) -> bytes:
    """The bytes of a regular file that can be had with no waiting and no link on the way.

    Args:
      roots: as for `read_file`, on disks of this machine.
      path: of the file.
      max_bytes: of the file.

    Raises:
      FetchNotFound, FetchTooLarge: as `read_file`.
      BlockingIOError: it cannot be had so, or the system cannot say: ask `read_file`.
    """
    root = next((root for root in roots if path.startswith(root)), None)
    if root is None or ".." in path.split("/"):
        raise BlockingIOError(errno.EAGAIN, "not known to be on a disk")
    try:
        file = _open_below(root, path[len(root) :], path)
    except (OSError, errors.FetchNotFound) as error:
        raise BlockingIOError(errno.EAGAIN, "a link, or nothing") from error
    try:
        size = _regular_size(file, path, max_bytes)
        if not _is_cached(file, size):
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return _read(file, size)
    finally:
        os.close(file)


def read_file(roots: Sequence[str], path: str, max_bytes: int) -> bytes:
    """The bytes of a regular file below one of `roots`, each a real path that ends in a slash.

    The path is resolved, compared, and then walked without following any link, so that a link made
    in between is refused too.

    Args:
      roots: the folders.
      path: of the file, absolute.
      max_bytes: of the file.

    Raises:
      SchemeRefused: the file is below none of the roots.
      FetchNotFound: there is no file, or something that is not a regular file.
      FetchTooLarge: it has more than `max_bytes`.
      OSError: it cannot be read.
    """
    real = os.path.realpath(path)
    root = next((root for root in roots if real.startswith(root)), None)
    if root is None:
        raise _below_no_root(path)
    file = _open_below(root, real[len(root) :], path)
    try:
        return _read(file, _regular_size(file, path, max_bytes))
    finally:
        os.close(file)


def _check_spelling(roots: tuple[str, ...], path: str) -> None:
    """Refuses a path that, as it is written, is below no root; looks at no file."""
    if not os.path.normpath(path).startswith(roots):
        raise _below_no_root(path)


def _below_no_root(path: str) -> errors.SchemeRefused:
    return errors.SchemeRefused(f"below no allowed folder: {uris.printable(path)}")


def _open_below(root: str, relative: str, path: str) -> int:
    *folders, name = relative.split("/")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise errors.FetchNotFound(f"no such file: {uris.printable(path)}") from error
        raise
    finally:
        os.close(folder)


def _regular_size(file: int, path: str, max_bytes: int) -> int:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise errors.FetchNotFound(f"not a regular file: {uris.printable(path)}")
    if status.st_size > max_bytes:
        raise errors.FetchTooLarge(f"more than {max_bytes} bytes: {uris.printable(path)}")
    return status.st_size


def _is_cached(file: int, size: int) -> bool:
    """Whether the last byte can be had without a disk; False where the system cannot say."""
    try:
        return os.preadv(file, [bytearray(1)], max(size - 1, 0), os.RWF_NOWAIT) == 1
    except (OSError, AttributeError):
        return False


def _read(file: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.read(file, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
