"""How an image becomes what judges take.

Imports neither Beam nor a model's runtime, so that a process that only decodes is small.
"""

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from beam_moderation import images, judges


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How bytes become frames: the limits, which frames, and what of them each judge is given."""

    preparations: Sequence[judges.Preparation]
    limits: images.ImageLimits
    sampling: images.Sampling
    sufficient_size: tuple[int, int] | None

    @classmethod
    def for_judges(
        cls,
        members: Sequence[judges.Judge],
        limits: images.ImageLimits,
        sampling: images.Sampling,
    ) -> "Decoding":
        """The decoding that serves all judges: as large as the most demanding needs."""
        sizes = [member.sufficient_size for member in members]
        wanted = [size for size in sizes if size]
        enough = tuple(map(max, zip(*wanted, strict=True))) if len(wanted) == len(sizes) else None
        return cls([member.prepare for member in members], limits, sampling, enough)


class Header(NamedTuple):
    """What is known of an image before a pixel is decoded."""

    format: str
    width: int
    height: int
    frames_total: int


class PreparedFrame(NamedTuple):
    """A frame or tile as each judge wants it, by the judges' order."""

    frame_index: int
    prepared: Sequence[Any]


class Decoder(Protocol):
    """Decodes here, or in another process."""

    def __call__(self, data: bytes) -> tuple[Header, Iterator[PreparedFrame]]:
        """The header and then the frames, one at a time.

        Raises:
          ImageError: the bytes are not an image that can be judged; also while iterating.
        """


class InTurns:
    """A `Decoder` that at most `count` threads use at once, each for a whole image.

    Where judges want large batches, many more threads wait for them than there are cores. What a
    waiting thread holds are prepared frames, and nothing of the decoder's.
    """

    def __init__(self, decoder: Decoder, count: int) -> None:
        self._decoder, self._turns = decoder, threading.Semaphore(count)

    def __call__(self, data: bytes) -> tuple[Header, Iterator[PreparedFrame]]:
        """The header and all frames; raises what the decoder does."""
        with self._turns:
            header, frames = self._decoder(data)
            return header, iter(list(frames))


def decode(data: bytes, decoding: Decoding) -> tuple[Header, Iterator[PreparedFrame]]:
    """Decodes an image in this thread."""
    image = images.open_image(data, decoding.limits)
    header = Header(image.format, image.width, image.height, image.frames_total)
    frames = image.frames(decoding.sampling, decoding.sufficient_size)
    return header, (
        PreparedFrame(frame.index, [prepare(frame.image) for prepare in decoding.preparations])
        for frame in frames
    )
