"""What the operator writes about an ONNX classifier: where it is, what goes in, what comes out."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from PIL import Image

from beam_moderation.models.network import ModelFile
from beam_moderation.models.tensor import Tensor
from beam_moderation.preparations import Preparation, Resize, Size

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_TARGET = re.compile(r"([\w-]+):([\w-]+)")

IGNORE = "ignore"
"""What an output is mapped to that belongs to no scene."""

NORMAL = "normal"
"""The label of a scene in which nothing was found."""


class Target(NamedTuple):
    """What an output of a model stands for."""

    scene: str
    label: str


def as_size(value: Any) -> Size:
    """Width and height from a number for both, or from a mapping with both.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(value, int):
        return value, value
    if isinstance(value, dict) and value.keys() == {"width", "height"}:
        return value["width"], value["height"]
    raise ValueError("expected a number of pixels, or {width: ..., height: ...}")


def _as_resize_to(value: Any) -> Any:
    return as_size(value) if isinstance(value, dict) else value


Sha256 = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]
Pixels = Annotated[int, pydantic.Field(ge=1, le=4096)]
Pair = Annotated[tuple[Pixels, Pixels], pydantic.Field(strict=False)]
PixelSize = Annotated[Pair, pydantic.BeforeValidator(as_size)]
ResizeTo = Annotated[Pixels | Pair | None, pydantic.BeforeValidator(_as_resize_to)]
Channels = Annotated[tuple[float, float, float], pydantic.Field(strict=False)]
Byte = Annotated[int, pydantic.Field(ge=0, le=255)]
Colour = Annotated[tuple[Byte, Byte, Byte], pydantic.Field(strict=False)]


class Strict(pydantic.BaseModel):
    """A part of a manifest: nothing unknown in it, nothing converted silently."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class Input(Strict):
    """The model's input: see `Preparation` and `Tensor` for what the fields mean.

    `mean` and `std` are on the range after `scale`, as in torchvision and transformers.
    """

    size: PixelSize
    resize: Resize = "stretch"
    resize_to: ResizeTo = None
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = (
        "bilinear"
    )
    pad: Colour = (0, 0, 0)
    pad_at: Literal["centre", "start"] = "centre"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    colours: Literal["RGB", "BGR"] = "RGB"
    scale: float = 1 / 255
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)

    @pydantic.field_validator("std")
    @classmethod
    def _not_zero(cls, std: Channels) -> Channels:
        if 0 in std:
            raise ValueError("a standard deviation of 0 cannot be divided by")
        return std

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "Input":
        if self.dtype == "uint8" and self.model_fields_set & {"scale", "mean", "std"}:
            raise ValueError("a uint8 input takes the pixels as they are: no scale, mean or std")
        wanted = {"stretch": tuple, "crop": int, "letterbox": type(None)}[self.resize]
        if self.resize_to is not None and not isinstance(self.resize_to, wanted):
            raise ValueError(f"resize_to does not fit to resize: {self.resize}")
        whole = (self.resize_to,) if isinstance(self.resize_to, int) else self.resize_to
        if whole is not None and min(whole) < max(self.size):
            raise ValueError("resize_to must be at least size, for the centre is cut out of it")
        return self

    def preparation(self) -> Preparation:
        """The step from a frame to the model's pixels."""
        return Preparation(
            size=self.size,
            resize=self.resize,
            resize_to=self.resize_to,
            resample=_FILTERS[self.interpolation],
            pad=self.pad,
            pad_at=self.pad_at,
        )

    def tensor(self) -> Tensor:
        """The step from pixels to the model's input."""
        return Tensor(
            layout=self.layout,
            dtype=self.dtype,
            colours=self.colours,
            scale=self.scale,
            mean=self.mean,
            std=self.std,
        )


class Output(Strict):
    """The model's output: one value for each class.

    `activation` is what is still to be done: `none` where the graph ends in probabilities.
    """

    name: str | None = None
    activation: Literal["softmax", "sigmoid", "none"]


class Manifest(Strict):
    """An ONNX classifier and what its outputs stand for.

    ```yaml
    name: nsfw-mobilenet
    model: nsfw.onnx              # fsspec URL, relative to this file
    sha256: 9f86d081884c7d65...   # 64 digits
    input: {size: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
    output: {activation: softmax}
    classes: [drawing, hentai, neutral, porn, sexy]
    labels: {drawing: ignore, hentai: "porn:porn", neutral: "porn:normal",
             porn: "porn:porn", sexy: "porn:sexy"}
    ```

    Attributes:
      name: what the tables call the model, before the `@`.
      model: fsspec URL of the ONNX file.
      sha256: of that file, in hexadecimal digits.
      external_data: files of weights beside the model, with the SHA-256 of each.
      classes: names of the outputs in order; may be left out when `labels` counts them from 0.
      labels: for every output, by name or index, `scene:label` or `ignore`.
    """

    name: Annotated[str, pydantic.Field(pattern=r"^[\w.-]+$")]
    model: str
    sha256: Sha256
    external_data: dict[str, Sha256] = {}
    input: Input
    output: Output
    classes: list[str] = []
    labels: Annotated[dict[int | str, str], pydantic.Field(min_length=1)]

    @pydantic.field_validator("labels")
    @classmethod
    def _complete(
        cls, labels: dict[int | str, str], info: pydantic.ValidationInfo
    ) -> dict[int | str, str]:
        targets_of(labels, info.data.get("classes", []))
        return labels

    def targets(self) -> Sequence[Target | None]:
        """What each output stands for, in order; None for those to be ignored."""
        return targets_of(self.labels, self.classes)

    def file(self) -> ModelFile:
        """The ONNX file."""
        return ModelFile(self.model, self.sha256, tuple(sorted(self.external_data.items())))

    def relative_to(self, url: str) -> "Manifest":
        """The manifest with the model's URL made whole, as seen from the manifest's own."""
        return self.model_copy(update={"model": join(url, self.model)})


def join(base: str, url: str) -> str:
    """An fsspec URL as seen from the file at `base`: as it is, unless it is relative."""
    folder = base.rpartition("/")[0]
    if not folder or "://" in url or "::" in url or url.startswith("/"):
        return url
    return f"{folder}/{url}"


def targets_of(labels: dict[int | str, str], classes: Sequence[str]) -> Sequence[Target | None]:
    """What each output stands for, in order.

    Raises:
      ValueError: an output is mapped to nothing, a name or index is of no output, or a scene has
        no label but `normal`, with which it could only pass.
    """
    names: Sequence[int | str] = classes or range(len(labels))
    by_index = {names.index(key) if key in names else key: to for key, to in labels.items()}
    indices = range(len(names))
    unknown = [str(key) for key in by_index if key not in indices]
    missing = [str(names[index]) for index in indices if index not in by_index]
    if unknown:
        raise ValueError(f"no output is called {', '.join(unknown)}")
    if missing:
        raise ValueError(f"map {', '.join(missing)} too, to scene:label or to `{IGNORE}`")
    if len(by_index) < len(labels):
        raise ValueError("an output is mapped twice, by its name and by its index")
    targets = [_target(by_index[index]) for index in indices]
    if not any(targets):
        raise ValueError("every output is ignored")
    _check_scenes([target for target in targets if target])
    return targets


def _check_scenes(targets: Sequence[Target]) -> None:
    found = {target.scene for target in targets if target.label != NORMAL}
    for scene in sorted({target.scene for target in targets} - found):
        raise ValueError(f"scene {scene} could only pass: map an output to a label not `{NORMAL}`")


def _target(text: str) -> Target | None:
    if text == IGNORE:
        return None
    found = _TARGET.fullmatch(text)
    if not found:
        raise ValueError(f"expected scene:label or `{IGNORE}`, not {text!r}")
    return Target(*found.groups())
