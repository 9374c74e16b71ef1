"""ONNX image classifiers as judges."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from beam_moderation import configuration, errors, judges, records
from beam_moderation.models import huggingface
from beam_moderation.models.manifest import NORMAL, Manifest, join
from beam_moderation.models.network import ON_CPU, Network, Runtime

Values = npt.NDArray[Any]


class OnnxModel:
    """An ONNX classifier as a `Judge`.

    Outputs with the same scene and label count together: their sum, or under `sigmoid`, where
    they do not exclude each other, the largest. A scene to which the manifest maps no `normal`
    gets one: what the others leave of 1.

    Args:
      manifest: what the model is.
      runtime: how onnxruntime runs it.

    Raises:
      ConfigurationError: the runtime asks for what the installed onnxruntime does not have.
    """

    def __init__(self, manifest: Manifest, runtime: Runtime = ON_CPU) -> None:
        runtime.check()
        self.manifest = manifest
        self.provider = f"{manifest.name}@{manifest.sha256[:12]}+{_fingerprint(manifest)}"
        self.max_batch = runtime.max_batch
        preparation = manifest.input.preparation()
        self.prepare: judges.Preparation = preparation
        self.sufficient_size: tuple[int, int] | None = preparation.sufficient_size
        self._scenes = _outputs_by_scene(manifest)
        self.labels: Mapping[str, frozenset[str]] = {
            scene: frozenset(outputs) | {NORMAL} for scene, outputs in self._scenes.items()
        }
        self._network = Network(
            manifest.file(),
            manifest.input.size,
            manifest.input.tensor(),
            runtime,
            manifest.output.name,
        )

    @classmethod
    def from_manifest(cls, url: str, runtime: Runtime = ON_CPU) -> "OnnxModel":
        """Reads a YAML file: a `Manifest`, or a `Folder` with the label mapping alone.

        Args:
          url: fsspec URL of the file.
          runtime: how onnxruntime runs the model.

        Raises:
          ConfigurationError: one line that names the file, the line and the field.
        """
        if configuration.read_yaml(url, _Kind).folder is None:
            return cls(configuration.read_yaml(url, Manifest).relative_to(url), runtime)
        folder = configuration.read_yaml(url, huggingface.Folder)
        folder = folder.model_copy(update={"folder": join(url, folder.folder)})
        return cls(huggingface.manifest_of(folder), runtime)

    @classmethod
    def from_folder(
        cls,
        url: str,
        labels: Mapping[int | str, str],
        runtime: Runtime = ON_CPU,
    ) -> "OnnxModel":
        """Reads a folder in the layout of the Hugging Face hub.

        Args:
          url: fsspec URL of the folder.
          labels: for every label of the model, `scene:label` or `ignore`.
          runtime: how onnxruntime runs the model.

        Raises:
          ConfigurationError: a file is missing or says what is not understood.
        """
        fields = {"folder": url, "labels": dict(labels)}
        folder = configuration.validate(fields, huggingface.Folder, lambda _: url)
        return cls(huggingface.manifest_of(folder), runtime)

    def load(self) -> None:
        """Makes `judge` ready in this process.

        Raises:
          ConfigurationError: the model cannot be read, or is not what the manifest says.
        """
        self._network.load()
        found, expected = self._network.values_a_frame, len(self.manifest.targets())
        if found != expected:
            raise errors.ConfigurationError(
                f"{self.manifest.model}: the model has {found} outputs, labels map {expected}"
            )

    def judge(
        self, prepared: Sequence[npt.NDArray[np.uint8]]
    ) -> Sequence[Sequence[judges.SceneFindings]]:
        """For each frame its findings in every scene.

        Args:
          prepared: what `prepare` made: `uint8[height, width, 3]`.

        Raises:
          JudgeError: the model fails, or gives what is no probability.
        """
        values = self._network.run(prepared).reshape(len(prepared), -1)
        scores = _ACTIVATIONS[self.manifest.output.activation](values)
        return [self._findings(frame) for frame in scores]

    def _findings(self, scores: Values) -> Sequence[judges.SceneFindings]:
        together = np.max if self.manifest.output.activation == "sigmoid" else np.sum
        found = []
        for scene, outputs in self._scenes.items():
            by_label = {label: _score(together(scores[at])) for label, at in outputs.items()}
            if NORMAL not in by_label:
                by_label[NORMAL] = _score(1 - together(list(by_label.values())))
            findings = [records.Finding(label, score) for label, score in by_label.items()]
            found.append(judges.SceneFindings(scene, findings))
        return found


def _fingerprint(manifest: Manifest) -> str:
    """Changes with what the manifest says of the verdicts beside the file's hash."""
    said = manifest.model_dump(mode="json", include={"input", "output", "external_data"})
    return judges.fingerprint(said, manifest.targets())


class _Kind(pydantic.BaseModel):
    """What tells the two kinds of manifest apart."""

    folder: str | None = None


def _outputs_by_scene(manifest: Manifest) -> Mapping[str, Mapping[str, list[int]]]:
    scenes: dict[str, dict[str, list[int]]] = {}
    for index, target in enumerate(manifest.targets()):
        if target is not None:
            scenes.setdefault(target.scene, {}).setdefault(target.label, []).append(index)
    return scenes


def _score(value: Any) -> float:
    """A probability, rid of what rounding adds to either end."""
    return min(1.0, max(0.0, float(value)))


def _softmax(values: Values) -> Values:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _sigmoid(values: Values) -> Values:
    # The hyperbolic tangent does not overflow, whatever the value.
    return (np.tanh(values / 2) + 1) / 2


def _probabilities(values: Values) -> Values:
    if values.min() < -1e-3 or values.max() > 1 + 1e-3:
        raise errors.JudgeError(
            "the model's output is not in [0, 1]: output.activation `none` does not fit"
        )
    return values


_ACTIVATIONS = {"softmax": _softmax, "sigmoid": _sigmoid, "none": _probabilities}
