"""From prepared pixels to a model's input."""

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from beam_moderation.preparations import Size


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
