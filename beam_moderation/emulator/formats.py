"""Which image format bytes begin like."""

import re
from collections.abc import Mapping

_BEGINNINGS: Mapping[str, re.Pattern[bytes]] = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II\*\x00|MM\x00\*"),
    "HEIF": re.compile(rb"....ftyp(?:heic|heix|heif|mif1|msf1)", re.DOTALL),
}


def image_format(data: bytes) -> str:
    """The format's name, or an empty text for bytes that begin like no image."""
    return next((name for name, beginning in _BEGINNINGS.items() if beginning.match(data)), "")
