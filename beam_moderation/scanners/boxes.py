"""Where in a frame something was found, as `detail` says it."""

from collections.abc import Iterable
from typing import NamedTuple


class Box(NamedTuple):
    """An upright rectangle, its sides as fractions of the frame's width and height.

    Fractions hold whatever size the frame was decoded to.
    """

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, points: Iterable[tuple[float, float]], width: float, height: float) -> "Box":
        """The smallest box around points in pixels of a picture of `width` by `height`."""
        xs, ys = zip(*points, strict=True)
        return cls(
            _fraction(min(xs), width),
            _fraction(min(ys), height),
            _fraction(max(xs), width),
            _fraction(max(ys), height),
        )


def _fraction(position: float, length: float) -> float:
    return round(min(1.0, max(0.0, float(position) / length)), 4)
