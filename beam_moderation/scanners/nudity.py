"""Nudity, found with NudeNet's detector: scene `porn`.

The model file comes with the package `nudenet`, whose metadata says MIT but whose licence file,
and the model's own metadata, say AGPL-3.0: it is an extra of its own for that reason. The package's
code is not run. Pre- and post-processing are ours, for what Ultralytics' YOLOv8 gives: for each of
2,100 places the centre, width and height in pixels of the input, then a score for each class.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_moderation import errors, judges, records
from beam_moderation.models.network import ON_CPU, ModelFile, Network, Runtime
from beam_moderation.models.tensor import Tensor
from beam_moderation.preparations import NUDITY_SIDE, Fitted, fitted
from beam_moderation.scanners import packages
from beam_moderation.scanners.boxes import Box

SCENE = "porn"
MIN_SCORE = 0.2
"""Below it a detection is not reported: the threshold of NudeNet 3.4.2's own post-processing."""

CLASSES = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
"""The model's classes in the order of its outputs (its metadata field `names`)."""

LABELS: Mapping[str, str] = {
    "ANUS_EXPOSED": "porn",
    "FEMALE_BREAST_EXPOSED": "porn",
    "FEMALE_GENITALIA_EXPOSED": "porn",
    "MALE_GENITALIA_EXPOSED": "porn",
    "ANUS_COVERED": "sexy",
    "BUTTOCKS_EXPOSED": "sexy",
    "FEMALE_GENITALIA_COVERED": "sexy",
}
"""The classes that count, and as what. The others are everyday: faces, feet, covered breasts."""


class Nudity:
    """Finds exposed parts of the body.

    Labels: `porn`, `sexy` and `normal`. The score of the first two is that of the surest
    detection of a class that `classes` maps to the label; `normal` is what the higher of the two
    leaves of 1. `detail` has `classes`: for each class seen its `score` and the `box` of the
    surest detection, as fractions of the frame.

    NudeNet's own code hands OpenCV's BGR pixels to the model, by swapping the channels twice; the
    model is surer on RGB (a face 0.83 against 0.72), which Ultralytics trains on, so RGB it gets.

    Args:
      classes: `porn` or `sexy` for each of the model's classes that counts.
      runtime: how onnxruntime runs the model.

    Raises:
      ConfigurationError: the extra `nudenet` is not installed, or a class or label is unknown.
    """

    def __init__(
        self,
        classes: Mapping[str, str] = LABELS,
        runtime: Runtime = ON_CPU,
    ) -> None:
        runtime.check()
        unknown = [name for name, label in classes.items() if not _known(name, label)]
        if unknown:
            raise errors.ConfigurationError(f"no class or label of NudeNet's: {unknown[0]}")
        self._sha256 = hashlib.sha256(_model().read_bytes()).hexdigest()
        options = judges.fingerprint(dict(classes))
        self.provider = f"nudenet@{self._sha256[:12]}+{options}"
        self.labels: Mapping[str, frozenset[str]] = {
            SCENE: frozenset({"normal", *classes.values()})
        }
        self.prepare: judges.Preparation = fitted
        self.sufficient_size: tuple[int, int] | None = (NUDITY_SIDE, NUDITY_SIDE)
        self.max_batch = runtime.max_batch
        self._classes = dict(classes)
        self._runtime = runtime
        self._network: Network | None = None

    def load(self) -> None:
        """Makes `judge` ready in this process.

        Raises:
          ConfigurationError: the package is missing here, or is another than where the job was
            built.
        """
        if self._network is None:
            file = ModelFile(str(_model()), self._sha256)
            network = Network(
                file, (NUDITY_SIDE, NUDITY_SIDE), Tensor(), self._runtime, output=None
            )
            network.load()
            self._network = network

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_network": None}

    def judge(self, prepared: Sequence[Fitted]) -> Sequence[Sequence[judges.SceneFindings]]:
        """For each frame what was detected.

        Args:
          prepared: what `prepare` made.

        Raises:
          JudgeError: the model fails, or its output is not finite.
        """
        assert self._network is not None, "load() first"
        outputs = self._network.run([frame.pixels for frame in prepared])
        return [
            [self._findings(_seen(output, frame))]
            for output, frame in zip(outputs, prepared, strict=True)
        ]

    def _findings(self, seen: Mapping[str, Mapping[str, Any]]) -> judges.SceneFindings:
        scores = dict.fromkeys(sorted(self.labels[SCENE] - {"normal"}), 0.0)
        for name, detection in seen.items():
            label = self._classes.get(name)
            if label is not None:
                scores[label] = max(scores[label], detection["score"])
        scores["normal"] = 1 - max(scores.values(), default=0.0)
        findings = [records.Finding(label, score) for label, score in scores.items()]
        return judges.SceneFindings(SCENE, findings, {"classes": seen} if seen else {})


def _known(name: str, label: str) -> bool:
    return name in CLASSES and label in ("porn", "sexy")


def _model() -> pathlib.Path:
    return packages.file("nudenet", "nudenet", "nudenet/320n.onnx")


def _seen(output: npt.NDArray[np.float32], frame: Fitted) -> Mapping[str, Mapping[str, Any]]:
    """The surest detection of each class.

    Args:
      output: `float32[4 + classes, places]`.
      frame: whose output it is.
    """
    places, scores = output[:4], output[4:]
    surest = scores.argmax(axis=1)
    width, height = frame.width * NUDITY_SIDE, frame.height * NUDITY_SIDE
    seen = {}
    for name, place, by_place in zip(CLASSES, surest, scores, strict=True):
        score = float(by_place[place])
        if score >= MIN_SCORE:
            x, y, w, h = places[:, place]
            corners = [(x - w / 2, y - h / 2), (x + w / 2, y + h / 2)]
            seen[name] = {
                "score": round(min(score, 1.0), 4),
                "box": Box.around(corners, width, height),
            }
    return seen
