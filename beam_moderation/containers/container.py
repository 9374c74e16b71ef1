"""`Container`: a file's structure, and what its readers share."""

from collections.abc import Sequence
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


def without(data: bytes, dropped: Sequence[tuple[int, int]]) -> bytes:
    """The bytes less some spans of it, given in order."""
    if not dropped:
        return data
    view = memoryview(data)
    starts = [0, *(end for _, end in dropped)]
    ends = [*(start for start, _ in dropped), len(data)]
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))
