"""The structure of a GIF (GIF89a specification)."""

import struct
from collections.abc import Iterator

from beam_moderation import errors
from beam_moderation.containers.container import Blocks, Container, without


def _colours(flags: int) -> int:
    """The bytes of a colour table, from the flags of the descriptor before it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Introducer, start and end of each block up to the trailer, or to the end without one.

    Raises:
      ImageBroken: the bytes end inside a block.
    """
    blocks = Blocks(data)
    position = 13 + _colours(data[10])
    while position < len(data) and data[position] != 0x3B:
        start, introducer = position, data[position]
        try:
            position += 1
            if introducer == 0x2C:
                position += 10 + _colours(data[position + 8])
            elif introducer == 0x21:
                position += 1
            if introducer in (0x2C, 0x21):
                position, count = _after_sub_blocks(data, position)
                blocks.spend(count)
        except IndexError as error:
            raise errors.ImageBroken("ends inside a block") from error
        blocks.spend()
        yield introducer, start, position


def _after_sub_blocks(data: bytes, position: int) -> tuple[int, int]:
    """Where a chain of sub-blocks ends, and how many they are."""
    count = 0
    while length := data[position]:
        position += length + 1
        count += 1
    return position + 1, count


def read(data: bytes) -> Container:
    """The structure of a GIF, and its bytes without comments and extensions but the frames'."""
    width, height = struct.unpack_from("<HH", data, 6)
    dropped, frames = [], 0
    for introducer, start, end in _blocks(data):
        if introducer == 0x2C:
            left, top, across, down = struct.unpack_from("<HHHH", data, start + 1)
            # The decoder lets the canvas grow to hold every frame.
            width, height = max(width, left + across), max(height, top + down)
            frames += 1
        elif data[start : start + 2] != b"!\xf9":
            dropped.append((start, end))
    if not frames:
        raise errors.ImageBroken("no frame")
    return Container(without(data, dropped), (width, height), frames)
