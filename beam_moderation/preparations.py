"""What judges are given of a frame.

Imports neither Beam nor a model's runtime, so that a process that only decodes is small.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Resize = Literal["stretch", "crop", "letterbox"]

Size = tuple[int, int]
"""Width and height in pixels."""

Pixels = npt.NDArray[np.uint8]

NUDITY_SIDE = 320
TEXT_MIN_SIDE = 32
_TEXT_MAX_RATIO = 8


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Turns an RGB frame into `uint8[height, width, 3]` of the model's size; picklable.

    What leaves it is what travels between threads or processes: 150 kB for 224 x 224, a quarter of
    the float tensor, which `Network` makes in place.

    Attributes:
      size: width and height of the model's input.
      resize: `stretch` to the size whatever the frame's shape; `crop`: the shortest side to
        `resize_to`, then the centre; `letterbox`: the longest side fits, the rest is `pad`.
      resize_to: for `crop` the shortest side in pixels, at least the longer side of `size` (the
        default); for `stretch` the width and height of which the centre is cut (default `size`).
      resample: Pillow's filter.
      pad: RGB of what `letterbox` adds.
      pad_at: whether `letterbox` puts the frame in the `centre` or at the `start` (left and top).
    """

    size: Size
    resize: Resize = "stretch"
    resize_to: int | Size | None = None
    resample: Image.Resampling = Image.Resampling.BILINEAR
    pad: tuple[int, int, int] = (0, 0, 0)
    pad_at: Literal["centre", "start"] = "centre"

    @property
    def sufficient_size(self) -> Size:
        """Width and height beyond which a larger decoding adds nothing."""
        if self.resize == "letterbox":
            return self.size
        return self._whole((1, 1))

    def __call__(self, frame: Image.Image) -> npt.NDArray[np.uint8]:
        """The frame as the model wants it.

        Args:
          frame: RGB, upright, of any size.
        """
        if self.resize == "letterbox":
            return np.asarray(self._letterboxed(frame))
        whole = self._whole(frame.size)
        return np.asarray(frame.resize(self.size, self.resample, self._box(frame.size, whole)))

    def _whole(self, frame: Size) -> Size:
        """The size to which the whole frame is scaled before its centre is cut."""
        if self.resize == "stretch":
            return self.resize_to if isinstance(self.resize_to, tuple) else self.size
        shortest = self.resize_to if isinstance(self.resize_to, int) else max(self.size)
        width, height = frame
        if width <= height:
            return shortest, int(shortest * height / width)
        return int(shortest * width / height), shortest

    def _box(self, frame: Size, whole: Size) -> tuple[float, float, float, float]:
        """The part of the frame of which the result is made.

        Scaling this part alone gives what scaling all and then cutting gives, but for the last
        of 256 steps, and a frame of 1 x 10,000 costs no more than any other.
        """
        box = []
        for side, scaled, wanted in zip(frame, whole, self.size, strict=True):
            start = (scaled - wanted) // 2
            box.append((start * side / scaled, (start + wanted) * side / scaled))
        (left, right), (top, bottom) = box
        return left, top, min(right, frame[0]), min(bottom, frame[1])

    def _letterboxed(self, frame: Image.Image) -> Image.Image:
        fitted = fit(frame.size, self.size)
        canvas = Image.new("RGB", self.size, self.pad)
        spare = [whole - part for whole, part in zip(self.size, fitted, strict=True)]
        corner = (spare[0] // 2, spare[1] // 2) if self.pad_at == "centre" else (0, 0)
        canvas.paste(frame.resize(fitted, self.resample), corner)
        return canvas


def fit(frame: Size, into: Size) -> Size:
    """The largest size of the frame's shape that fits, at least one pixel each way."""
    scale = min(into[0] / frame[0], into[1] / frame[1])
    return max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))


@dataclasses.dataclass(frozen=True)
class Grey:
    """Turns a frame into its luminance, `uint8[height, width]`; picklable.

    Attributes:
      max_pixels: a larger frame is reduced by the whole number that suffices.
    """

    max_pixels: int

    def __call__(self, frame: Image.Image) -> Pixels:
        """The luminance of an RGB frame."""
        grey = frame.convert("L")
        factor = 1
        while grey.width * grey.height > self.max_pixels * factor**2:
            factor += 1
        return np.asarray(grey.reduce(factor) if factor > 1 else grey)


class Page(NamedTuple):
    """A frame as rapidocr takes it.

    Attributes:
      pixels: `uint8[height, width, 3]`, BGR, filled up on the right and at the bottom.
      width: of the frame itself in pixels.
      height: likewise.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Scan:
    """Scales a frame down and gives it a shape that the text detector can take; picklable.

    The detector rounds sides to multiples of 32 and calls an image textless of which a side
    becomes 0; so a strip is filled up to one part in eight.

    Attributes:
      max_side: of the longer side in pixels.
    """

    max_side: int

    def __call__(self, frame: Image.Image) -> Page:
        """The page of an RGB frame."""
        if max(frame.size) > self.max_side:
            size = fit(frame.size, (self.max_side, self.max_side))
            frame = frame.resize(size, Image.Resampling.BILINEAR)
        least = max(TEXT_MIN_SIDE, math.ceil(max(frame.size) / _TEXT_MAX_RATIO))
        size = (max(frame.width, least), max(frame.height, least))
        filled = Image.new("RGB", size)
        filled.paste(frame)
        pixels = np.ascontiguousarray(np.asarray(filled)[..., ::-1])
        return Page(pixels, frame.width, frame.height)


class Fitted(NamedTuple):
    """A frame in the upper left of the model's square.

    Attributes:
      pixels: `uint8[320, 320, 3]`, RGB.
      width: of the frame, as a fraction of the square.
      height: likewise.
    """

    pixels: npt.NDArray[np.uint8]
    width: float
    height: float


_NUDITY_LETTERBOX = Preparation((NUDITY_SIDE, NUDITY_SIDE), "letterbox", pad_at="start")


def fitted(frame: Image.Image) -> Fitted:
    """Fits an RGB frame into the model's square."""
    longest = max(frame.size)
    return Fitted(_NUDITY_LETTERBOX(frame), frame.width / longest, frame.height / longest)
