"""Frames for scanners, and what a scanner says of one."""

import json

import numpy as np
from PIL import Image


def gradient(width: int = 640, height: int = 480) -> Image.Image:
    """Something with light and shade, but with nothing in it."""
    across = np.linspace(40, 220, width)
    down = np.linspace(0, 1, height)[:, None]
    pixels = np.stack(
        [across * down, across * (1 - down), np.broadcast_to(across, (height, width))]
    )
    return Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))


def ask(scanner, frame: Image.Image):
    """The findings of one scene in one frame, as label to score, and the detail."""
    [[found]] = scanner.judge([scanner.prepare(frame)])
    assert found.findings
    assert found.scene in scanner.labels
    assert {label for label, _ in found.findings} <= scanner.labels[found.scene]
    json.dumps(found.detail)
    return dict(found.findings), found.detail
