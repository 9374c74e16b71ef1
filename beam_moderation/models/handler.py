"""Any judge as a `ModelHandler` of Beam's `RunInference`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from apache_beam.ml.inference import base
from PIL import Image

from beam_moderation import images, judges

Example = bytes | Image.Image
"""An encoded image, or a frame: RGB and upright."""


def decode(content: bytes, limits: images.ImageLimits | None = None) -> Image.Image:
    """The first frame of an encoded image: whole, upright, RGB, on white where it is not opaque.

    The other frames of an animation are not looked at; `ModerateWithModel` samples them.

    Args:
      limits: the default ones where none are given.

    Raises:
      ImageError: it is no image of a format that is allowed, is above a limit, or broken.
    """
    return images.open_image(content, limits or images.ImageLimits()).first_frame("white")


class JudgeHandler(base.ModelHandler[Example, base.PredictionResult, judges.Judge]):
    """Lets `RunInference` run a judge.

    Images are decoded and prepared inside the inference step, so what is batched are encoded
    bytes, and a prediction carries the findings (`inference`) and the provider (`model_id`) but
    neither image nor tensor: a shuffle after it is cheap. An image that cannot be judged fails
    its batch, as `RunInference` has it; `ModerateWithModel` is what keeps images apart.

    Args:
      model: the judge.
      decode: bytes to a frame; `functools.partial(decode, limits=…)` for other limits.
    """

    def __init__(
        self, model: judges.Judge, decode: Callable[[bytes], Image.Image] = decode
    ) -> None:
        super().__init__(min_batch_size=model.max_batch, max_batch_size=model.max_batch)
        self._model = model
        self._decode = decode

    def load_model(self) -> judges.Judge:
        """The judge, ready."""
        self._model.load()
        return self._model

    def run_inference(
        self,
        batch: Sequence[Example],
        model: judges.Judge,
        inference_args: Mapping[str, Any] | None = None,  # noqa: ARG002 - Beam's signature
    ) -> Iterable[base.PredictionResult]:
        """The findings in each image: `Sequence[SceneFindings]` as `inference`."""
        frames = [self._decode(item) if isinstance(item, bytes) else item for item in batch]
        judged = model.judge([model.prepare(frame) for frame in frames])
        return [base.PredictionResult(None, findings, model.provider) for findings in judged]

    def get_num_bytes(self, batch: Sequence[Example]) -> int:
        """The bytes of the images as they came: encoded, or of the pixels."""
        return sum(
            len(item) if isinstance(item, bytes) else item.width * item.height * len(item.mode)
            for item in batch
        )

    def get_metrics_namespace(self) -> str:
        """The package's."""
        return "beam_moderation"

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        """Refuses arguments: there are none.

        Raises:
          ValueError: there are some.
        """
        if inference_args:
            raise ValueError("a judge takes no inference_args")


def model_handler(model: judges.Judge) -> JudgeHandler:
    """A handler for Beam's `RunInference` from a model or scanner."""
    return JudgeHandler(model)
