"""TIFF directories: the pages of a TIFF file, and the EXIF block of every other format.

Pillow copies whatever a directory's entries point to before it looks at any of it. 65,535 entries
may all point to the same megabyte, so a directory is measured here before Pillow reads it; and
the one thing that is wanted of EXIF, the orientation, is read here and Pillow never sees the block.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from beam_moderation import errors

Buffer: TypeAlias = bytes | memoryview
Spend: TypeAlias = Callable[[int], None]
"""Is told how many entries are about to be read; raises where they are too many."""

_WIDTH, _HEIGHT, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 274, 322, 323
_FURTHER_DIRECTORIES = (34665, 34853, 40965)
"""Entries that name another directory, which Pillow reads too: EXIF, GPS, interoperability."""

_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}
"""Bytes of a value by its type (TIFF 6.0, section 2; 13 and 16 from its supplements)."""
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q"}

_SLACK_BYTES = 1 << 16
"""What entries may claim beyond twice the bytes there are; honest ones do not overlap."""
_MAX_TILE_PIXELS = 1 << 22
"""Of a tile that is larger than its picture, as a small picture's may be."""

_HEADER = re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+")


class _Layout(NamedTuple):
    """How a file is laid out: byte order, and the wider fields of a BigTIFF."""

    order: str
    length: struct.Struct
    entry: struct.Struct
    pointer: struct.Struct
    first: int
    """Where the pointer to the first directory stands."""


def _layout(order: str, length: str, entry: str, pointer: str) -> _Layout:
    structs = [struct.Struct(order + fields) for fields in (length, entry, pointer)]
    # A pointer stands behind the 4 bytes of the header, aligned to its own size.
    return _Layout(order, structs[0], structs[1], structs[2], first=structs[2].size)


_LAYOUTS: Mapping[bytes, _Layout] = {
    b"II*\0": _layout("<", "H", "HHL4s", "L"),
    b"MM\0*": _layout(">", "H", "HHL4s", "L"),
    b"II+\0": _layout("<", "Q", "HHQ8s", "Q"),
    b"MM\0+": _layout(">", "Q", "HHQ8s", "Q"),
}


class Directory(NamedTuple):
    """One directory: its place, its whole numbers by tag, and the place of the next, 0 for none.

    `claimed_bytes` is what Pillow copies when it reads the directory.
    """

    position: int
    values: Mapping[int, int]
    next: int
    claimed_bytes: int

    @property
    def size(self) -> tuple[int, int]:
        """The page's width and height as stored; 0 where it does not say."""
        return self.values.get(_WIDTH, 0), self.values.get(_HEIGHT, 0)


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, that an EXIF block states; 1 where it states none of these."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    try:
        layout = _LAYOUTS[exif[:4]]
        (position,) = layout.pointer.unpack_from(exif, layout.first)
        stated = _read(exif, layout, position).values.get(_ORIENTATION, 1)
    except (struct.error, KeyError):
        return 1
    return stated if 1 <= stated <= 8 else 1


def pages(data: bytes, spend: Spend) -> Iterator[Directory]:
    """The directories of a TIFF file's pages, in order.

    Raises:
      ImageBroken: what one of them claims exhausts whoever believes it.
      struct.error: the file ends inside a directory.
    """
    layout = _LAYOUTS[data[:4]]
    (position,) = layout.pointer.unpack_from(data, layout.first)
    seen: set[int] = set()
    while position and position not in seen:
        seen.add(position)
        page = _read(data, layout, position, spend)
        _check(page, data)
        for tag in _FURTHER_DIRECTORIES:
            if further := page.values.get(tag):
                _check_embedded(data, layout, further, spend)
        yield page
        position = page.next


def with_first_page(data: bytes, position: int) -> bytes:
    """The TIFF file as if the directory at `position` were its first."""
    layout = _LAYOUTS[data[:4]]
    pointer = layout.pointer.pack(position)
    return b"".join([data[: layout.first], pointer, data[layout.first + len(pointer) :]])


def check_embedded(data: bytes, spend: Spend) -> None:
    """Checks whatever in a file of another kind may be an EXIF block.

    Raises:
      ImageBroken: what one of them claims exhausts whoever believes it.
    """
    for header in _HEADER.finditer(data):
        spend(1)
        layout = _LAYOUTS[header.group()]
        block = memoryview(data)[header.start() :]
        if len(block) >= 16:
            (position,) = layout.pointer.unpack_from(block, layout.first)
            _check_embedded(block, layout, position, spend)


def _check_embedded(data: Buffer, layout: _Layout, position: int, spend: Spend) -> None:
    """As `_check`, for what need not be a directory at all."""
    try:
        directory = _read(data, layout, position, spend)
    except struct.error:
        return
    _check(directory, data)


def _check(directory: Directory, data: Buffer) -> None:
    if directory.claimed_bytes > 2 * len(data) + _SLACK_BYTES:
        raise errors.ImageBroken("a directory claims the same bytes many times over")
    width, height = directory.size
    tile = directory.values.get(_TILE_WIDTH, 0) * directory.values.get(_TILE_HEIGHT, 0)
    if tile > max(width * height, _MAX_TILE_PIXELS):
        raise errors.ImageBroken("tiles far larger than the picture")


def _read(data: Buffer, layout: _Layout, position: int, spend: Spend | None = None) -> Directory:
    """The directory at a position.

    Raises:
      struct.error: it does not lie within the data.
    """
    if position > len(data):
        raise struct.error("outside the data")
    (count,) = layout.length.unpack_from(data, position)
    start = position + layout.length.size
    end = start + count * layout.entry.size
    (following,) = layout.pointer.unpack_from(data, end) if end < len(data) else (0,)
    count = min(count, (len(data) - start) // layout.entry.size)
    if spend:
        spend(count)
    values, claimed, believed = {}, 0, True
    for tag, kind, length, inline in layout.entry.iter_unpack(
        data[start : start + count * layout.entry.size]
    ):
        size = length * _TYPE_BYTES.get(kind, 0)
        if size > len(inline):
            (place,) = layout.pointer.unpack(inline)
            # Pillow stops at the first entry that points outside.
            believed = believed and place + size <= len(data)
            claimed += size * believed
        elif size and kind in _WHOLE_NUMBERS:
            (values[tag],) = struct.unpack_from(layout.order + _WHOLE_NUMBERS[kind], inline)
    return Directory(position, values, following, claimed)
