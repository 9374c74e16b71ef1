"""What image files say of themselves, read from their structure without decoding a pixel.

Decoders parse metadata before anybody can stop them, and parsers of metadata are where a few
kilobytes cost gigabytes: EXIF directories that name the same bytes 65,000 times, comments that
grow quadratically, text chunks that overwrite the decoder's own settings. So each format's
structure is walked here first, in time linear in the bytes. Of JPEG, PNG and GIF the decoder is
then given only the parts that make pixels, and of no format a file whose structure does not reach
its end.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from beam_moderation import errors, tiff_directories


class Container(NamedTuple):
    """A file's structure.

    `size` is the width and height as stored, before any orientation. `effort` is what decoding a
    pixel of a frame costs, compared with an ordinary picture. Of AVIF only the library that
    decodes it can tell these: they keep their defaults.
    """

    content: bytes
    """What the decoder is to be given."""
    size: tuple[int, int] = (1, 1)
    frames: int = 1
    orientation: int = 1
    """The EXIF orientation, 1 to 8; 1 where there is none or where it makes no sense."""
    effort: float = 1.0
    pages: Sequence[tiff_directories.Directory] = ()
    """Of a TIFF: each page's directory."""
    short: bool = False
    """Whether the file has fewer bytes than its pixels can be packed into."""


class Blocks:
    """Counts a file's blocks, and refuses one that has more than any encoder writes.

    Each block costs a decoder some microseconds of Python, so 20 MB of blocks of one byte would
    hold it up for a minute.
    """

    _ALWAYS_ALLOWED = 100_000
    _MIN_MEAN_BYTES = 64

    def __init__(self, data: bytes) -> None:
        self._left = self._ALWAYS_ALLOWED + len(data) // self._MIN_MEAN_BYTES

    def spend(self, count: int = 1) -> None:
        """Counts some blocks.

        Raises:
          ImageBroken: there are too many.
        """
        self._left -= count
        if self._left < 0:
            raise errors.ImageBroken("more blocks than any encoder writes")


_MAGIC: Sequence[tuple[str, re.Pattern[bytes]]] = [
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL)),
    # Two letters alone would take any text that begins with BM: ask for a known header size too.
    ("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    # Container brands (mif1, msf1) are AVIF only where a compatible brand says so.
    ("AVIF", re.compile(rb"....ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,15}?avi[fs])", re.DOTALL)),
]

_UNSUPPORTED: Sequence[tuple[str, re.Pattern[bytes]]] = [
    ("HEIF", re.compile(rb"....ftyp(hei|hev|m[is]f1)", re.DOTALL)),
    ("an ISO media file", re.compile(rb"....ftyp", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("PDF", re.compile(rb"%PDF-")),
    ("PSD", re.compile(rb"8BPS")),
    ("an icon", re.compile(rb"\0\0[\1\2]\0")),
    ("markup", re.compile(rb"(\xef\xbb\xbf)?\s*<")),
]


def format_of(data: bytes) -> str:
    """The name of the format, as Pillow spells it, that the first bytes show.

    Raises:
      ImageEmpty: there are no bytes.
      FormatUnsupported: the bytes begin like nothing that is decoded here.
    """
    if not data:
        raise errors.ImageEmpty("no bytes")
    for name, magic in _MAGIC:
        if magic.match(data):
            return name
    known = (name for name, magic in _UNSUPPORTED if magic.match(data))
    raise errors.FormatUnsupported(f"begins like {next(known, 'no known image format')}")


def read(image_format: str, data: bytes) -> Container:
    """The structure of a file of a format of `format_of`.

    Raises:
      ImageBroken: the file ends early, or is built to exhaust its reader.
      FormatUnsupported: a JPEG that is neither baseline nor progressive.
    """
    try:
        return _READERS[image_format](data)
    except (struct.error, IndexError, ValueError) as error:
        raise errors.ImageBroken("a header is cut short, or makes no sense") from error


def _without(data: bytes, dropped: Sequence[tuple[int, int]]) -> bytes:
    """The bytes less some spans of it, given in order."""
    if not dropped:
        return data
    view = memoryview(data)
    starts = [0, *(end for _, end in dropped)]
    ends = [*(start for start, _ in dropped), len(data)]
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))


_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# All APPn but those that settle the colour space (0 JFIF, 14 Adobe), and comments. EXIF has been
# read by then; MPF would make it several pictures, of which viewers show the first.
_JPEG_METADATA = frozenset(range(0xE1, 0xF0)) - {0xEE} | {0xFE, 0}
_JPEG_BLOCK_BITS = {0xC0: 2, 0xC1: 2, 0xC2: 1}
"""Bits that a block takes at least, by frame header: one for its mean, and one more for the rest of
a baseline block. No browser shows a JPEG with another header, and arithmetic coding, which takes no
bits for what is likely, would make pixels of nothing for seconds."""
_JPEG_SCAN_EFFORT = 0.1
"""Of one further pass over a picture; measured at 0.1 to 1.5 ns a pixel, against 9 to 20 for all of
its decoding."""


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
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
        elif marker and marker not in _JPEG_STANDALONE:
            (length,) = struct.unpack_from(">H", data, position)
            position += length
            yield marker, start, position


def _jpeg(data: bytes) -> Container:
    dropped, exif, frame, frame_marker, start, scan = [], b"", b"", 0, 0, 0
    for marker, start, end in _jpeg_segments(data):
        if marker in _JPEG_METADATA:
            dropped.append((start, end))
            if marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
                exif = exif or data[start + 10 : end]
        elif marker in _JPEG_FRAME_HEADERS:
            frame, frame_marker = data[start + 4 : end], marker
        scan = end
    if frame and frame_marker not in _JPEG_BLOCK_BITS:
        raise errors.FormatUnsupported("a JPEG that is neither baseline nor progressive")
    height, width, components = struct.unpack_from(">HHB", frame, 1)
    blocks = _jpeg_blocks(width, height, frame[6 : 6 + 3 * components])
    # The decoder goes on to a next scan unless the first has all there is of every component.
    whole = frame_marker != 0xC2 and data[start + 4] >= components
    scans = 1 if whole else 1 + data.count(b"\xff\xda", scan)
    return Container(
        _without(data, dropped),
        (width, height),
        orientation=tiff_directories.orientation(exif),
        effort=max(1.0, _JPEG_SCAN_EFFORT * scans),
        short=8 * (len(data) - scan) < _JPEG_BLOCK_BITS[frame_marker] * blocks,
    )


def _jpeg_blocks(width: int, height: int, components: bytes) -> int:
    """The number of 8x8 blocks of a frame; `components` is three bytes for each."""
    factors = [(factor >> 4, factor & 15) for factor in components[1::3]]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(
        -(-width * h // (8 * across)) * -(-height * v // (8 * down))
        for h, v in factors
        if across and down
    )


_PNG_PIXEL_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
)
_DEFLATE_MOST = 1032
"""Bytes that one byte of a deflate stream can stand for (zlib.net/zlib_tech.html)."""
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel by colour type (PNG specification, table 11.1)."""


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
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


def _png(data: bytes) -> Container:
    dropped, exif, animated, controls, stills, still_bytes = [], b"", 0, 0, 0, 0
    for kind, start, end in _png_chunks(data):
        if kind not in _PNG_PIXEL_CHUNKS:
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
    pixel_bytes = width * height * bits * _PNG_SAMPLES.get(colours, 1) // 8
    return Container(
        _without(data, dropped),
        (width, height),
        stills + min(animated, controls) if animated else 1,
        tiff_directories.orientation(exif),
        short=still_bytes * _DEFLATE_MOST < pixel_bytes,
    )


def _gif_colours(flags: int) -> int:
    """The bytes of a colour table, from the flags of the descriptor before it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Introducer, start and end of each block up to the trailer, or to the end without one.

    Raises:
      ImageBroken: the bytes end inside a block.
    """
    blocks = Blocks(data)
    position = 13 + _gif_colours(data[10])
    while position < len(data) and data[position] != 0x3B:
        start, introducer = position, data[position]
        try:
            position += 1
            if introducer == 0x2C:
                position += 10 + _gif_colours(data[position + 8])
            elif introducer == 0x21:
                position += 1
            if introducer in (0x2C, 0x21):
                position, count = _after_sub_blocks(data, position)
                blocks.spend(count)
        except IndexError as error:
            raise errors.ImageBroken("ends inside a block") from error
        blocks.spend()
        yield introducer, start, position


def _after_sub_blocks(data: bytes, position: int) -> tuple[int, int]:
    """Where a chain of sub-blocks ends, and how many they are."""
    count = 0
    while length := data[position]:
        position += length + 1
        count += 1
    return position + 1, count


def _gif(data: bytes) -> Container:
    width, height = struct.unpack_from("<HH", data, 6)
    dropped, frames = [], 0
    for introducer, start, end in _gif_blocks(data):
        if introducer == 0x2C:
            left, top, across, down = struct.unpack_from("<HHHH", data, start + 1)
            # The decoder lets the canvas grow to hold every frame.
            width, height = max(width, left + across), max(height, top + down)
            frames += 1
        elif data[start : start + 2] != b"!\xf9":
            dropped.append((start, end))
    if not frames:
        raise errors.ImageBroken("no frame")
    return Container(_without(data, dropped), (width, height), frames)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and start of the body of each chunk."""
    blocks = Blocks(data)
    position = 12
    while position + 8 <= len(data):
        blocks.spend()
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8
        position += 8 + length + (length & 1)


def _webp(data: bytes) -> Container:
    size: tuple[int, int] | None = None
    frames, exif = 0, b""
    for kind, body in _webp_chunks(data):
        size = size or _webp_size(kind, data, body)
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            (length,) = struct.unpack_from("<I", data, body - 4)
            exif = data[body : body + length]
    if size is None:
        raise errors.ImageBroken("no picture")
    return Container(data, size, max(1, frames), tiff_directories.orientation(exif))


def _webp_size(kind: bytes, data: bytes, body: int) -> tuple[int, int] | None:
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


_BMP_RUN_LENGTH_EFFORT = 30
"""Pillow's decoder of run-length BMP is Python: measured at 325 ns a pixel and 500 ns a byte."""


def _bmp(data: bytes) -> Container:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        return Container(data, struct.unpack_from("<HH", data, 18))
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    if compression not in (1, 2):
        return Container(data, (width, height))
    per_pixel = 1 + len(data) / max(1, width * height)
    return Container(data, (width, height), effort=_BMP_RUN_LENGTH_EFFORT * per_pixel)


_TIFF_JPEG_OF_SCANS = re.compile(
    rb"\xff[\xc2\xc9\xca]\0(\x0b\x08....\x01|\x0e\x08....\x02|\x11\x08....\x03|\x14\x08....\x04)",
    re.DOTALL,
)
"""The frame header of a JPEG that is progressive or in arithmetic coding."""
_TIFF_MOST_SCANS = 100
"""Of a JPEG within a TIFF; libtiff (tif_jpeg.c, since 4.0.8) gives up there."""


def _tiff(data: bytes) -> Container:
    pages = list(tiff_directories.pages(data, Blocks(data).spend))
    if not pages:
        raise errors.ImageBroken("no page")
    scans = _TIFF_MOST_SCANS if _TIFF_JPEG_OF_SCANS.search(data) else 1
    effort = max(1.0, _JPEG_SCAN_EFFORT * scans)
    return Container(data, pages[0].size, len(pages), effort=effort, pages=pages)


def _avif(data: bytes) -> Container:
    tiff_directories.check_embedded(data, Blocks(data).spend)
    return Container(data)


_READERS: Mapping[str, Callable[[bytes], Container]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WEBP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "AVIF": _avif,
}
