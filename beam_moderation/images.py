"""From bytes to upright RGB frames, within limits, and never an exception but an `ImageError`.

A picture is judged as people see it: turned as its EXIF data says, transparent pixels on a
background that shows the others, 16 bits scaled to 8. Of an animation frames are sampled over its
whole length; a long picture is cut into tiles, which count as frames. Colour profiles are ignored.

A thread that decodes takes at most about 28 bytes for each pixel of `ImageLimits.max_pixels`.
"""

import contextlib
import dataclasses
import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageStat

from beam_moderation import containers, errors, uris

Size: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[int, int, int, int]

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""What is decoded, by Pillow's names: each further decoder is one more that strangers can reach."""

_LONG_SIDE, _LONG_RATIO = 400, 2.5
"""When a picture is long: ImageAsyncScanRequest's `interval`, Alibaba Green 2018-05-09."""

_ORIENTATION = 0x0112
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation (Exif 2.32, 4.6.4); others are ignored."""

_SIDEWAYS = range(5, 9)

warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclasses.dataclass(frozen=True, slots=True)
class ImageLimits:
    """What decoding may take.

    Args:
      max_pixels: of one frame.
      max_side: of either side, in pixels; WebP's own limit.
      max_total_pixels: of all frames that are decoded, those between the sampled ones included.
      formats: Pillow's names of what is decoded, out of `FORMATS`.

    Raises:
      ConfigurationError: a limit is below 1, or a format is not in `FORMATS`.
    """

    max_pixels: int = 50_000_000
    max_side: int = 16_383
    max_total_pixels: int = 200_000_000
    formats: Sequence[str] = FORMATS

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_side, self.max_total_pixels) < 1:
            raise errors.ConfigurationError(f"limits of images are at least 1: {self}")
        if unknown := set(self.formats) - set(FORMATS):
            raise errors.ConfigurationError(f"cannot decode {sorted(unknown)}, but {FORMATS}")


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames and tiles are judged, as the vendors' `interval` and `maxFrames` say.

    Args:
      interval: every n-th frame, from the first; widened where it would leave a part unseen.
      max_frames: of one image.

    Raises:
      ConfigurationError: either is below 1.
    """

    interval: int = 1
    max_frames: int = 10

    def __post_init__(self) -> None:
        if min(self.interval, self.max_frames) < 1:
            raise errors.ConfigurationError(f"interval and max_frames are at least 1: {self}")


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A frame or tile: its index among `OpenedImage.frames_total`, and the picture, upright RGB."""

    index: int
    image: Image.Image


def sampled_indices(total: int, sampling: Sampling) -> list[int]:
    """The frames that are judged, in order.

    Where `interval * max_frames` is less than `total` the interval becomes `total / max_frames`, a
    fraction that is rounded down only at each frame, so that the last sample is as far from the end
    as the samples are from each other.
    """
    if sampling.interval * sampling.max_frames < total:
        return [n * total // sampling.max_frames for n in range(sampling.max_frames)]
    return list(range(0, total, sampling.interval))


def tile_boxes(width: int, height: int) -> list[Box]:
    """The tiles of a picture as (left, top, right, bottom), from the top or the left.

    One that is not long has one. A side of more than 400 px and 2.5 times the other is cut into as
    many pieces of equal length, within a pixel, as it is whole times the other.
    """
    long, short = max(width, height), min(width, height)
    if long <= _LONG_SIDE or long <= _LONG_RATIO * short:
        return [(0, 0, width, height)]
    pieces = long // short
    cuts = [piece * long // pieces for piece in range(pieces + 1)]
    spans = itertools.pairwise(cuts)
    if height > width:
        return [(0, start, width, end) for start, end in spans]
    return [(start, 0, end, height) for start, end in spans]


def open_image(data: bytes, limits: ImageLimits) -> "OpenedImage":
    """Reads the header of an image; no pixel is decoded.

    Raises:
      ImageEmpty: there are no bytes.
      FormatUnsupported: they begin like no format that is allowed.
      ImageTooManyPixels: the picture is larger than the limits.
      ImageBroken: the header cannot be read, or the file ends early.
    """
    if not data:
        raise errors.ImageEmpty("there are no bytes")
    kind = containers.format_of(data)
    if kind is None or kind not in limits.formats:
        raise errors.FormatUnsupported(f"not {', '.join(limits.formats)}, but {kind or 'unknown'}")
    with _refusing():
        structure = containers.structure(data, kind)
        if not structure.complete:
            raise errors.ImageBroken(f"the {kind} ends early")
        picture = Image.open(io.BytesIO(data), formats=[kind])
        _check_size(picture.size, limits)
        frames = getattr(picture, "n_frames", 1) if kind == "AVIF" else structure.frames
        return OpenedImage(picture, kind, frames, limits)


class OpenedImage:
    """An image whose header was read.

    Attributes:
      format: Pillow's name; a JPEG that holds several pictures is judged by its first.
      width, height: in pixels, upright.
      frames_total: frames times tiles a frame.
    """

    def __init__(self, picture: Image.Image, kind: str, frames: int, limits: ImageLimits) -> None:
        self.format = kind
        self._picture, self._limits = picture, limits
        self._orientation = _orientation(picture)
        sideways = self._orientation in _SIDEWAYS
        self.width, self.height = picture.size[::-1] if sideways else picture.size
        self._tiles = len(tile_boxes(self.width, self.height))
        self.frames_total = frames * self._tiles

    def frames(self, sampling: Sampling, sufficient_size: Size | None = None) -> Iterator[Frame]:
        """Decodes the sampled frames and tiles, one at a time; once.

        Frames come in their order, the tiles of each from the top or the left, and the index counts
        through both.

        Args:
          sufficient_size: width and height in pixels that every frame or tile should have at least;
            a JPEG that is larger is decoded at half, a quarter or an eighth of its size.

        Raises:
          ImageBroken: a frame cannot be decoded.
          ImageTooManyPixels: a frame, or all decoded frames together, are over the limits.
        """
        if sufficient_size is not None and self.format == "JPEG":
            self._draft(sufficient_size)
        current, upright = -1, None
        for index in sampled_indices(self.frames_total, sampling):
            number, tile = divmod(index, self._tiles)
            if number != current or upright is None:
                with _refusing():
                    upright = self._upright(number, number - current)
                current = number
            if self._tiles == 1:
                yield Frame(index, upright)
            else:
                box = tile_boxes(self.width, self.height)[tile]
                yield Frame(index, upright.crop(self._scaled(box, upright.size)))

    def _draft(self, sufficient: Size) -> None:
        """Has the decoder scale down by a power of two while every tile stays large enough."""
        width, height = sufficient
        if self.height > self.width:
            height *= self._tiles
        else:
            width *= self._tiles
        wanted = (height, width) if self._orientation in _SIDEWAYS else (width, height)
        with _refusing():
            self._picture.draft(self._picture.mode, wanted)

    def _upright(self, number: int, decoded: int) -> Image.Image:
        """Frame `number`, for which `decoded` frames have to be decoded, as people see it."""
        if number:
            self._picture.seek(number)
        width, height = _check_size(self._picture.size, self._limits)
        self._spend(decoded * width * height)
        picture = to_rgb(self._picture)
        turn = _TURNED.get(self._orientation)
        return picture if turn is None else picture.transpose(turn)

    def _spend(self, pixels: int) -> None:
        self._spent = getattr(self, "_spent", 0) + pixels
        if self._spent > self._limits.max_total_pixels:
            raise errors.ImageTooManyPixels(
                f"more than {self._limits.max_total_pixels} pixels in all frames"
            )

    def _scaled(self, box: Box, size: Size) -> Box:
        """A tile's box in a picture that was decoded smaller."""
        across, down = size[0] / self.width, size[1] / self.height
        left, top, right, bottom = box
        return round(left * across), round(top * down), round(right * across), round(bottom * down)


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode as RGB.

    Transparent pixels are put on white, or on black where what is visible is light: a picture that
    is seen on one background only is seen. Grey of 16 bits is scaled to 8, and whole or floating
    numbers of an unknown scale from their smallest to their largest.
    """
    picture.load()
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        return _stretched(np.asarray(picture, np.float64)).convert("RGB")
    if picture.has_transparency_data:
        return _flattened(picture.convert("RGBA"))
    return picture.convert("RGB")


def _stretched(values: Any) -> Image.Image:
    values = np.nan_to_num(values, posinf=0, neginf=0)
    low, high = values.min(), values.max()
    return Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))


def _flattened(picture: Image.Image) -> Image.Image:
    alpha = picture.getchannel("A")
    transparency = alpha.histogram()
    if sum(transparency[:255]) == 0:  # opaque
        return picture.convert("RGB")
    visible = sum(transparency[1:])
    light = visible and ImageStat.Stat(picture.convert("L"), alpha.point(_VISIBLE)).mean[0] > 127
    background = Image.new("RGB", picture.size, "black" if light else "white")
    background.paste(picture, mask=alpha)
    return background


_VISIBLE = [0] + [255] * 255
"""A table for `Image.point`: the mask of what can be seen at all."""


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 where there is none or it cannot be read.

    `Image.getexif` would decode a PNG to look behind its pixels, and so raise, once, what decoding
    has to raise.
    """
    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif", b""))
        tags = getattr(picture, "tag_v2", exif)
        return int(tags.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001
        return 1


def _check_size(size: Size, limits: ImageLimits) -> Size:
    width, height = size
    if width * height > limits.max_pixels or max(size) > limits.max_side:
        raise errors.ImageTooManyPixels(
            f"{width}x{height}: more than {limits.max_pixels} pixels or {limits.max_side} a side"
        )
    return size


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turns whatever a decoder raises into an `ImageError`: Pillow's raise eleven classes."""
    try:
        yield
    except errors.ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise errors.ImageTooManyPixels(uris.printable(str(error))) from error
    except Exception as error:
        raise errors.ImageBroken(f"{type(error).__name__}: {uris.printable(str(error))}") from error
