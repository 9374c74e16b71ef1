"""Pixels of any kind as upright 8-bit RGB: what every judge sees.

- Transparency is flattened onto each backdrop in turn, because a picture may be drawn in the alpha
  channel alone and show on one colour of page only. The colour of a pixel that is wholly
  transparent is shown to nobody, and is not judged.
- 16-bit grey keeps its upper 8 bits; clipping would turn most of it white.
- 32-bit integers and floats, which state no range, are stretched from their least to their
  greatest value.
- CMYK, palette, 1-bit, YCbCr and Lab are converted as Pillow does, Adobe's inverted CMYK included.
  Colour profiles are ignored.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a stored picture upright, by EXIF orientation (CIPA DC-008, section 4.6.4)."""


def upright_rgb(
    image: Image.Image, orientation: int, backdrops: Sequence[str]
) -> Iterator[Image.Image]:
    """The picture as upright RGB: once, or once on each backdrop where it is not opaque.

    An RGB picture that is upright already is given as it is, not as a copy.
    """
    pictures = _rgb(_eight_bit(image), backdrops)
    transposition = _TRANSPOSITIONS.get(orientation)
    if transposition is None:
        return pictures
    return (picture.transpose(transposition) for picture in pictures)


def _rgb(image: Image.Image, backdrops: Sequence[str]) -> Iterator[Image.Image]:
    if not image.has_transparency_data:
        yield image if image.mode == "RGB" else image.convert("RGB")
        return
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        yield image.convert("RGB")
        return
    for backdrop in backdrops:
        yield _flattened(image, backdrop)


def _flattened(rgba: Image.Image, backdrop: str) -> Image.Image:
    picture = Image.new("RGB", rgba.size, backdrop)
    picture.paste(rgba, mask=rgba)
    return picture


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _upper_bits(np.asarray(image), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretched(np.asarray(image, np.float32)))
    return image


def _upper_bits(samples: npt.NDArray[Any], transparent: Any) -> Image.Image:
    """16-bit grey as 8-bit, with an alpha channel where a sample stands for transparent."""
    grey = Image.fromarray((samples >> 8).astype(np.uint8))
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray((samples != transparent) * np.uint8(255)))
    return grey


def _stretched(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Samples of an unknown range as 0 to 255; what is no number is 0."""
    known = np.isfinite(samples)
    low, high = samples.min(where=known, initial=np.inf), samples.max(where=known, initial=-np.inf)
    span = float(high) - float(low)
    scale = np.float32(255 / span if span > 0 else 0)
    stretched = (samples - low) * scale
    return np.where(known, stretched, np.float32(0)).astype(np.uint8)
