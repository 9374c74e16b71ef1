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
from collections.abc import Callable, Mapping, Sequence

from beam_moderation import errors
from beam_moderation.containers import avif, bmp, gif, jpeg, png, tiff, webp
from beam_moderation.containers.container import Container

__all__ = ["Container", "format_of", "read"]

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


_READERS: Mapping[str, Callable[[bytes], Container]] = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "GIF": gif.read,
    "WEBP": webp.read,
    "BMP": bmp.read,
    "TIFF": tiff.read,
    "AVIF": avif.read,
}


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
