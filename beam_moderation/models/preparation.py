"""From a frame of any size to the pixels of a model's input size."""

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Resize = Literal["stretch", "crop", "letterbox"]

Size = tuple[int, int]
"""Width and height in pixels."""


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
class Tensor:
    """How prepared pixels become a model's input: `(pixel * scale - mean) / std` by channel.

    Attributes:
      layout: order of the axes.
      dtype: element type of the model's input. `uint8` takes the pixels as they are.
      scale: what each pixel is multiplied with before `mean` is taken off.
      mean: by channel, in the order of `colours`, on the scaled range.
      std: by channel, likewise.
      colours: order of the channels.
    """

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    colours: Literal["RGB", "BGR"] = "RGB"

    def shape(self, count: int, size: Size) -> tuple[int, ...]:
        """The shape of a batch of `count` frames of width and height `size`."""
        width, height = size
        return (count, 3, height, width) if self.layout == "NCHW" else (count, height, width, 3)

    def fill(self, tensor: npt.NDArray[Any], pixels: npt.NDArray[np.uint8]) -> None:
        """Writes one frame into its place in a batch, with no array in between.

        Args:
          tensor: one frame of the batch; float32 or uint8, never float16.
          pixels: `uint8[height, width, 3]`, RGB.
        """
        if self.colours == "BGR":
            pixels = pixels[..., ::-1]
        if self.layout == "NCHW":
            tensor[...] = pixels.transpose(2, 0, 1)
        else:
            tensor[...] = pixels
        if self.dtype != "uint8":
            self._normalise(tensor)

    def _normalise(self, tensor: npt.NDArray[Any]) -> None:
        std = np.array(self.std)
        factor = (self.scale / std).astype(np.float32)
        offset = (-np.array(self.mean) / std).astype(np.float32)
        if self.layout == "NCHW":
            factor, offset = factor[:, None, None], offset[:, None, None]
        else:  # Rows of pixels: numpy is five times as slow on an inner axis of length 3.
            height, width, _ = tensor.shape
            tensor = tensor.reshape(height, width * 3)
            factor, offset = np.tile(factor, width), np.tile(offset, width)
        tensor *= factor
        tensor += offset
