"""The structure of a TIFF, whose directories `tiff_directories` walks."""

import re

from beam_moderation import errors, tiff_directories
from beam_moderation.containers import jpeg
from beam_moderation.containers.container import Blocks, Container

_JPEG_OF_SCANS = re.compile(
    rb"\xff[\xc2\xc9\xca]\0(\x0b\x08....\x01|\x0e\x08....\x02|\x11\x08....\x03|\x14\x08....\x04)",
    re.DOTALL,
)
"""The frame header of a JPEG that is progressive or in arithmetic coding."""
_MOST_SCANS = 100
"""Of a JPEG within a TIFF; libtiff (tif_jpeg.c, since 4.0.8) gives up there."""


def read(data: bytes) -> Container:
    """The pages of a TIFF."""
    pages = list(tiff_directories.pages(data, Blocks(data).spend))
    if not pages:
        raise errors.ImageBroken("no page")
    scans = _MOST_SCANS if _JPEG_OF_SCANS.search(data) else 1
    effort = max(1.0, jpeg.SCAN_EFFORT * scans)
    return Container(data, pages[0].size, len(pages), effort=effort, pages=pages)
