"""The benchmarks' input: generated JPEGs, references to them, and MobileNetV2-sized models.

`python benchmarks/sample.py FOLDER [--images 2000]` makes what is not there yet:

- `images/000000.jpg` ...: 0.3 to 1.9 megapixels, 1.0 in the mean, about 1.5 bits a pixel as
  photographs have, 4:2:0, one in ten progressive;
- `references.parquet`: `data_id`, `uri`;
- `fp32.onnx`, `int8.onnx`: MobileNetV2 1.0 (Sandler et al. 2018, arXiv:1801.04381, table 2) with
  random weights and five labels; the second quantised to QDQ with the first images;
- `fp32.yaml`, `int8.yaml`: their manifests.

The same seed makes the same files.
"""

import argparse
import concurrent.futures
import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from onnxruntime import quantization
from PIL import Image

LABELS = ("drawing", "hentai", "neutral", "porn", "sexy")
SIDE_PX = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

CANVAS_PX = 2048
"""The side of the canvases that the images are cut from."""


def canvas(seed: int) -> np.ndarray:
    """A colour field with the 1/f spectrum of natural images: uint8[CANVAS_PX, CANVAS_PX, 3]."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(CANVAS_PX)[:, None], np.fft.rfftfreq(CANVAS_PX))
    frequency[0, 0] = 1
    planes = []
    for contrast in (50, 18, 18):
        shape = (CANVAS_PX, CANVAS_PX // 2 + 1)
        waves = random.normal(size=shape) + 1j * random.normal(size=shape)
        plane = np.fft.irfft2(waves / frequency**1.4, s=(CANVAS_PX, CANVAS_PX))
        planes.append(128 + contrast * plane / plane.std())
    pixels = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"))


def write_image(path: pathlib.Path, number: int, canvases: list[np.ndarray]) -> None:
    """Writes image `number`: a cut of a canvas."""
    random = np.random.default_rng(number)
    pixels = random.triangular(0.3e6, 0.8e6, 1.9e6)
    aspect = random.choice([4 / 3, 3 / 2, 1, 3 / 4, 2 / 3])
    width, height = round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5)
    left, top = random.integers(CANVAS_PX - width), random.integers(CANVAS_PX - height)
    cut = canvases[number % len(canvases)][top : top + height, left : left + width]
    image = Image.fromarray(cut[:, :: random.choice([-1, 1])])
    image.save(path, quality=80, subsampling="4:2:0", progressive=number % 10 == 0)


def write_images(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """The first `count` images; those that are missing are made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        canvases = [canvas(seed) for seed in range(8)]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: write_image(paths[number], number, canvases), missing))
    return paths


def write_references(file: pathlib.Path, paths: list[pathlib.Path], count: int) -> pathlib.Path:
    """References to the images, from the first again where there are fewer than `count`."""
    uris = [paths[number % len(paths)].resolve().as_uri() for number in range(count)]
    ids = [f"{number:08}" for number in range(count)]
    pq.write_table(pa.table({"data_id": ids, "uri": uris}), file, row_group_size=10_000)
    return file


BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
BLOCKS += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats and first stride of MobileNetV2's bottlenecks."""


class Network:
    """An ONNX graph that grows layer by layer; weights are random, biases zero."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [
            onnx.numpy_helper.from_array(np.float32(0), "zero"),
            onnx.numpy_helper.from_array(np.float32(6), "six"),
        ]

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Adds a node and returns the name of its output."""
        name = output or f"{kind}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Adds a weight with He's deviation and returns its name."""
        name = f"weight{len(self.weights)}"
        deviation = (2 / np.prod(shape[1:])) ** 0.5
        values = self._random.normal(0, deviation, shape).astype(np.float32)
        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def bias(self, channels: int) -> str:
        """Adds a bias of zeros and returns its name."""
        name = f"bias{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.zeros(channels, np.float32), name))
        return name

    def convolution(
        self, data: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, group: int = 1
    ) -> str:
        """A convolution that keeps the size at stride 1."""
        weight = self.weight(outputs, inputs // group, kernel, kernel)
        return self.add(
            "Conv",
            data,
            weight,
            self.bias(outputs),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=group,
        )

    def relu6(self, data: str) -> str:
        """ReLU6."""
        return self.add("Clip", data, "zero", "six")

    def bottleneck(self, data: str, inputs: int, outputs: int, expansion: int, stride: int) -> str:
        """An inverted residual with a linear bottleneck."""
        width = inputs * expansion
        inner = self.relu6(self.convolution(data, inputs, width)) if expansion > 1 else data
        inner = self.relu6(self.convolution(inner, width, width, 3, stride, group=width))
        inner = self.convolution(inner, width, outputs)
        return self.add("Add", data, inner) if stride == 1 and inputs == outputs else inner


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2: `pixels` float32[n, 3, 224, 224] to `logits` float32[n, 5]."""
    network = Network()
    data, channels = network.relu6(network.convolution("pixels", 3, 32, 3, 2)), 32
    for expansion, outputs, repeats, first_stride in BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            data = network.bottleneck(data, channels, outputs, expansion, stride)
            channels = outputs
    data = network.relu6(network.convolution(data, channels, 1280))
    data = network.add("Flatten", network.add("GlobalAveragePool", data))
    weight = network.weight(len(LABELS), 1280)
    network.add("Gemm", data, weight, network.bias(len(LABELS)), output="logits", transB=1)
    graph = onnx.helper.make_graph(
        network.nodes,
        "mobilenet_v2",
        [_tensor("pixels", ["n", 3, SIDE_PX, SIDE_PX])],
        [_tensor("logits", ["n", len(LABELS)])],
        network.weights,
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def _tensor(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def pixels(path: pathlib.Path | str) -> np.ndarray:
    """An image as the models take it: float32[1, 3, 224, 224]; JPEGs are scaled while decoded."""
    with Image.open(path) as image:
        image.draft("RGB", (SIDE_PX, SIDE_PX))
        small = image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    values = np.asarray(small).transpose(2, 0, 1)[None].astype(np.float32)
    values *= np.array([1 / 255 / std for std in STD], np.float32)[:, None, None]
    values -= np.array([m / s for m, s in zip(MEAN, STD, strict=True)], np.float32)[:, None, None]
    return values


class Calibration(quantization.CalibrationDataReader):
    """The images from which the quantiser learns the ranges of the activations."""

    def __init__(self, paths: list[pathlib.Path]) -> None:
        self._inputs: Iterator[dict[str, np.ndarray]] = ({"pixels": pixels(p)} for p in paths)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image; None behind the last."""
        return next(self._inputs, None)


def write_models(folder: pathlib.Path, paths: list[pathlib.Path]) -> None:
    """Writes both models and their manifests."""
    onnx.save(mobilenet_v2(), folder / "fp32.onnx")
    quantization.quantize_static(
        folder / "fp32.onnx",
        folder / "int8.onnx",
        Calibration(paths[:16]),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
    )
    for name in ("fp32", "int8"):
        text = yaml.safe_dump(manifest(folder / f"{name}.onnx"), sort_keys=False)
        (folder / f"{name}.yaml").write_text(text)


def manifest(model: pathlib.Path) -> dict[str, object]:
    """What the product needs to know of a model."""
    return {
        "name": f"mobilenet-v2-{model.stem}",
        "model": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "input": {"size": SIDE_PX, "mean": list(MEAN), "std": list(STD)},
        "output": {"activation": "softmax"},
        "classes": list(LABELS),
        "labels": {
            "drawing": "ignore",
            "hentai": "porn:porn",
            "neutral": "porn:normal",
            "porn": "porn:porn",
            "sexy": "porn:sexy",
        },
    }


def make(folder: pathlib.Path, images: int) -> pathlib.Path:
    """Makes what is missing of the sample; returns the path of the references."""
    paths = write_images(folder / "images", images)
    if not (folder / "int8.yaml").exists():
        write_models(folder, paths)
    return write_references(folder / "references.parquet", paths, images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=2_000)
    arguments = parser.parse_args()
    print(make(arguments.folder, arguments.images))
