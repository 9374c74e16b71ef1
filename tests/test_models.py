"""Tests of ONNX models: manifests, folders, preparation, sessions, findings."""

import concurrent.futures
import io
import json
import pathlib
import pickle
import weakref

import apache_beam as beam
import bombs
import fsspec
import networks
import numpy as np
import onnxruntime
import pytest
import yaml
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from PIL import Image

from beam_moderation import errors, models

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


class TestManifest:
    def test_file_is_read_with_the_model_beside_it(self, tmp_path):
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
    def test_provider_changes_with_whatever_of_the_manifest_changes_verdicts(self, change):
        path, digest = pathlib.Path("m.onnx"), "1" * 64
        before = models.OnnxModel(manifest(path, digest)).provider
        assert models.OnnxModel(manifest(path, digest, **change)).provider != before

    def test_provider_is_the_same_in_another_spelling_of_the_manifest(self):
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

    def test_manifest_and_model_are_read_from_any_filesystem(self, tmp_path):
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
    def test_mistake_is_refused_in_one_line_that_names_its_line(self, tmp_path, change, at, words):
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
        ],
    )
    def test_every_output_is_mapped_exactly_once(self, tmp_path, labels, words):
        with pytest.raises(ValueError, match=words):
            manifest(tmp_path, "0" * 64, classes=["red", "green", "blue"], labels=labels)

    def test_missing_file_is_a_mistake_of_the_operators(self, tmp_path):
        with pytest.raises(errors.ConfigurationError, match="cannot read"):
            models.OnnxModel.from_manifest(str(tmp_path / "none.yaml"))


class TestPreparation:
    def test_stretch_gives_pillows_own_pixels(self):
        frame = noise(61, 47)
        made = models.Preparation((20, 10))(frame)
        expected = np.asarray(frame.resize((20, 10), Image.Resampling.BILINEAR))
        assert np.array_equal(made, expected)
        assert made.dtype == np.uint8

    @pytest.mark.parametrize("size", [(61, 47), (47, 61), (300, 33), (24, 24), (9, 5)])
    def test_crop_gives_what_scaling_all_and_cutting_gives(self, size):
        frame = noise(*size)
        made = models.Preparation((20, 18), "crop", resize_to=24)(frame)
        scale = 24 / min(size)
        whole = tuple(24 if side == min(size) else int(24 * side / min(size)) for side in size)
        assert min(whole) == 24
        assert whole[0] == pytest.approx(size[0] * scale, abs=1)
        left, top = (whole[0] - 20) // 2, (whole[1] - 18) // 2
        expected = frame.resize(whole, Image.Resampling.BILINEAR).crop(
            (left, top, left + 20, top + 18)
        )
        difference = made.astype(int) - np.asarray(expected, int)
        assert np.abs(difference).max() <= 1

    def test_extreme_shape_is_cropped_without_a_giant_in_between(self):
        made = models.Preparation((224, 224), "crop", resize_to=256)(flat(9, 9, 9, (1, 30_000)))
        assert made.shape == (224, 224, 3)

    def test_stretch_may_cut_the_centre_of_a_larger_size(self):
        frame = noise(50, 40)
        made = models.Preparation((8, 6), resize_to=(10, 10))(frame)
        expected = frame.resize((10, 10), Image.Resampling.BILINEAR).crop((1, 2, 9, 8))
        assert np.array_equal(made, np.asarray(expected))

    def test_letterbox_keeps_the_shape_and_fills_the_rest(self):
        made = models.Preparation((8, 8), "letterbox", pad=(1, 2, 3))(flat(200, 0, 0, (20, 10)))
        assert made[:2].reshape(-1, 3).tolist() == [[1, 2, 3]] * 16
        assert made[2:6].reshape(-1, 3).tolist() == [[200, 0, 0]] * 32
        started = models.Preparation((8, 8), "letterbox", pad_at="start")(flat(200, 0, 0, (20, 10)))
        assert started[:4, :, 0].min() == 200
        assert started[4:].max() == 0

    @pytest.mark.parametrize(
        ("preparation", "sufficient"),
        [
            (models.Preparation((224, 200)), (224, 200)),
            (models.Preparation((224, 224), "crop", resize_to=256), (256, 256)),
            (models.Preparation((224, 224), "crop"), (224, 224)),
            (models.Preparation((224, 224), resize_to=(256, 240)), (256, 240)),
            (models.Preparation((320, 320), "letterbox"), (320, 320)),
        ],
    )
    def test_sufficient_size_is_what_the_resize_rule_needs(self, preparation, sufficient):
        assert preparation.sufficient_size == sufficient

    def test_preparation_can_be_pickled(self):
        preparation = models.Preparation((4, 4), "letterbox")
        copy = pickle.loads(pickle.dumps(preparation))
        assert np.array_equal(copy(noise(9, 5)), preparation(noise(9, 5)))


class TestTensor:
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    @pytest.mark.parametrize("colours", ["RGB", "BGR"])
    def test_pixels_are_scaled_and_normalised_by_channel(self, layout, colours):
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        tensor = models.Tensor(layout=layout, colours=colours, mean=mean, std=std)
        pixels = np.asarray(noise(6, 5))
        made = np.zeros(tensor.shape(1, (6, 5)), np.float32)
        tensor.fill(made[0], pixels)
        ordered = pixels if colours == "RGB" else pixels[..., ::-1]
        expected = (ordered / 255 - mean) / std
        axes = (2, 0, 1) if layout == "NCHW" else (0, 1, 2)
        np.testing.assert_allclose(made[0], expected.transpose(axes), atol=1e-5)


class TestJudging:
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize("shape", [("n", 3, 4, 4), ("n", 4, 4, 3), (1, 3, "h", "w")])
    def test_colours_arrive_in_every_layout_and_type(self, tmp_path, dtype, shape):
        digest = networks.channel_means(tmp_path / "m.onnx", shape=shape, dtype=dtype)
        layout = "NCHW" if shape[1] == 3 else "NHWC"
        model = loaded(
            manifest(
                tmp_path / "m.onnx", digest, input={"size": 4, "dtype": dtype, "layout": layout}
            )
        )
        [found] = scores(model, flat(204, 51, 0))
        assert found["porn"] == pytest.approx({"porn": 0.8, "normal": 0.2}, abs=1e-3)

    def test_uint8_model_gets_the_pixels_as_they_are(self, tmp_path):
        digest = networks.channel_means(
            tmp_path / "m.onnx", dtype="uint8", tail=[("Softmax", ["means"], ["chances"])]
        )
        model = loaded(manifest(tmp_path / "m.onnx", digest, input={"size": 4, "dtype": "uint8"}))
        [found] = scores(model, flat(11, 10, 0))
        assert found["porn"] == pytest.approx({"porn": 0.731, "normal": 0.269}, abs=1e-3)

    def test_colours_may_be_blue_first(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(manifest(tmp_path / "m.onnx", digest, input={"size": 4, "colours": "BGR"}))
        assert scores(model, flat(0, 0, 255)) == [{"porn": {"porn": 1.0, "normal": 0.0}}]

    def test_softmax_is_taken_and_equal_labels_are_summed(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        labels = {0: "porn:porn", 1: "porn:porn", 2: "porn:normal"}
        model = loaded(
            manifest(tmp_path / "m.onnx", digest, labels=labels, output={"activation": "softmax"})
        )
        [found] = scores(model, flat(0, 0, 0))
        assert found["porn"] == pytest.approx({"porn": 2 / 3, "normal": 1 / 3}, abs=1e-6)

    def test_sigmoid_is_taken_and_the_largest_of_equal_labels_counts(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        labels = {0: "porn:porn", 1: "porn:porn", 2: "ad:ad"}
        model = loaded(
            manifest(
                tmp_path / "m.onnx",
                digest,
                labels=labels,
                input={"size": 4, "scale": 1.0},
                output={"activation": "sigmoid"},
            )
        )
        [found] = scores(model, flat(0, 2, 255))
        assert found["porn"] == pytest.approx({"porn": 0.8808, "normal": 0.1192}, abs=1e-4)
        assert found["ad"] == pytest.approx({"ad": 1.0, "normal": 0.0}, abs=1e-6)

    def test_one_model_judges_several_scenes(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        labels = {0: "porn:porn", 1: "porn:sexy", 2: "terrorism:bloody"}
        model = loaded(manifest(tmp_path / "m.onnx", digest, labels=labels))
        assert model.labels == {
            "porn": frozenset({"porn", "sexy", "normal"}),
            "terrorism": frozenset({"bloody", "normal"}),
        }
        [found] = scores(model, flat(51, 0, 255))
        assert found["porn"] == pytest.approx({"porn": 0.2, "sexy": 0, "normal": 0.8}, abs=1e-6)
        assert found["terrorism"] == pytest.approx({"bloody": 1.0, "normal": 0.0}, abs=1e-6)

    @pytest.mark.parametrize("batch", ["batch", 1, 3])
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_every_frame_of_a_batch_gets_its_own_findings(self, tmp_path, batch, batch_size):
        digest = networks.channel_means(tmp_path / "m.onnx", shape=(batch, 3, 4, 4))
        model = loaded(manifest(tmp_path / "m.onnx", digest), batch_size=batch_size)
        reds = [0, 51, 102, 153, 204, 255, 255]
        found = scores(model, *(flat(red, 0, 0) for red in reds))
        assert [frame["porn"]["porn"] for frame in found] == pytest.approx(
            [red / 255 for red in reds], abs=1e-6
        )

    def test_output_that_is_not_finite_is_an_error(self, tmp_path):
        digest = networks.channel_means(
            tmp_path / "m.onnx", tail=[("Div", ["zeros", "means"], ["broken"])]
        )
        model = loaded(manifest(tmp_path / "m.onnx", digest))
        with pytest.raises(errors.JudgeError, match="not finite"):
            scores(model, flat(255, 0, 0))
        assert scores(model, flat(255, 255, 255)) == [{"porn": {"porn": 0.0, "normal": 0.0}}]

    def test_output_outside_of_0_to_1_is_an_error(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(manifest(tmp_path / "m.onnx", digest, input={"size": 4, "scale": 1.0}))
        with pytest.raises(errors.JudgeError, match="activation"):
            scores(model, flat(9, 9, 9))

    def test_threads_share_one_session_and_agree(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(manifest(tmp_path / "m.onnx", digest))
        reds = list(range(0, 256, 5)) * 4
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda red: scores(model, flat(red, 0, 0)), reds))
        assert [frame[0]["porn"]["porn"] for frame in found] == pytest.approx(
            [red / 255 for red in reds], abs=1e-6
        )

    def test_quantised_model_judges_much_like_the_original(self, tmp_path):
        from onnxruntime import quantization

        networks.convolution(tmp_path / "float.onnx")
        random = np.random.default_rng(1)

        class Calibration(quantization.CalibrationDataReader):
            left = 8

            def get_next(self):
                self.left -= 1
                picture = random.random((1, 3, 16, 16), np.float32)
                return {"pixels": picture} if self.left >= 0 else None

        quantization.quantize_static(
            str(tmp_path / "float.onnx"),
            str(tmp_path / "int8.onnx"),
            Calibration(),
            quant_format=quantization.QuantFormat.QDQ,
        )
        judged = []
        for name in ("float", "int8"):
            path = tmp_path / f"{name}.onnx"
            changes = {
                "labels": {0: "porn:porn", 1: "porn:normal"},
                "input": {"size": 16},
                "output": {"activation": "softmax"},
            }
            judged.append(
                scores(loaded(manifest(path, networks.sha256(path), **changes)), noise(40, 30))
            )
        assert judged[1][0]["porn"] == pytest.approx(judged[0][0]["porn"], abs=0.05)
        assert judged[0] != judged[1]


class TestLoading:
    def test_changed_file_is_refused_before_it_runs(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        content = bytearray((tmp_path / "m.onnx").read_bytes())
        content[-1] ^= 1
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(errors.ConfigurationError, match="expected " + digest):
            loaded(manifest(tmp_path / "m.onnx", digest))

    def test_file_that_is_no_model_is_a_mistake_of_the_operators(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(b"not a model")
        with pytest.raises(errors.ConfigurationError, match="cannot load"):
            loaded(manifest(tmp_path / "m.onnx", networks.sha256(tmp_path / "m.onnx")))

    @pytest.mark.parametrize(
        ("network", "changes", "words"),
        [
            ({"inputs": 2}, {}, "expected one input"),
            ({}, {"input": {"size": 4, "dtype": "uint8"}}, "takes tensor\\(float\\)"),
            ({}, {"input": {"size": 5}}, "input.size"),
            ({}, {"input": {"size": 4, "layout": "NHWC"}}, "input.size and layout"),
            ({}, {"output": {"activation": "none", "name": "other"}}, "the model has means"),
            ({}, {"labels": {0: "porn:porn"}}, "has 3 outputs, labels map 1"),
            (
                {"tail": [("ReduceMax", ["means"], ["one"]), ("Squeeze", ["one"], ["none"])]},
                {},
                "no batch axis",
            ),
        ],
    )
    def test_model_that_is_not_what_the_manifest_says_is_refused(
        self, tmp_path, network, changes, words
    ):
        digest = networks.channel_means(tmp_path / "m.onnx", **network)
        with pytest.raises(errors.ConfigurationError, match=words):
            loaded(manifest(tmp_path / "m.onnx", digest, **changes))

    def test_loading_again_does_nothing(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(manifest(tmp_path / "m.onnx", digest))
        (tmp_path / "m.onnx").unlink()
        model.load()
        assert scores(model, flat(255, 0, 0))[0]["porn"]["porn"] == 1.0

    def test_copies_in_a_process_share_one_session_that_ends_with_the_last(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(manifest(tmp_path / "m.onnx", digest))
        copy = pickle.loads(pickle.dumps(model))
        (tmp_path / "m.onnx").unlink()
        copy.load()
        session = weakref.ref(model._network._session)
        del model
        assert copy._network._session is session()
        del copy
        assert session() is None

    def test_loaded_model_can_be_pickled_and_referred_to_weakly(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(manifest(tmp_path / "m.onnx", digest))
        copy = pickle.loads(pickle.dumps(model))
        copy.load()
        assert weakref.ref(copy)() is copy
        assert copy.provider == model.provider
        assert scores(copy, flat(9, 5, 1)) == scores(model, flat(9, 5, 1))

    def test_weights_in_a_file_of_their_own_are_pinned_too(self, tmp_path):
        digest = networks.convolution(tmp_path / "m.onnx", external="m.weights")
        changes = {
            "labels": {0: "porn:porn", 1: "porn:normal"},
            "input": {"size": 16},
            "output": {"activation": "softmax"},
        }
        pinned = {"m.weights": networks.sha256(tmp_path / "m.weights")}
        inside = networks.convolution(tmp_path / "inside.onnx")
        apart = loaded(manifest(tmp_path / "m.onnx", digest, external_data=pinned, **changes))
        whole = loaded(manifest(tmp_path / "inside.onnx", inside, **changes))
        assert scores(apart, noise(20, 20)) == scores(whole, noise(20, 20))
        (tmp_path / "m.weights").write_bytes(b"\0" * (tmp_path / "m.weights").stat().st_size)
        del apart
        with pytest.raises(errors.ConfigurationError, match=r"m\.weights has sha256"):
            loaded(manifest(tmp_path / "m.onnx", digest, external_data=pinned, **changes))

    def test_weights_that_are_not_pinned_are_not_loaded(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        digest = networks.convolution(tmp_path / "m.onnx", external="m.weights")
        with pytest.raises(errors.ConfigurationError, match="cannot load"):
            loaded(
                manifest(
                    tmp_path / "m.onnx",
                    digest,
                    input={"size": 16},
                    labels={0: "porn:porn", 1: "porn:normal"},
                )
            )

    @pytest.mark.parametrize("optimisation", ["none", "basic", "extended", "all"])
    def test_runtime_options_leave_the_findings_as_they_are(self, tmp_path, optimisation):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = loaded(
            manifest(tmp_path / "m.onnx", digest), optimisation=optimisation, arena=False, threads=2
        )
        assert scores(model, flat(255, 0, 0)) == [{"porn": {"porn": 1.0, "normal": 0.0}}]

    @pytest.mark.skipif(
        "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA"
    )
    def test_gpu_that_the_wheel_lacks_is_refused_with_what_to_install(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        runtime = models.Runtime(execution_providers=("CUDAExecutionProvider",))
        with pytest.raises(errors.ConfigurationError, match=r"beam-moderation\[gpu\]"):
            models.OnnxModel(manifest(tmp_path / "m.onnx", digest), runtime)

    def test_a_gpu_gets_large_batches_and_a_cpu_single_frames(self):
        gpu = models.Runtime(execution_providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
        assert (gpu.max_batch, models.Runtime().max_batch) == (64, 1)
        assert models.Runtime(batch_size=8).max_batch == 8


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


class TestFolder:
    def folder(self, path: pathlib.Path, preprocessor: dict, name="model.onnx", **config) -> str:
        (path / name).parent.mkdir(exist_ok=True)
        networks.channel_means(path / name)
        config = {"id2label": {"0": "red", "1": "green", "2": "blue"}, "model_type": "vit"} | config
        (path / "config.json").write_text(json.dumps(config))
        (path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        return str(path)

    @pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx"])
    def test_folder_needs_nothing_but_the_labels(self, tmp_path, name):
        url = self.folder(tmp_path, VIT, name)
        model = models.OnnxModel.from_folder(url, LABELS)
        model.load()
        digest = networks.sha256(tmp_path / name)
        assert model.provider.rpartition("+")[0] == f"{tmp_path.name}@{digest[:12]}"
        [found] = scores(model, flat(255, 255, 0))
        chances = np.exp([1, 1, -1]) / np.exp([1, 1, -1]).sum()
        assert found["porn"] == pytest.approx({"porn": chances[0], "normal": chances[1]}, abs=1e-6)

    def test_labels_may_be_a_small_file(self, tmp_path):
        (tmp_path / "vit").mkdir()
        self.folder(tmp_path / "vit", VIT)
        written = {"folder": "vit", "labels": LABELS, "name": "mine"}
        (tmp_path / "labels.yaml").write_text(yaml.safe_dump(written))
        model = models.OnnxModel.from_manifest(str(tmp_path / "labels.yaml"))
        model.load()
        assert model.provider.startswith("mine@")

    def test_pinned_hash_is_checked(self, tmp_path):
        folder = models.Folder(folder=self.folder(tmp_path, VIT), labels=LABELS, sha256="0" * 64)
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
                MOBILENET
                | {"size": 6, "crop_size": 4, "image_processor_type": "CLIPImageProcessor"},
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
    def test_preprocessor_is_understood(self, tmp_path, fields, preparation):
        model = models.OnnxModel.from_folder(self.folder(tmp_path, fields), LABELS)
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
    def test_normalisation_is_understood(self, tmp_path, fields, tensor):
        folder = models.Folder(folder=self.folder(tmp_path, fields), labels=LABELS)
        assert models.manifest_of(folder).input.tensor() == tensor

    @pytest.mark.parametrize(
        ("config", "activation"),
        [
            ({}, "softmax"),
            ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ],
    )
    def test_activation_follows_the_problem_type(self, tmp_path, config, activation):
        folder = models.Folder(folder=self.folder(tmp_path, VIT, **config), labels=LABELS)
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
    def test_preprocessor_that_is_not_understood_is_refused(self, tmp_path, change, words):
        url = self.folder(tmp_path, VIT | change)
        with pytest.raises(errors.ConfigurationError, match=words):
            models.OnnxModel.from_folder(url, LABELS)

    def test_labels_that_do_not_count_from_0_are_refused(self, tmp_path):
        url = self.folder(tmp_path, VIT, id2label={"1": "red", "2": "green", "3": "blue"})
        with pytest.raises(errors.ConfigurationError, match=r"config\.json: id2label: expected"):
            models.OnnxModel.from_folder(url, LABELS)

    def test_weights_beside_the_model_are_found_and_pinned(self, tmp_path):
        labels = {"id2label": {"0": "red", "1": "green"}}
        url = self.folder(tmp_path, VIT | {"size": 16}, **labels)
        networks.convolution(tmp_path / "model.onnx", external="model.onnx_data")
        model = models.OnnxModel.from_folder(url, {"red": "a:b", "green": "a:normal"})
        digest = networks.sha256(tmp_path / "model.onnx_data")
        assert model.manifest.external_data == {"model.onnx_data": digest}
        model.load()
        assert sum(scores(model, noise(20, 20))[0]["a"].values()) == pytest.approx(1)

    def test_label_without_a_meaning_is_refused(self, tmp_path):
        url = self.folder(tmp_path, VIT)
        with pytest.raises(errors.ConfigurationError, match="map blue too"):
            models.OnnxModel.from_folder(url, {"red": "porn:porn", "green": "porn:normal"})

    def test_folder_without_a_model_is_refused(self, tmp_path):
        url = self.folder(tmp_path, VIT)
        (tmp_path / "model.onnx").unlink()
        with pytest.raises(errors.ConfigurationError, match="neither"):
            models.OnnxModel.from_folder(url, LABELS)


class TestModelHandler:
    def encoded(self, red: int) -> bytes:
        written = io.BytesIO()
        flat(red, 0, 0).save(written, "PNG")
        return written.getvalue()

    def test_runs_in_run_inference_and_gives_findings_without_tensors(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        model = models.OnnxModel(
            manifest(tmp_path / "m.onnx", digest), models.Runtime(batch_size=4)
        )
        reds = [0, 51, 102, 153, 204, 255]
        options = PipelineOptions(["--runner=FnApiRunner"])
        with beam.Pipeline(options=options) as pipeline:
            predictions = (
                pipeline
                | beam.Create([self.encoded(red) for red in reds])
                | RunInference(models.model_handler(model))
            )

            def check(found):
                assert all(prediction.example is None for prediction in found)
                assert {prediction.model_id for prediction in found} == {model.provider}
                assert sorted(
                    dict(prediction.inference[0].findings)["porn"] for prediction in found
                ) == pytest.approx([red / 255 for red in reds], abs=1e-6)

            assert_that(predictions, check)
        counters = pipeline.result.metrics().query()["counters"]
        counted = {
            (counter.key.metric.namespace, counter.key.metric.name): counter.committed
            for counter in counters
        }
        assert counted["beam_moderation", "num_inferences"] == 6

    def test_frames_are_taken_as_well_as_bytes(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        handler = models.model_handler(models.OnnxModel(manifest(tmp_path / "m.onnx", digest)))
        judge = handler.load_model()
        one, two = handler.run_inference([flat(255, 0, 0), self.encoded(255)], judge)
        assert one == two

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (b"<html>", errors.FormatUnsupported),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", errors.FormatUnsupported),
            (bombs.png_one_bit(), errors.ImageTooManyPixels),
        ],
        ids=["page", "postscript", "bomb"],
    )
    def test_bytes_are_held_against_the_formats_and_limits_of_images(
        self, tmp_path, content, error
    ):
        digest = networks.channel_means(tmp_path / "m.onnx")
        handler = models.model_handler(models.OnnxModel(manifest(tmp_path / "m.onnx", digest)))
        with pytest.raises(error):
            handler.run_inference([content], handler.load_model())

    def test_sizes_are_those_of_what_came(self, tmp_path):
        digest = networks.channel_means(tmp_path / "m.onnx")
        handler = models.model_handler(models.OnnxModel(manifest(tmp_path / "m.onnx", digest)))
        content = self.encoded(1)
        assert handler.get_num_bytes([content, flat(0, 0, 0, (10, 20))]) == len(content) + 600
        assert handler.batch_elements_kwargs() == {"min_batch_size": 1, "max_batch_size": 1}
        with pytest.raises(ValueError, match="inference_args"):
            handler.validate_inference_args({"a": 1})
