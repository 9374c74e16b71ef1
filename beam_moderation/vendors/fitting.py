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
"""Vendors advise against smaller pictures (help.aliyun.com/document_detail/70292.html)."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The bytes to be sent, the image as it came, and what was done to it, empty where nothing."""

    data: bytes = dataclasses.field(repr=False)
    image: images.OpenedImage
    note: Mapping[str, Any]


def fit(data: bytes, limits: protocol.Limits, allowed: bool) -> Fitted:
    """The image itself where it fits, else, where that is allowed, a JPEG of its first frame.

    Raises:
      ImageError: the bytes are not an image.
      VendorRefusedInput: it does not fit, and may not or cannot be made to.
    """
    image = images.open_image(data, images.ImageLimits())
    problem = _problem(image, len(data), limits)
    if problem is None:
        return Fitted(data, image, {})
    if not allowed:
        raise errors.VendorRefusedInput(problem)
    made, size = _as_jpeg(image, limits)
    return Fitted(made, image, {"fitted": {"why": problem, "format": "JPEG", "size": list(size)}})


def _problem(image: images.OpenedImage, size: int, limits: protocol.Limits) -> str | None:
    """What of an image the vendor does not take; None where it takes it."""
    max_bytes = _max_bytes(limits)
    if image.format not in limits.formats:
        return f"format {image.format}"
    if size > max_bytes:
        return f"{size} bytes, above {max_bytes}"
    if max(image.width, image.height) > _max_side(limits):
        return f"{image.width}x{image.height} pixels, above {limits.max_side} a side"
    if limits.max_pixels is not None and image.width * image.height > limits.max_pixels:
        return f"{image.width}x{image.height} pixels, above {limits.max_pixels}"
    return None


def _max_bytes(limits: protocol.Limits) -> int:
    return min(limits.max_bytes, limits.max_inline_bytes or limits.max_bytes)


def _max_side(limits: protocol.Limits) -> float:
    return limits.max_side or float("inf")


def _as_jpeg(
    image: images.OpenedImage, limits: protocol.Limits
) -> tuple[bytes, tuple[int, int]]:
    """The first frame as a JPEG that fits, and its width and height."""
    picture = next(image.frames(images.Sampling(max_frames=1))).image
    while min(picture.size) >= 1:
        made = _encoded(picture)
        fits = len(made) <= _max_bytes(limits) and max(picture.size) <= _max_side(limits)
        pixels = limits.max_pixels or float("inf")
        if fits and picture.width * picture.height <= pixels:
            return made, picture.size
        if max(picture.size) * _SHRINK < _SMALLEST_SIDE:
            break
        picture = picture.resize(
            (max(1, int(picture.width * _SHRINK)), max(1, int(picture.height * _SHRINK)))
        )
    raise errors.VendorRefusedInput("cannot be made small enough")


def _encoded(picture: Image.Image) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()
