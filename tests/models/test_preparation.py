import pickle

import numpy as np
import pytest
from PIL import Image
from small_models import flat, noise

from beam_moderation import models


def test_stretch_gives_pillows_own_pixels():
    frame = noise(61, 47)
    made = models.Preparation((20, 10))(frame)
    expected = np.asarray(frame.resize((20, 10), Image.Resampling.BILINEAR))
    assert np.array_equal(made, expected)
    assert made.dtype == np.uint8


@pytest.mark.parametrize("size", [(61, 47), (47, 61), (300, 33), (24, 24), (9, 5)])
def test_crop_gives_what_scaling_all_and_cutting_gives(size):
    frame = noise(*size)
    made = models.Preparation((20, 18), "crop", resize_to=24)(frame)
    scale = 24 / min(size)
    whole = tuple(24 if side == min(size) else int(24 * side / min(size)) for side in size)
    assert min(whole) == 24
    assert whole[0] == pytest.approx(size[0] * scale, abs=1)
    left, top = (whole[0] - 20) // 2, (whole[1] - 18) // 2
    expected = frame.resize(whole, Image.Resampling.BILINEAR).crop((left, top, left + 20, top + 18))
    difference = made.astype(int) - np.asarray(expected, int)
    assert np.abs(difference).max() <= 1


def test_extreme_shape_is_cropped_without_a_giant_in_between():
    made = models.Preparation((224, 224), "crop", resize_to=256)(flat(9, 9, 9, (1, 30_000)))
    assert made.shape == (224, 224, 3)


def test_stretch_may_cut_the_centre_of_a_larger_size():
    frame = noise(50, 40)
    made = models.Preparation((8, 6), resize_to=(10, 10))(frame)
    expected = frame.resize((10, 10), Image.Resampling.BILINEAR).crop((1, 2, 9, 8))
    assert np.array_equal(made, np.asarray(expected))


def test_letterbox_keeps_the_shape_and_fills_the_rest():
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
def test_sufficient_size_is_what_the_resize_rule_needs(preparation, sufficient):
    assert preparation.sufficient_size == sufficient


def test_preparation_can_be_pickled():
    preparation = models.Preparation((4, 4), "letterbox")
    copy = pickle.loads(pickle.dumps(preparation))
    assert np.array_equal(copy(noise(9, 5)), preparation(noise(9, 5)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_pixels_are_scaled_and_normalised_by_channel(layout, colours):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = models.Tensor(layout=layout, colours=colours, mean=mean, std=std)
    pixels = np.asarray(noise(6, 5))
    made = np.zeros(tensor.shape(1, (6, 5)), np.float32)
    tensor.fill(made[0], pixels)
    ordered = pixels if colours == "RGB" else pixels[..., ::-1]
    expected = (ordered / 255 - mean) / std
    axes = (2, 0, 1) if layout == "NCHW" else (0, 1, 2)
    np.testing.assert_allclose(made[0], expected.transpose(axes), atol=1e-5)
