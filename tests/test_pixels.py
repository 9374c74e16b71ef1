"""Pixels of any kind become the upright RGB that a person would see."""

import bombs
import numpy as np
import pictures
import pytest
from PIL import Image

from beam_moderation import images, pixels

LIMITS, SAMPLING = images.ImageLimits(), images.Sampling()


def frames(data, **sampling):
    return [frame.image for frame in images.frames(data, LIMITS, images.Sampling(**sampling))]


def only(data):
    (image,) = frames(data)
    assert image.mode == "RGB"
    return image


def quarters(image):
    """The colours in the middle of a picture's quarters, in reading order."""
    across, down = image.width // 4, image.height // 4
    return [image.getpixel((x * across, y * down)) for y in (1, 3) for x in (1, 3)]


def assert_upright(image, tolerance=12):
    expected = [pictures.RED, pictures.GREEN, pictures.BLUE, pictures.YELLOW]
    np.testing.assert_allclose(quarters(image), expected, atol=tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    data = pictures.jpeg_upright_by_exif(orientation)
    image = only(data)
    assert image.size == (64, 48)
    assert_upright(image)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_orientation_of_every_format_is_applied(kind):
    stored = pictures.picture().transpose(Image.Transpose.ROTATE_90)
    image = only(pictures.encoded(stored, kind, exif=pictures.orientation_exif(6)))
    assert image.size == (64, 48)
    assert_upright(image, tolerance=60)


@pytest.mark.parametrize("orientation", [0, 9, 99, 65_535])
def test_unknown_orientation_is_ignored(orientation):
    data = pictures.jpeg(exif=pictures.orientation_exif(orientation))
    assert_upright(only(data))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II+\0" + b"\xff" * 20,
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0nonsense" * 40,
    ],
)
def test_broken_exif_does_not_fail_the_image(exif):
    assert_upright(only(bombs.jpeg_with(bombs.jpeg_segment(0xE1, exif))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_every_format_is_decoded(kind):
    assert_upright(only(pictures.encoded(pictures.picture(), kind)), tolerance=60)


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "LAB"])
def test_tiff_in_any_colour_space_becomes_rgb(mode):
    assert_upright(only(pictures.encoded(pictures.picture().convert(mode), "TIFF")), tolerance=45)


def test_jpeg_within_a_tiff_becomes_rgb():
    assert_upright(
        only(pictures.encoded(pictures.picture(), "TIFF", compression="jpeg")), tolerance=45
    )


def test_inverted_cmyk_of_adobe_is_put_right():
    data = pictures.jpeg(pictures.picture().convert("CMYK"))
    assert b"Adobe" in data
    assert_upright(only(data))


def test_draft_of_inverted_cmyk_is_put_right():
    data = pictures.jpeg(pictures.picture(640, 480).convert("CMYK"))
    (frame,) = images.frames(data, LIMITS, SAMPLING, sufficient_size=(80, 60))
    assert frame.image.size == (80, 60)
    assert_upright(frame.image)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_becomes_equal_red_green_and_blue(mode):
    grey = Image.linear_gradient("L").convert(mode)
    image = only(pictures.encoded(grey, "PNG"))
    assert image.tobytes() == grey.convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_bits(kind):
    image = only(pictures.grey_of_16_bits(kind))
    assert [image.getpixel((step, 1))[0] for step in range(256)] == list(range(256))


def test_transparent_sample_of_16_bit_grey_is_transparent():
    grey = pictures.grey_of_16_bits()
    key = bombs.png_chunk(b"tRNS", (128 * 256 + 7).to_bytes(2, "big"))
    on_white, on_black = frames(grey[:33] + key + grey[33:])
    assert on_white.getpixel((128, 1)) == (255, 255, 255)
    assert on_black.getpixel((128, 1)) == (0, 0, 0)
    assert on_white.getpixel((127, 1)) == on_black.getpixel((127, 1)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_range_are_stretched(mode):
    ramp = Image.linear_gradient("L").convert(mode).point(lambda value: value * 5 + 100_000)
    image = only(pictures.encoded(ramp, "TIFF"))
    assert image.getpixel((0, 0)) == (0, 0, 0)
    assert image.getpixel((0, 128))[0] == pytest.approx(128, abs=1)
    assert image.getpixel((0, 255))[0] == pytest.approx(255, abs=1)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_do_not_blank_the_rest(odd):
    samples = np.array([[odd, 0.0, 0.5, 1.0]], np.float32)
    (image,) = pixels.upright_rgb(Image.fromarray(samples), 1, ("white",))
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 0, 127, 255]


@pytest.mark.parametrize("samples", [[[7.0, 7.0]], [[np.nan, np.nan]]])
def test_samples_that_are_all_the_same_are_black(samples):
    image = Image.fromarray(np.array(samples, np.float32))
    (image,) = pixels.upright_rgb(image, 1, ("white",))
    assert image.getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize(("colour", "seen_on"), [("white", "black"), ("black", "white")])
def test_picture_drawn_in_alpha_alone_is_seen(colour, seen_on):
    shown = frames(pictures.drawn_in_alpha(colour))
    assert len(shown) == 2
    seen = shown[("white", "black").index(seen_on)]
    assert seen.getpixel((30, 30)) != seen.getpixel((5, 5))


def test_colour_of_what_is_wholly_transparent_is_not_seen():
    image = Image.new("RGBA", (8, 8), (*pictures.RED, 0))
    on_white, on_black = frames(pictures.encoded(image, "PNG"))
    assert on_white.getextrema() == ((255, 255),) * 3
    assert on_black.getextrema() == ((0, 0),) * 3


def test_half_transparent_colour_is_blended():
    image = Image.new("RGBA", (8, 8), (200, 100, 0, 128))
    (on_green,) = frames(pictures.encoded(image, "PNG"), backdrops=("#00ff00",))
    np.testing.assert_allclose(on_green.getpixel((3, 3)), (100, 177, 0), atol=1)


@pytest.mark.parametrize("modes", [("RGB", "RGBA"), ("L", "LA"), ("P", "PA")])
def test_opaque_picture_with_an_alpha_channel_comes_once(modes):
    image = Image.new("RGB", (8, 8), (102, 102, 102)).convert(modes[0]).convert(modes[1])
    assert only(pictures.encoded(image, "TIFF")).getpixel((3, 3)) == (102, 102, 102)


@pytest.mark.parametrize("transparency", [0, b"\0\x80"])
def test_transparent_palette_is_flattened(transparency):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*pictures.RED, *pictures.BLUE])
    on_white, on_black = frames(pictures.encoded(image, "PNG", transparency=transparency))
    assert on_white.getpixel((3, 3)) == (255, 255, 255)
    assert on_black.getpixel((3, 3)) == (0, 0, 0)


def test_flattened_picture_is_upright_too():
    stored = pictures.picture().transpose(Image.Transpose.ROTATE_180)
    stored.putalpha(254)
    data = pictures.encoded(stored, "PNG", exif=pictures.orientation_exif(3))
    for image in frames(data):
        assert_upright(image)
