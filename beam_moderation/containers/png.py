"""The structure of a PNG, animated or not (PNG specification, third edition, section 5)."""

import struct
from collections.abc import Iterator

from beam_moderation import errors, tiff_directories
from beam_moderation.containers.container import Blocks, Container, without

_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"})
_DEFLATE_MOST = 1032
"""Bytes that one byte of a deflate stream can stand for (zlib.net/zlib_tech.html)."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel by colour type (PNG specification, table 11.1)."""


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk, length and checksum included, to the end chunk."""
    blocks = Blocks(data)
    position, kind = 8, b""
    while kind != b"IEND":
        blocks.spend()
        if position + 8 > len(data):
            raise errors.ImageBroken("ends before its end chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position, position + 12 + length
        # Only the end chunk's checksum may be missing: no pixel is lost with it.
        if position > len(data) and kind != b"IEND":
            raise errors.ImageBroken("ends inside a chunk")
        yield kind, start, position


def read(data: bytes) -> Container:
    """The structure of a PNG or APNG, and its bytes without metadata."""
    dropped, exif, animated, controls, stills, still_bytes = [], b"", 0, 0, 0, 0
    for kind, start, end in _chunks(data):
        if kind not in _PIXEL_CHUNKS:
            dropped.append((start, end))
        if kind == b"IDAT":
            # Pixels before the first control are a picture of their own beside the animation's.
            stills = stills or (not controls)
            still_bytes += end - start - 12
        elif kind == b"fcTL":
            controls += 1
        elif kind == b"acTL":
            (animated,) = struct.unpack_from(">I", data, start + 8)
        elif kind == b"eXIf":
            exif = data[start + 8 : end - 4]
    width, height, bits, colours = struct.unpack_from(">IIBB", data, 16)
    pixel_bytes = width * height * bits * _SAMPLES.get(colours, 1) // 8
    return Container(
        without(data, dropped),
        (width, height),
        stills + min(animated, controls) if animated else 1,
        tiff_directories.orientation(exif),
        short=still_bytes * _DEFLATE_MOST < pixel_bytes,
    )
