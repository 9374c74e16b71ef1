"""A folder in the layout of the Hugging Face hub, as a manifest.

Read are `config.json` (`id2label`, `problem_type`), `preprocessor_config.json` and `model.onnx` or
`onnx/model.onnx`. The meaning of the preprocessor's fields is that of transformers' own image
processors (`ViTImageProcessor`, `MobileNetV2ImageProcessor`, `CLIPImageProcessor`,
`ConvNextImageProcessor`). A field that changes pixels and is not known here is refused.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

import fsspec
import pydantic
from PIL import Image

from beam_moderation import configuration, errors
from beam_moderation.models import manifest
from beam_moderation.models.network import read_bytes

MODEL_FILES = ("model.onnx", "onnx/model.onnx")
WEIGHT_SUFFIXES = ("_data", ".data")
"""What exporters append to the model's name for weights in a file of their own."""

_SHORTEST_EDGE = ("CLIP", "ConvNext", "LeViT", "MobileNet", "PoolFormer")
"""Processors to which a bare number as `size` is the shortest edge (`default_to_square`)."""

_HARMLESS = {
    "_valid_processor_keys",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "input_data_format",
    "processor_class",
    "return_tensors",
}


class Folder(manifest.Strict):
    """The manifest of such a folder: all that the folder does not say itself.

    Attributes:
      folder: fsspec URL, relative to the manifest.
      labels: for every label of the model, `scene:label` or `ignore`.
      name: what the tables call the model; the folder's own name where left out.
      sha256: of the ONNX file; where left out, that of the file found when the pipeline is built.
    """

    folder: str
    labels: Annotated[dict[int | str, str], pydantic.Field(min_length=1)]
    name: Annotated[str, pydantic.Field(pattern=r"^[\w.-]+$")] | None = None
    sha256: manifest.Sha256 | None = None


class _Config(pydantic.BaseModel):
    id2label: dict[int, str]
    problem_type: str | None = None

    @pydantic.field_validator("id2label")
    @classmethod
    def _counted(cls, labels: dict[int, str]) -> dict[int, str]:
        if not labels or labels.keys() != set(range(len(labels))):
            raise ValueError("expected the labels by index, from 0 on")
        return labels

    @property
    def classes(self) -> list[str]:
        return [self.id2label[index] for index in range(len(self.id2label))]

    @property
    def activation(self) -> str:
        independent = self.problem_type == "multi_label_classification" or len(self.id2label) == 1
        return "sigmoid" if independent else "softmax"


class _Preprocessor(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    size: int | dict[str, int]
    resample: int
    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    do_resize: bool = True
    do_center_crop: bool | None = None
    crop_size: int | dict[str, int] | None = None
    crop_pct: float | None = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    do_flip_channel_order: bool = False

    @pydantic.model_validator(mode="after")
    def _understood(self) -> "_Preprocessor":
        extra = self.model_extra or {}
        unknown = [name for name, value in extra.items() if value and name not in _HARMLESS]
        if unknown:
            raise ValueError(f"{unknown[0]} is not understood: write a manifest of your own")
        if not self.do_resize:
            raise ValueError("do_resize is false: write a manifest of your own")
        return self

    @property
    def kind(self) -> str:
        return self.image_processor_type or self.feature_extractor_type or ""

    def input(self) -> dict[str, Any]:
        """The part `input` of a manifest."""
        fields: dict[str, Any] = {
            "interpolation": Image.Resampling(self.resample).name.lower(),
            "scale": self.rescale_factor if self.do_rescale else 1.0,
            "colours": "BGR" if self.do_flip_channel_order else "RGB",
            **self._resize(),
        }
        if self.do_normalize:
            fields |= {"mean": self.image_mean, "std": self.image_std}
        return fields

    def _resize(self) -> dict[str, Any]:
        shortest = self._shortest_edge()
        if shortest is None:
            return self._stretch()
        if self.crop_pct is not None and self.kind.startswith("ConvNext"):
            return _convnext(shortest, self.crop_pct)
        if not (self.do_center_crop and self.crop_size):
            raise ValueError("size has a shortest_edge only: pictures of any shape would come out")
        return {"resize": "crop", "resize_to": shortest, "size": _sides(self.crop_size)}

    def _shortest_edge(self) -> int | None:
        if isinstance(self.size, int):
            return self.size if self.kind.startswith(_SHORTEST_EDGE) else None
        return self.size["shortest_edge"] if self.size.keys() == {"shortest_edge"} else None

    def _stretch(self) -> dict[str, Any]:
        whole = _sides(self.size)
        if not (self.do_center_crop and self.crop_size):
            return {"resize": "stretch", "size": whole}
        return {"resize": "stretch", "resize_to": whole, "size": _sides(self.crop_size)}


def _convnext(shortest: int, crop_pct: float) -> dict[str, Any]:
    """`ConvNextImageProcessor.resize`: from 384 on it stretches, below it cuts the centre."""
    if shortest >= 384:
        return {"resize": "stretch", "size": shortest}
    return {"resize": "crop", "resize_to": int(shortest / crop_pct), "size": shortest}


def _sides(size: int | dict[str, int]) -> dict[str, int]:
    width, height = manifest.as_size(size)
    return {"width": width, "height": height}


def manifest_of(folder: Folder) -> manifest.Manifest:
    """The manifest of a folder.

    Raises:
      ConfigurationError: a file is missing or says what is not understood.
    """
    base = folder.folder.rstrip("/")
    config = _read(f"{base}/config.json", _Config)
    preprocessor = _read(f"{base}/preprocessor_config.json", _Preprocessor)
    url = _model_url(base)
    try:
        fields = {
            "name": folder.name or base.rpartition("/")[2],
            "model": url,
            "sha256": folder.sha256 or _sha256(url),
            "external_data": dict(_weights(url)),
            "input": preprocessor.input(),
            "output": {"activation": config.activation},
            "classes": config.classes,
            "labels": folder.labels,
        }
    except ValueError as error:
        raise errors.ConfigurationError(f"{base}: {error}") from error
    return configuration.validate(fields, manifest.Manifest, lambda _: base)


def _read(url: str, model: type[configuration.Model]) -> configuration.Model:
    try:
        value = json.loads(read_bytes(url))
    except ValueError as error:
        raise errors.ConfigurationError(f"{url}: {error}") from error
    return configuration.validate(value, model, lambda _: url)


def _exists(url: str) -> bool:
    try:
        files, path = fsspec.url_to_fs(url)
        return bool(files.exists(path))
    except (OSError, ValueError, ImportError) as error:
        raise errors.ConfigurationError(f"cannot read {url}: {error}") from error


def _model_url(base: str) -> str:
    for name in MODEL_FILES:
        if _exists(f"{base}/{name}"):
            return f"{base}/{name}"
    raise errors.ConfigurationError(f"{base} has neither {' nor '.join(MODEL_FILES)}")


def _weights(url: str) -> Iterator[tuple[str, str]]:
    for suffix in WEIGHT_SUFFIXES:
        if _exists(url + suffix):
            yield (url + suffix).rpartition("/")[2], _sha256(url + suffix)


def _sha256(url: str) -> str:
    return hashlib.sha256(read_bytes(url)).hexdigest()
