import concurrent.futures

import networks
import numpy as np
import pytest
from small_models import flat, loaded, manifest, noise, scores

from beam_moderation import errors


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [("n", 3, 4, 4), ("n", 4, 4, 3), (1, 3, "h", "w")])
def test_colours_arrive_in_every_layout_and_type(tmp_path, dtype, shape):
    digest = networks.channel_means(tmp_path / "m.onnx", shape=shape, dtype=dtype)
    layout = "NCHW" if shape[1] == 3 else "NHWC"
    model = loaded(
        manifest(tmp_path / "m.onnx", digest, input={"size": 4, "dtype": dtype, "layout": layout})
    )
    [found] = scores(model, flat(204, 51, 0))
    assert found["porn"] == pytest.approx({"porn": 0.8, "normal": 0.2}, abs=1e-3)


def test_uint8_model_gets_the_pixels_as_they_are(tmp_path):
    digest = networks.channel_means(
        tmp_path / "m.onnx", dtype="uint8", tail=[("Softmax", ["means"], ["chances"])]
    )
    model = loaded(manifest(tmp_path / "m.onnx", digest, input={"size": 4, "dtype": "uint8"}))
    [found] = scores(model, flat(11, 10, 0))
    assert found["porn"] == pytest.approx({"porn": 0.731, "normal": 0.269}, abs=1e-3)


def test_colours_may_be_blue_first(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = loaded(manifest(tmp_path / "m.onnx", digest, input={"size": 4, "colours": "BGR"}))
    assert scores(model, flat(0, 0, 255)) == [{"porn": {"porn": 1.0, "normal": 0.0}}]


def test_softmax_is_taken_and_equal_labels_are_summed(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    labels = {0: "porn:porn", 1: "porn:porn", 2: "porn:normal"}
    model = loaded(
        manifest(tmp_path / "m.onnx", digest, labels=labels, output={"activation": "softmax"})
    )
    [found] = scores(model, flat(0, 0, 0))
    assert found["porn"] == pytest.approx({"porn": 2 / 3, "normal": 1 / 3}, abs=1e-6)


def test_sigmoid_is_taken_and_the_largest_of_equal_labels_counts(tmp_path):
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


def test_one_model_judges_several_scenes(tmp_path):
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
def test_every_frame_of_a_batch_gets_its_own_findings(tmp_path, batch, batch_size):
    digest = networks.channel_means(tmp_path / "m.onnx", shape=(batch, 3, 4, 4))
    model = loaded(manifest(tmp_path / "m.onnx", digest), batch_size=batch_size)
    reds = [0, 51, 102, 153, 204, 255, 255]
    found = scores(model, *(flat(red, 0, 0) for red in reds))
    assert [frame["porn"]["porn"] for frame in found] == pytest.approx(
        [red / 255 for red in reds], abs=1e-6
    )


def test_output_that_is_not_finite_is_an_error(tmp_path):
    digest = networks.channel_means(
        tmp_path / "m.onnx", tail=[("Div", ["zeros", "means"], ["broken"])]
    )
    model = loaded(manifest(tmp_path / "m.onnx", digest))
    with pytest.raises(errors.JudgeError, match="not finite"):
        scores(model, flat(255, 0, 0))
    assert scores(model, flat(255, 255, 255)) == [{"porn": {"porn": 0.0, "normal": 0.0}}]


def test_output_outside_of_0_to_1_is_an_error(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = loaded(manifest(tmp_path / "m.onnx", digest, input={"size": 4, "scale": 1.0}))
    with pytest.raises(errors.JudgeError, match="activation"):
        scores(model, flat(9, 9, 9))


def test_threads_share_one_session_and_agree(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = loaded(manifest(tmp_path / "m.onnx", digest))
    reds = list(range(0, 256, 5)) * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda red: scores(model, flat(red, 0, 0)), reds))
    assert [frame[0]["porn"]["porn"] for frame in found] == pytest.approx(
        [red / 255 for red in reds], abs=1e-6
    )


def test_quantised_model_judges_much_like_the_original(tmp_path):
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
