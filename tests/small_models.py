"""Tiny models with their manifests, what they make of frames, and frames for them."""

import pathlib

import numpy as np
from PIL import Image

from beam_moderation import models

RED_GREEN_BLUE = {0: "porn:porn", 1: "porn:normal", 2: "ignore"}


def flat(red: int, green: int, blue: int, size: tuple[int, int] = (9, 7)) -> Image.Image:
    return Image.new("RGB", size, (red, green, blue))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def manifest(path: pathlib.Path, sha256: str, **changes: object) -> models.Manifest:
    fields = {
        "name": "tiny",
        "model": str(path),
        "sha256": sha256,
        "input": {"size": 4},
        "output": {"activation": "none"},
        "labels": RED_GREEN_BLUE,
    }
    return models.Manifest.model_validate(fields | changes)


def loaded(manifest: models.Manifest, **runtime: object) -> models.OnnxModel:
    model = models.OnnxModel(manifest, models.Runtime(**runtime))
    model.load()
    return model


def scores(model: models.OnnxModel, *frames: Image.Image) -> list[dict[str, dict[str, float]]]:
    judged = model.judge([model.prepare(frame) for frame in frames])
    return [
        {found.scene: dict(found.findings) for found in frame_findings} for frame_findings in judged
    ]
