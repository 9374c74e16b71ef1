"""The structure of a WebP (RFC 9649)."""

import struct
from collections.abc import Iterator

from beam_moderation import errors, tiff_directories
from beam_moderation.containers.container import Blocks, Container


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and start of the body of each chunk."""
    blocks = Blocks(data)
    position = 12
    while position + 8 <= len(data):
        blocks.spend()
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8
        position += 8 + length + (length & 1)


def read(data: bytes) -> Container:
    """The structure of a WebP."""
    size: tuple[int, int] | None = None
    frames, exif = 0, b""
    for kind, body in _chunks(data):
        size = size or _size(kind, data, body)
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            (length,) = struct.unpack_from("<I", data, body - 4)
            exif = data[body : body + length]
    if size is None:
        raise errors.ImageBroken("no picture")
    return Container(data, size, max(1, frames), tiff_directories.orientation(exif))


def _size(kind: bytes, data: bytes, body: int) -> tuple[int, int] | None:
    """The canvas that a chunk states, if it states one (RFC 9649, sections 2.5 to 2.7)."""
    if kind == b"VP8X":
        low, middle, high = struct.unpack_from("<HHH", data, body + 4)
        return 1 + (low | (middle & 0xFF) << 16), 1 + (middle >> 8 | high << 8)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, body + 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, body + 6)
        return width & 0x3FFF, height & 0x3FFF
    return None
