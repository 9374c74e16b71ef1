import pathlib

import fsspec
import networks
import pytest
import yaml
from small_models import RED_GREEN_BLUE, flat, manifest, scores

from beam_moderation import errors, models


def test_file_is_read_with_the_model_beside_it(tmp_path):
    digest = networks.channel_means(tmp_path / "tiny.onnx")
    content = f"""
        name: tiny
        model: tiny.onnx
        sha256: {digest}
        input: {{size: {{width: 4, height: 4}}, resize: stretch}}
        output: {{activation: none}}
        classes: [red, green, blue]
        labels: {{red: "porn:porn", green: "porn:normal", blue: ignore}}
    """
    (tmp_path / "model.yaml").write_text(content)
    model = models.OnnxModel.from_manifest(str(tmp_path / "model.yaml"))
    model.load()
    assert model.provider.rpartition("+")[0] == f"tiny@{digest[:12]}"
    assert model.labels == {"porn": frozenset({"porn", "normal"})}
    [found] = scores(model, flat(255, 51, 0))
    assert found == {"porn": pytest.approx({"porn": 1.0, "normal": 0.2}, abs=1e-6)}


@pytest.mark.parametrize(
    "change",
    [
        {"labels": RED_GREEN_BLUE | {0: "porn:sexy"}},
        {"labels": RED_GREEN_BLUE | {2: "porn:normal"}},
        {
            "classes": ["b", "g", "r"],
            "labels": {"r": "porn:porn", "g": "ignore", "b": "ignore"},
        },
        {"output": {"activation": "softmax"}},
        {"output": {"activation": "none", "name": "other"}},
        {"input": {"size": 4, "mean": [0.5, 0.5, 0.5]}},
        {"input": {"size": 4, "resize": "letterbox"}},
        {"external_data": {"weights": "0" * 64}},
    ],
    ids=str,
)
def test_provider_changes_with_whatever_of_the_manifest_changes_verdicts(change):
    path, digest = pathlib.Path("m.onnx"), "1" * 64
    before = models.OnnxModel(manifest(path, digest)).provider
    assert models.OnnxModel(manifest(path, digest, **change)).provider != before


def test_provider_is_the_same_in_another_spelling_of_the_manifest():
    path, digest = pathlib.Path("m.onnx"), "1" * 64
    spelled = {
        "model": "elsewhere/m.onnx",
        "classes": ["red", "green", "blue"],
        "labels": {"blue": "ignore", "green": "porn:normal", "red": "porn:porn"},
        "input": {"size": {"width": 4, "height": 4}, "resize": "stretch"},
    }
    providers = {
        models.OnnxModel(manifest(path, digest, **change)).provider for change in ({}, spelled)
    }
    assert len(providers) == 1


def test_manifest_and_model_are_read_from_any_filesystem(tmp_path):
    digest = networks.channel_means(tmp_path / "tiny.onnx")
    store = fsspec.filesystem("memory")
    store.pipe("/models/tiny.onnx", (tmp_path / "tiny.onnx").read_bytes())
    written = manifest(pathlib.Path("tiny.onnx"), digest).model_dump(exclude_unset=True)
    written["input"] = {"size": 4}
    store.pipe("/models/m.yaml", yaml.safe_dump(written).encode())
    model = models.OnnxModel.from_manifest("memory://models/m.yaml")
    model.load()
    assert scores(model, flat(255, 0, 0)) == [{"porn": {"porn": 1.0, "normal": 0.0}}]


@pytest.mark.parametrize(
    ("change", "at", "words"),
    [
        pytest.param({"sha256": "abc"}, "sha256:", "sha256", id="short hash"),
        pytest.param({"sizes": 3}, "sizes:", "sizes", id="unknown field"),
        pytest.param({"input": {"size": "4"}}, "  size:", "number", id="text for a number"),
        pytest.param(
            {"input": {"size": 4, "std": [1, 0, 1]}}, "  std:", "divided", id="division by zero"
        ),
        pytest.param(
            {"input": {"size": 4, "dtype": "uint8", "mean": [1, 1, 1]}},
            "input:",
            "uint8",
            id="uint8",
        ),
        pytest.param(
            {"input": {"size": 4, "resize": "crop", "resize_to": 3}},
            "input:",
            "at least",
            id="crop",
        ),
        pytest.param(
            {"input": {"size": 4, "resize": "letterbox", "resize_to": 5}},
            "input:",
            "does not fit",
            id="letterbox",
        ),
        pytest.param(
            {"output": {"activation": "relu"}}, "  activation:", "softmax", id="activation"
        ),
        pytest.param({"labels": {"porn": "porn:porn"}}, "labels:", "porn", id="no classes"),
        pytest.param({"labels": {0: "a:b", 2: "a:c"}}, "labels:", "called 2", id="gap"),
        pytest.param({"labels": {0: "porn"}}, "labels:", "expected scene:label", id="no scene"),
        pytest.param({"labels": {0: "ignore"}}, "labels:", "every output", id="all ignored"),
    ],
)
def test_mistake_is_refused_in_one_line_that_names_its_line(tmp_path, change, at, words):
    fields = {
        "name": "tiny",
        "model": "tiny.onnx",
        "sha256": "0" * 64,
        "input": {"size": 4},
        "output": {"activation": "none"},
        "labels": RED_GREEN_BLUE,
    } | change
    text = yaml.safe_dump(fields, sort_keys=False)
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(errors.ConfigurationError) as caught:
        models.OnnxModel.from_manifest(str(tmp_path / "m.yaml"))
    [line] = [n for n, line in enumerate(text.splitlines(), 1) if line.startswith(at)]
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'm.yaml'}:{line}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"red": "a:b"}, "map green, blue too"),
        ({"red": "a:b", "green": "a:c", "blue": "a:d", "white": "a:e"}, "no output is called"),
        ({"red": "a:b", 1: "a:c", 2: "a:d", "blue": "a:e"}, "twice"),
        ({"red": "a:normal", "green": "ignore", "blue": "ignore"}, "scene a could only pass"),
        ({"red": "a:normal", "green": "b:c", "blue": "a:normal"}, "scene a could only pass"),
    ],
)
def test_every_output_is_mapped_exactly_once_and_each_scene_can_fail(tmp_path, labels, words):
    with pytest.raises(ValueError, match=words):
        manifest(tmp_path, "0" * 64, classes=["red", "green", "blue"], labels=labels)


def test_missing_file_is_a_mistake_of_the_operators(tmp_path):
    with pytest.raises(errors.ConfigurationError, match="cannot read"):
        models.OnnxModel.from_manifest(str(tmp_path / "none.yaml"))
