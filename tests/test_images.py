"""Which pictures of an image are judged, and within which limits."""

import itertools
from concurrent import futures

import bombs
import numpy as np
import pictures
import pytest
from PIL import GifImagePlugin, Image, TiffImagePlugin

from beam_moderation import errors, images

LIMITS, SAMPLING = images.ImageLimits(), images.Sampling()


def frames(data, sampling=SAMPLING, sufficient_size=None, limits=LIMITS):
    return list(images.frames(data, limits, sampling, sufficient_size))


def only(data, **options):
    (frame,) = frames(data, **options)
    return frame.image


def middle(image):
    return image.getpixel((image.width // 2, image.height // 2))


@pytest.mark.parametrize(
    "options",
    [
        {"max_pixels": 0},
        {"max_pixels": -1},
        {"max_pixels": 1.5},
        {"max_pixels": True},
        {"max_side": 0},
        {"max_side": "4"},
        {"max_total_pixels": 10},
        {"max_pixels": 10**9, "max_total_pixels": 10**9},
        {"formats": ()},
        {"formats": ("JPEG", "PSD")},
        {"formats": "JPEG"},
    ],
)
def test_limits_that_make_no_sense_are_the_operators_mistake(options):
    with pytest.raises(errors.ConfigurationError, match=r"\A.+\Z"):
        images.ImageLimits(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 0},
        {"interval": 0.5},
        {"max_frames": 0},
        {"max_frames": None},
        {"backdrops": ()},
        {"backdrops": "white"},
        {"backdrops": ("no colour",)},
        {"backdrops": (7,)},
    ],
)
def test_sampling_that_makes_no_sense_is_the_operators_mistake(options):
    with pytest.raises(errors.ConfigurationError, match=r"\A.+\Z"):
        images.Sampling(**options)


@pytest.mark.parametrize(
    ("total", "interval", "max_frames", "indices"),
    [
        (1, 1, 10, [0]),
        (1, 5, 1, [0]),
        (10, 1, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (11, 5, 5, [0, 5, 10]),
        (25, 5, 5, [0, 5, 10, 15, 20]),
        (26, 5, 5, [0, 5, 10, 15, 20]),
        (30, 5, 5, [0, 6, 12, 18, 24]),
        (19, 1, 10, [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]),
        (1000, 1, 4, [0, 250, 500, 750]),
        (7, 3, 1, [0]),
    ],
)
def test_sample_follows_interval_and_max_frames(total, interval, max_frames, indices):
    assert list(images.sampled_indices(total, images.Sampling(interval, max_frames))) == indices


def test_sample_is_ascending_within_bounds_and_never_too_large():
    for total, interval, most in itertools.product(range(1, 60), range(1, 9), range(1, 15)):
        indices = list(images.sampled_indices(total, images.Sampling(interval, most)))
        assert indices == sorted(set(indices))
        assert indices[0] == 0
        assert indices[-1] < total
        assert len(indices) == min(most, -(-total // interval))


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [
        (100, 400, 1),
        (100, 401, 4),
        (401, 100, 4),
        (400, 1000, 1),
        (400, 1001, 2),
        (1001, 400, 2),
        (600, 20_000, 33),
        (1, 60_000, 60_000),
        (5000, 5000, 1),
    ],
)
def test_pictures_over_400_pixels_and_a_ratio_of_2_5_are_cut(width, height, tiles):
    assert images.tile_count(width, height) == tiles


@pytest.mark.parametrize(("width", "height"), [(600, 20_001), (20_001, 600), (1, 501), (333, 1000)])
def test_tiles_cover_a_picture_without_overlap(width, height):
    count = images.tile_count(width, height)
    boxes = [images.tile_box(width, height, count, index) for index in range(count)]
    axis = 1 if height > width else 0
    assert boxes[0][:2] == (0, 0)
    assert boxes[-1][2:] == (width, height)
    assert all(one[axis + 2] == other[axis] for one, other in itertools.pairwise(boxes))
    lengths = {box[axis + 2] - box[axis] for box in boxes}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_bad_frame_in_the_middle_is_found(kind):
    found = frames(pictures.animated(kind), images.Sampling(max_frames=100))
    assert [frame.index for frame in found] == list(range(11))
    red = [frame.index for frame in found if middle(frame.image)[0] > middle(frame.image)[1] + 90]
    assert red == [5]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_sampled_frames_are_those_of_a_whole_decoding(kind):
    data = pictures.animated(kind)
    every = {frame.index: frame for frame in frames(data, images.Sampling(max_frames=100))}
    sample = frames(data, images.Sampling(interval=3))
    assert [frame.index for frame in sample] == [0, 3, 6, 9]
    for frame in sample:
        assert frame.image.tobytes() == every[frame.index].image.tobytes()


def test_first_picture_of_several_in_a_jpeg_is_the_image():
    image = images.open_image(bombs.jpeg_of_two_pictures(), LIMITS)
    assert (image.format, image.frames_total) == ("JPEG", 1)
    (frame,) = image.frames(SAMPLING)
    np.testing.assert_allclose(frame.image.getpixel((5, 5)), pictures.RED, atol=12)


@pytest.mark.parametrize("size", [(600, 20_000), (20_000, 600)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_long_picture_comes_in_tiles_in_reading_order(size, kind):
    image = images.open_image(pictures.strip(*size, kind), LIMITS)
    assert image.frames_total == 33
    found = list(image.frames(SAMPLING))
    assert [frame.index for frame in found] == [0, 3, 6, 9, 13, 16, 19, 23, 26, 29]
    assert {min(frame.image.size) for frame in found} == {600}
    colours = [frame.image.getpixel((300, 10)) for frame in found]
    expected = (
        [pictures.RED] * 3 + [pictures.GREEN] * 3 + [pictures.BLUE] * 2 + [pictures.YELLOW] * 2
    )
    np.testing.assert_allclose(colours, expected, atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(120, 960), (960, 120)])
def test_tiles_of_a_turned_picture_are_those_of_the_upright_one(orientation, width, height):
    turned = pictures.jpeg_upright_by_exif(orientation, width, height)
    expected = frames(pictures.jpeg_upright_by_exif(1, width, height))
    assert len(expected) == 8
    for sufficient_size in (None, (100, 100), (60, 60)):
        found = frames(turned, sufficient_size=sufficient_size)
        for one, other in zip(found, expected, strict=True):
            middles = [
                np.asarray(image.resize((4, 4), Image.Resampling.BOX), float)
                for image in (one.image, other.image)
            ]
            np.testing.assert_allclose(*middles, atol=15)


def test_every_tile_of_a_long_animation_is_met_when_the_sample_is_spread():
    data = pictures.animated("GIF", pictures.animation(20, bad=None, width=30, height=450))
    image = images.open_image(data, LIMITS)
    assert image.frames_total == 20 * 15
    found = [frame.index for frame in image.frames(images.Sampling(max_frames=20))]
    assert [index // 15 for index in found] == list(range(20))
    assert {index % 15 for index in found} == set(range(15))


def test_frames_of_a_long_animation_never_go_back():
    for count, tiles, interval, most in itertools.product((1, 3, 10), (1, 2, 5), (1, 2, 5), (1, 9)):
        sampling = images.Sampling(interval, most)
        plan = images._plan(count, tiles, sampling)
        chosen = [frame * tiles + tile for frame, found in plan.items() for tile in found]
        assert list(plan) == sorted(plan)
        assert len(set(chosen)) == len(images.sampled_indices(count * tiles, sampling))


def test_whole_long_animation_comes_without_gaps():
    plan = images._plan(4, 3, images.Sampling(max_frames=12))
    assert list(plan) == [0, 1, 2, 3]
    assert all(set(tiles) == {0, 1, 2} for tiles in plan.values())


def test_frames_may_be_kept():
    shades = [
        middle(frame.image)[0]
        for frame in frames(pictures.animated("GIF", pictures.animation(9, None)))
    ]
    assert shades == [shade * 10 for shade in range(9)]


@pytest.mark.parametrize(
    ("kind", "image_file"),
    [("GIF", GifImagePlugin.GifImageFile), ("TIFF", TiffImagePlugin.TiffImageFile)],
)
def test_frames_are_never_counted_by_going_through_them(kind, image_file, monkeypatch):
    def refuse(image):
        raise AssertionError("n_frames goes through the whole file")

    monkeypatch.setattr(image_file, "n_frames", property(refuse))
    assert len(frames(pictures.animated(kind), images.Sampling(interval=5))) == 3


def test_threads_that_decode_at_once_do_not_disturb_each_other():
    files = [pictures.encoded(pictures.noise(), kind) for kind in images.FORMATS]
    files += [pictures.animated(kind) for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF")]
    files += [pictures.strip(100, 1000), pictures.jpeg_upright_by_exif(6, 400, 300)]

    def seen(data):
        return [(frame.index, frame.image.tobytes()) for frame in frames(data)]

    alone = [seen(data) for data in files]
    with futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(seen, files * 4)) == alone * 4


def test_frames_may_be_taken_twice():
    image = images.open_image(pictures.animated("WEBP"), LIMITS)
    one, other = (list(image.frames(images.Sampling(interval=4))) for _ in range(2))
    assert [frame.index for frame in one] == [frame.index for frame in other] == [0, 4, 8]
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in zip(one, other, strict=True))


def test_size_is_given_as_it_is_stored():
    image = images.open_image(pictures.jpeg_upright_by_exif(6, 64, 48), LIMITS)
    assert (image.width, image.height) == (48, 64)
    (frame,) = image.frames(SAMPLING)
    assert frame.image.size == (64, 48)


@pytest.mark.parametrize(
    ("stored", "sufficient", "decoded"),
    [
        ((1600, 1200), None, (1600, 1200)),
        ((1600, 1200), (200, 150), (200, 150)),
        ((1600, 1200), (201, 150), (400, 300)),
        ((1601, 1201), (100, 100), (201, 151)),
        ((1600, 1200), (900, 100), (1600, 1200)),
        ((100, 80), (200, 200), (100, 80)),
    ],
)
def test_jpeg_is_decoded_no_larger_than_is_sufficient(stored, sufficient, decoded):
    data = pictures.jpeg(pictures.picture(*stored))
    assert only(data, sufficient_size=sufficient).size == decoded


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sufficient_size_is_that_of_the_upright_picture(orientation):
    data = pictures.jpeg_upright_by_exif(orientation, 1600, 800)
    assert only(data, sufficient_size=(390, 100)).size == (400, 200)
    assert only(data, sufficient_size=(100, 190)).size == (400, 200)


@pytest.mark.parametrize("size", [(600, 4807), (4807, 600)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_sufficient_size_holds_for_every_tile(size, orientation):
    data = pictures.jpeg_upright_by_exif(orientation, *size)
    found = frames(data, images.Sampling(max_frames=99), (140, 149))
    assert len(found) == 8
    assert all(frame.image.width >= 140 and frame.image.height >= 149 for frame in found)
    assert all(frame.image.width < 600 for frame in found)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_sufficient_size_leaves_other_formats_as_they_are(kind):
    data = pictures.encoded(pictures.picture(), kind)
    assert only(data, sufficient_size=(8, 8)).size == (64, 48)


def test_format_that_is_not_allowed_is_unsupported():
    with pytest.raises(errors.FormatUnsupported, match="GIF"):
        images.open_image(pictures.animated("GIF"), images.ImageLimits(formats=("JPEG",)))


def test_name_of_a_format_is_what_the_bytes_say():
    for kind in images.FORMATS:
        assert images.open_image(pictures.encoded(pictures.picture(), kind), LIMITS).format == kind


@pytest.mark.parametrize("size", [(101, 99), (1, 201), (201, 1)])
@pytest.mark.parametrize("kind", images.FORMATS)
def test_picture_above_a_limit_is_refused_before_it_is_decoded(kind, size):
    limits = images.ImageLimits(max_pixels=100 * 99, max_side=200)
    with pytest.raises(errors.ImageTooManyPixels):
        images.open_image(pictures.encoded(pictures.picture(*size), kind), limits)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_frames_that_lie_between_the_sampled_ones_count_as_decoded(kind):
    # Eleven frames of 60 x 40, of which the first and the ninth are judged.
    data, sampling = pictures.animated(kind), images.Sampling(interval=8)
    assert len(frames(data, sampling, limits=images.ImageLimits(2400, 60, 2400 * 11))) == 2
    with pytest.raises(errors.ImageTooManyPixels, match="work for 26400"):
        frames(data, sampling, limits=images.ImageLimits(2400, 60, 2400 * 11 - 1))


def test_pages_of_a_tiff_that_are_left_out_are_not_decoded():
    data = pictures.animated("TIFF")
    assert (
        len(frames(data, images.Sampling(interval=8), limits=images.ImageLimits(2400, 60, 9600)))
        == 2
    )


def test_each_page_of_a_tiff_has_to_keep_the_limits():
    pages = [pictures.picture(10, 10), pictures.picture(100, 100)]
    with pytest.raises(errors.ImageTooManyPixels):
        frames(pictures.animated("TIFF", pages), limits=images.ImageLimits(5000, 200, 10**6))
