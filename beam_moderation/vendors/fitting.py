"""Makes an image fit a vendor's limits, or refuses it before any money is spent."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from beam_moderation import errors, images
from beam_moderation.vendors import protocol

_QUALITY = 90
"""Of a JPEG that was made to fit: high enough that what is judged is what was sent in."""

_SHRINK = 0.7
"""The step, in each direction, by which a picture shrinks until its bytes fit."""

_SMALLEST_SIDE = 256
"""Vendors advise against smaller pictures (help.aliyun.com/document_detail/70292.html), so none is
shrunk to one: what cannot be seen any more would pass."""

_BACKDROP = "white"
"""Behind what is not opaque, as JPEG has no transparency. One picture is sent, not one for each
backdrop that a model is shown; the note says on which."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The bytes to be sent, the image as it came, and what was done to it, empty where nothing."""

    data: bytes = dataclasses.field(repr=False)
    image: images.OpenedImage
    note: Mapping[str, Any]


def fit(data: bytes, limits: protocol.Limits, allowed: bool) -> Fitted:
    """The image itself where it fits, else, where that is allowed, a JPEG of the whole picture.

    A JPEG is upright, and on white where the image is not opaque.

    Raises:
      ImageError: the bytes are not an image.
      VendorRefusedInput: it does not fit, and may not or cannot be made to. An image of several
        frames cannot: the vendor would see one of them, and the others would pass unseen.
    """
    image = images.open_image(data, images.ImageLimits())
    problem = _problem(image, len(data), limits)
    if problem is None:
        return Fitted(data, image, {})
    if not allowed:
        raise errors.VendorRefusedInput(problem)
    if image.frame_count > 1:
        raise errors.VendorRefusedInput(f"{problem}; not made to fit: {image.frame_count} frames")
    made, size = _as_jpeg(image, limits)
    done = {"why": problem, "format": "JPEG", "size": list(size), "backdrop": _BACKDROP}
    return Fitted(made, image, {"fitted": done})


def _problem(image: images.OpenedImage, length: int, limits: protocol.Limits) -> str | None:
    """What of an image the vendor does not take; None where it takes it."""
    if image.format not in limits.formats:
        return f"format {image.format}"
    pixels = image.width * image.height
    if image.format == "GIF" and pixels > (limits.max_gif_pixels or pixels):
        return f"{image.width}x{image.height} pixels, above {limits.max_gif_pixels} in a GIF"
    return _excess(length, image.width, image.height, limits)


def _excess(length: int, width: int, height: int, limits: protocol.Limits) -> str | None:
    """What of an encoded picture is above a limit; None where nothing is."""
    max_bytes = min(limits.max_bytes, limits.max_inline_bytes or limits.max_bytes)
    if length > max_bytes:
        return f"{length} bytes, above {max_bytes}"
    if limits.max_side is not None and max(width, height) > limits.max_side:
        return f"{width}x{height} pixels, above {limits.max_side} a side"
    if limits.max_pixels is not None and width * height > limits.max_pixels:
        return f"{width}x{height} pixels, above {limits.max_pixels}"
    return None


def _as_jpeg(image: images.OpenedImage, limits: protocol.Limits) -> tuple[bytes, tuple[int, int]]:
    """The whole picture as a JPEG that fits, and its width and height."""
    picture = image.first_frame(_BACKDROP)
    made = _encoded(picture)
    while _excess(len(made), *picture.size, limits):
        picture = _shrunk(picture)
        made = _encoded(picture)
    return made, picture.size


def _shrunk(picture: Image.Image) -> Image.Image:
    width, height = (int(side * _SHRINK) for side in picture.size)
    if min(width, height) < _SMALLEST_SIDE:
        raise errors.VendorRefusedInput("cannot be made small enough and still be seen")
    return picture.resize((width, height))


def _encoded(picture: Image.Image) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()
