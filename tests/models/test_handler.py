import io

import apache_beam as beam
import bombs
import networks
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from small_models import flat, manifest

from beam_moderation import errors, models


def encoded(red: int) -> bytes:
    written = io.BytesIO()
    flat(red, 0, 0).save(written, "PNG")
    return written.getvalue()


def test_runs_in_run_inference_and_gives_findings_without_tensors(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    model = models.OnnxModel(manifest(tmp_path / "m.onnx", digest), models.Runtime(batch_size=4))
    reds = [0, 51, 102, 153, 204, 255]
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        predictions = (
            pipeline
            | beam.Create([encoded(red) for red in reds])
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


def test_frames_are_taken_as_well_as_bytes(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    handler = models.model_handler(models.OnnxModel(manifest(tmp_path / "m.onnx", digest)))
    judge = handler.load_model()
    one, two = handler.run_inference([flat(255, 0, 0), encoded(255)], judge)
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
def test_bytes_are_held_against_the_formats_and_limits_of_images(tmp_path, content, error):
    digest = networks.channel_means(tmp_path / "m.onnx")
    handler = models.model_handler(models.OnnxModel(manifest(tmp_path / "m.onnx", digest)))
    with pytest.raises(error):
        handler.run_inference([content], handler.load_model())


def test_sizes_are_those_of_what_came(tmp_path):
    digest = networks.channel_means(tmp_path / "m.onnx")
    handler = models.model_handler(models.OnnxModel(manifest(tmp_path / "m.onnx", digest)))
    content = encoded(1)
    assert handler.get_num_bytes([content, flat(0, 0, 0, (10, 20))]) == len(content) + 600
    assert handler.batch_elements_kwargs() == {"min_batch_size": 1, "max_batch_size": 1}
    with pytest.raises(ValueError, match="inference_args"):
        handler.validate_inference_args({"a": 1})
