import pickle
import weakref

import networks
import onnxruntime
import pytest
from small_models import flat, loaded, manifest, noise, scores

from beam_moderation import errors, models


def test_changed_file_is_refused_before_it_runs(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    content = bytearray((tmp_path / "m.onnx").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match="expected " + digest):
        loaded(manifest(tmp_path / "m.onnx", digest))


def test_file_that_is_no_model_is_a_mistake_of_the_operators(tmp_path):
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
def test_model_that_is_not_what_the_manifest_says_is_refused(tmp_path, network, changes, words):
    digest = networks.channel_means(tmp_path / "m.onnx", **network)
    with pytest.raises(errors.ConfigurationError, match=words):
        loaded(manifest(tmp_path / "m.onnx", digest, **changes))


def test_loading_again_does_nothing(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = loaded(manifest(tmp_path / "m.onnx", digest))
    (tmp_path / "m.onnx").unlink()
    model.load()
    assert scores(model, flat(255, 0, 0))[0]["porn"]["porn"] == 1.0


def test_copies_in_a_process_share_one_session_that_ends_with_the_last(tmp_path):
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


def test_loaded_model_can_be_pickled_and_referred_to_weakly(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = loaded(manifest(tmp_path / "m.onnx", digest))
    copy = pickle.loads(pickle.dumps(model))
    copy.load()
    assert weakref.ref(copy)() is copy
    assert copy.provider == model.provider
    assert scores(copy, flat(9, 5, 1)) == scores(model, flat(9, 5, 1))


def test_weights_in_a_file_of_their_own_are_pinned_too(tmp_path):
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


def test_weights_that_are_not_pinned_are_not_loaded(tmp_path, monkeypatch):
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
def test_runtime_options_leave_the_findings_as_they_are(tmp_path, optimisation):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = loaded(
        manifest(tmp_path / "m.onnx", digest), optimisation=optimisation, arena=False, threads=2
    )
    assert scores(model, flat(255, 0, 0)) == [{"porn": {"porn": 1.0, "normal": 0.0}}]


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA"
)
def test_gpu_that_the_wheel_lacks_is_refused_with_what_to_install(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    runtime = models.Runtime(execution_providers=("CUDAExecutionProvider",))
    with pytest.raises(errors.ConfigurationError, match=r"beam-moderation\[gpu\]"):
        models.OnnxModel(manifest(tmp_path / "m.onnx", digest), runtime)


def test_a_gpu_gets_large_batches_and_a_cpu_single_frames():
    gpu = models.Runtime(execution_providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert (gpu.max_batch, models.Runtime().max_batch) == (64, 1)
    assert models.Runtime(batch_size=8).max_batch == 8
