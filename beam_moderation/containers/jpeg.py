"""The structure of a JPEG (ITU-T T.81, annex B)."""

import struct
from collections.abc import Iterator

from beam_moderation import errors, tiff_directories
from beam_moderation.containers.container import Blocks, Container, without

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# All APPn but those that settle the colour space (0 JFIF, 14 Adobe), and comments. EXIF has been
# read by then; MPF would make it several pictures, of which viewers show the first.
_METADATA = frozenset(range(0xE1, 0xF0)) - {0xEE} | {0xFE, 0}
_BLOCK_BITS = {0xC0: 2, 0xC1: 2, 0xC2: 1}
"""Bits that a block takes at least, by frame header: one for its mean, and one more for the rest of
a baseline block. No browser shows a JPEG with another header, and arithmetic coding, which takes no
bits for what is likely, would make pixels of nothing for seconds."""
SCAN_EFFORT = 0.1
"""Of one further pass over a picture; measured at 0.1 to 1.5 ns a pixel, against 9 to 20 for all of
its decoding."""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to and with the first scan's header.

    Bytes that belong to no segment come with the marker 0.
    """
    blocks = Blocks(data)
    position, marker = 2, 0
    while marker != 0xDA:
        start = data.find(b"\xff", position)
        if start < 0:
            raise errors.ImageBroken("no scan")
        if start > position:
            # The decoder would step over them one by one, so each counts as a block.
            blocks.spend(start - position)
            yield 0, position, start
        blocks.spend()
        marker = data[start + 1]
        position = start + 2
        if marker == 0xFF:
            position -= 1
        elif marker and marker not in _STANDALONE:
            (length,) = struct.unpack_from(">H", data, position)
            position += length
            yield marker, start, position


def read(data: bytes) -> Container:
    """The structure of a JPEG, and its bytes without metadata."""
    dropped, exif, frame, frame_marker, start, scan = [], b"", b"", 0, 0, 0
    for marker, start, end in _segments(data):
        if marker in _METADATA:
            dropped.append((start, end))
            if marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
                exif = exif or data[start + 10 : end]
        elif marker in _FRAME_HEADERS:
            frame, frame_marker = data[start + 4 : end], marker
        scan = end
    if frame and frame_marker not in _BLOCK_BITS:
        raise errors.FormatUnsupported("a JPEG that is neither baseline nor progressive")
    height, width, components = struct.unpack_from(">HHB", frame, 1)
    blocks = _blocks(width, height, frame[6 : 6 + 3 * components])
    # The decoder goes on to a next scan unless the first has all there is of every component.
    whole = frame_marker != 0xC2 and data[start + 4] >= components
    scans = 1 if whole else 1 + data.count(b"\xff\xda", scan)
    return Container(
        without(data, dropped),
        (width, height),
        orientation=tiff_directories.orientation(exif),
        effort=max(1.0, SCAN_EFFORT * scans),
        short=8 * (len(data) - scan) < _BLOCK_BITS[frame_marker] * blocks,
    )


def _blocks(width: int, height: int, components: bytes) -> int:
    """The number of 8x8 blocks of a frame; `components` is three bytes for each."""
    factors = [(factor >> 4, factor & 15) for factor in components[1::3]]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(
        -(-width * h // (8 * across)) * -(-height * v // (8 * down))
        for h, v in factors
        if across and down
    )
