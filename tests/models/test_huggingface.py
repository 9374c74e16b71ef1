import json
import pathlib

import networks
import numpy as np
import pytest
import yaml
from PIL import Image
from small_models import flat, noise, scores

from beam_moderation import errors, models

VIT = {
    "image_processor_type": "ViTFeatureExtractor",
    "do_resize": True,
    "size": {"height": 4, "width": 4},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
MOBILENET = VIT | {
    "image_processor_type": "MobileNetV2ImageProcessor",
    "size": {"shortest_edge": 6},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 4, "width": 4},
}
LABELS = {"red": "porn:porn", "green": "porn:normal", "blue": "ignore"}


def write_folder(path: pathlib.Path, preprocessor: dict, name="model.onnx", **config) -> str:
    (path / name).parent.mkdir(exist_ok=True)
    networks.channel_means(path / name)
    config = {"id2label": {"0": "red", "1": "green", "2": "blue"}, "model_type": "vit"} | config
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return str(path)


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx"])
def test_folder_needs_nothing_but_the_labels(tmp_path, name):
    url = write_folder(tmp_path, VIT, name)
    model = models.OnnxModel.from_folder(url, LABELS)
    model.load()
    digest = networks.sha256(tmp_path / name)
    assert model.provider.rpartition("+")[0] == f"{tmp_path.name}@{digest[:12]}"
    [found] = scores(model, flat(255, 255, 0))
    chances = np.exp([1, 1, -1]) / np.exp([1, 1, -1]).sum()
    assert found["porn"] == pytest.approx({"porn": chances[0], "normal": chances[1]}, abs=1e-6)


def test_labels_may_be_a_small_file(tmp_path):
    (tmp_path / "vit").mkdir()
    write_folder(tmp_path / "vit", VIT)
    written = {"folder": "vit", "labels": LABELS, "name": "mine"}
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(written))
    model = models.OnnxModel.from_manifest(str(tmp_path / "labels.yaml"))
    model.load()
    assert model.provider.startswith("mine@")


def test_pinned_hash_is_checked(tmp_path):
    folder = models.Folder(folder=write_folder(tmp_path, VIT), labels=LABELS, sha256="0" * 64)
    with pytest.raises(errors.ConfigurationError, match="expected 0000"):
        models.OnnxModel(models.manifest_of(folder)).load()


@pytest.mark.parametrize(
    ("fields", "preparation"),
    [
        pytest.param(VIT, models.Preparation((4, 4)), id="ViT"),
        pytest.param(VIT | {"size": 4}, models.Preparation((4, 4)), id="ViT, a bare number"),
        pytest.param(
            MOBILENET,
            models.Preparation((4, 4), "crop", 6, Image.Resampling.BICUBIC),
            id="MobileNet",
        ),
        pytest.param(
            MOBILENET | {"size": 6, "crop_size": 4, "image_processor_type": "CLIPImageProcessor"},
            models.Preparation((4, 4), "crop", 6, Image.Resampling.BICUBIC),
            id="CLIP, bare numbers",
        ),
        pytest.param(
            MOBILENET | {"size": {"height": 6, "width": 5}},
            models.Preparation((4, 4), "stretch", (5, 6), Image.Resampling.BICUBIC),
            id="stretch, then crop",
        ),
        pytest.param(
            VIT
            | {
                "size": {"shortest_edge": 4},
                "crop_pct": 0.875,
                "image_processor_type": "ConvNextImageProcessor",
            },
            models.Preparation((4, 4), "crop", 4),
            id="ConvNext",
        ),
        pytest.param(
            VIT
            | {
                "size": {"shortest_edge": 384},
                "crop_pct": 1.0,
                "image_processor_type": "ConvNextImageProcessor",
            },
            models.Preparation((384, 384)),
            id="ConvNext, large",
        ),
    ],
)
def test_preprocessor_is_understood(tmp_path, fields, preparation):
    model = models.OnnxModel.from_folder(write_folder(tmp_path, fields), LABELS)
    assert model.prepare == preparation


@pytest.mark.parametrize(
    ("fields", "tensor"),
    [
        (VIT, models.Tensor(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
        (VIT | {"do_normalize": False}, models.Tensor()),
        (
            VIT | {"do_normalize": False, "do_rescale": False, "do_flip_channel_order": True},
            models.Tensor(scale=1.0, colours="BGR"),
        ),
    ],
)
def test_normalisation_is_understood(tmp_path, fields, tensor):
    folder = models.Folder(folder=write_folder(tmp_path, fields), labels=LABELS)
    assert models.manifest_of(folder).input.tensor() == tensor


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({}, "softmax"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
    ],
)
def test_activation_follows_the_problem_type(tmp_path, config, activation):
    folder = models.Folder(folder=write_folder(tmp_path, VIT, **config), labels=LABELS)
    assert models.manifest_of(folder).output.activation == activation


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_pad": True}, "do_pad is not understood"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"do_resize": False}, "do_resize"),
        ({"size": {"shortest_edge": 4}}, "shortest_edge"),
        ({"size": {"longest_edge": 4}}, "width"),
        ({"image_mean": None}, "input.mean"),
        ({"resample": 17}, "17"),
        ({"resample": "bilinear"}, "resample"),
    ],
)
def test_preprocessor_that_is_not_understood_is_refused(tmp_path, change, words):
    url = write_folder(tmp_path, VIT | change)
    with pytest.raises(errors.ConfigurationError, match=words):
        models.OnnxModel.from_folder(url, LABELS)


def test_labels_that_do_not_count_from_0_are_refused(tmp_path):
    url = write_folder(tmp_path, VIT, id2label={"1": "red", "2": "green", "3": "blue"})
    with pytest.raises(errors.ConfigurationError, match=r"config\.json: id2label: expected"):
        models.OnnxModel.from_folder(url, LABELS)


def test_weights_beside_the_model_are_found_and_pinned(tmp_path):
    labels = {"id2label": {"0": "red", "1": "green"}}
    url = write_folder(tmp_path, VIT | {"size": 16}, **labels)
    networks.convolution(tmp_path / "model.onnx", external="model.onnx_data")
    model = models.OnnxModel.from_folder(url, {"red": "a:b", "green": "a:normal"})
    digest = networks.sha256(tmp_path / "model.onnx_data")
    assert model.manifest.external_data == {"model.onnx_data": digest}
    model.load()
    assert sum(scores(model, noise(20, 20))[0]["a"].values()) == pytest.approx(1)


def test_label_without_a_meaning_is_refused(tmp_path):
    url = write_folder(tmp_path, VIT)
    with pytest.raises(errors.ConfigurationError, match="map blue too"):
        models.OnnxModel.from_folder(url, {"red": "porn:porn", "green": "porn:normal"})


def test_folder_without_a_model_is_refused(tmp_path):
    url = write_folder(tmp_path, VIT)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(errors.ConfigurationError, match="neither"):
        models.OnnxModel.from_folder(url, LABELS)
