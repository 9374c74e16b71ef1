"""A judge whose verdict anyone can see: how bright a picture is."""

import io

import numpy as np
from PIL import Image

from beam_moderation.judges import SceneFindings
from beam_moderation.records import Finding

BRIGHT = {"scenes": {"brightness": {"normal": "pass", "bright": {"review": 0.5, "block": 0.9}}}}


def mean(frame):
    """A frame as its mean in [0, 1]; a module's function travels pickled."""
    return float(np.asarray(frame.convert("L").resize((8, 8))).mean() / 255)


class Brightness:
    """Finds `bright` with the mean as its score; raises on a frame of the mean `refuses`."""

    provider = "brightness@1"
    sufficient_size = (8, 8)

    def __init__(self, max_batch=1, refuses=None):
        self.labels = {"brightness": frozenset({"normal", "bright"})}
        self.max_batch = max_batch
        self.refuses = refuses
        self.prepare = mean

    def load(self):
        pass

    def judge(self, prepared):
        if self.refuses in prepared:
            raise RuntimeError("refused")
        return [[SceneFindings("brightness", [Finding("bright", mean)])] for mean in prepared]


def picture(grey, size=(16, 16), kind="PNG", **options):
    """The bytes of a picture of one shade of grey in [0, 255]."""
    with io.BytesIO() as file:
        Image.new("RGB", size, (grey, grey, grey)).save(file, kind, **options)
        return file.getvalue()
