"""Small files that appear as a whole and survive the end of this machine's power."""

import contextlib
import os
import uuid
from typing import Any

from fsspec.implementations.local import LocalFileSystem


def write(filesystem: Any, path: str, content: bytes) -> None:
    """Writes a file, in the place of one that is there; object stores have it when they say so."""
    if isinstance(filesystem, LocalFileSystem):
        _write_local(path, content, os.replace)
    else:
        filesystem.pipe_file(path, content)


def create(filesystem: Any, path: str, content: bytes) -> bool:
    """Writes a file unless there is one; says whether it did.

    Of several at once one does; on an object store, so far as its filesystem heeds `mode`.
    """
    try:
        if isinstance(filesystem, LocalFileSystem):
            _write_local(path, content, os.link)
        elif _is_there(filesystem, path):
            return False
        else:
            filesystem.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    return True


def _is_there(filesystem: Any, path: str) -> bool:
    """Asked of the store itself: some filesystems take `mode="create"` and write all the same."""
    filesystem.invalidate_cache(os.path.dirname(path))
    found: bool = filesystem.exists(path)
    return found


def make_folder(filesystem: Any, folder: str) -> None:
    """Makes a folder that is there to stay."""
    filesystem.makedirs(folder, exist_ok=True)
    if isinstance(filesystem, LocalFileSystem):
        _sync(os.path.dirname(folder))


def _write_local(path: str, content: bytes, name_it: Any) -> None:
    """Has the content on the disk before the file has its name, and then the name."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        name_it(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    for directory in (folder, os.path.dirname(folder)):
        _sync(directory)


def _sync(directory: str) -> None:
    """Has the disk know the names in a directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
