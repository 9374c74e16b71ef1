"""An AVIF, of which only the library that decodes it can tell the structure."""

from beam_moderation import tiff_directories
from beam_moderation.containers.container import Blocks, Container


def read(data: bytes) -> Container:
    """The file as it is, its metadata held against the limits of blocks."""
    tiff_directories.check_embedded(data, Blocks(data).spend)
    return Container(data)
