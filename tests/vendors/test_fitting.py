"""What a vendor would not take is sent whole in another form, or not at all."""

import io

import pytest
from PIL import Image

from beam_moderation import errors
from beam_moderation.vendors import fitting, protocol

RED, BLUE = (220, 30, 30), (30, 30, 220)


def limits(max_bytes=10_000_000, formats=("JPEG", "PNG", "GIF"), **more):
    return protocol.Limits(max_items=1, max_bytes=max_bytes, formats=frozenset(formats), **more)


def encoded(image, kind, **options):
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def several(kind):
    """Two frames or pages, the second one unlike the first."""
    first, second = (Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE))
    return encoded(first, kind, save_all=True, append_images=[second])


def red_then_blue(width, height):
    """Red, but for the last tenth of the longer side."""
    picture = Image.new("RGB", (width, height), RED)
    end = (width, height * 9 // 10) if height > width else (width * 9 // 10, height)
    start = (0, end[1]) if height > width else (end[0], 0)
    picture.paste(BLUE, (*start, width, height))
    return picture


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def fits(data, limits):
    image = opened(data)
    small = len(data) <= min(limits.max_bytes, limits.max_inline_bytes or limits.max_bytes)
    pixels = limits.max_pixels or float("inf")
    side = limits.max_side or float("inf")
    return small and max(image.size) <= side and image.width * image.height <= pixels


def test_what_fits_is_sent_as_it_is():
    data = several("GIF")
    fitted = fitting.fit(data, limits(), allowed=True)
    assert (fitted.data, fitted.note, fitted.image.frame_count) == (data, {}, 2)


@pytest.mark.parametrize("size", [(400, 3000), (3000, 400)])
def test_a_long_picture_is_sent_whole_and_not_its_first_tile(size):
    data = encoded(red_then_blue(*size), "TIFF")
    fitted = fitting.fit(data, limits(), allowed=True)
    image = opened(fitted.data)
    assert (image.format, image.size) == ("JPEG", size)
    assert image.getpixel((10, 10)) == pytest.approx(RED, abs=15)
    assert image.getpixel((size[0] - 10, size[1] - 10)) == pytest.approx(BLUE, abs=15)


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_bytes": 200_000},
        {"max_inline_bytes": 200_000},
        {"max_side": 900},
        {"max_pixels": 500_000},
    ],
    ids=str,
)
def test_what_is_above_a_limit_shrinks_until_it_is_not(bounds):
    noise = Image.effect_noise((1200, 1000), 60).convert("RGB")
    chosen = limits(**bounds)
    fitted = fitting.fit(encoded(noise, "PNG"), chosen, allowed=True)
    assert fits(fitted.data, chosen)
    assert list(opened(fitted.data).size) == fitted.note["fitted"]["size"]
    assert "above" in fitted.note["fitted"]["why"]


def test_a_picture_is_sent_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(red_then_blue(300, 200), "WEBP", exif=exif)
    image = opened(fitting.fit(data, limits(), allowed=True).data)
    assert image.size == (200, 300)
    assert image.getpixel((100, 290)) == pytest.approx(BLUE, abs=30)


def test_what_is_not_opaque_is_sent_on_white_and_the_note_says_so():
    data = encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "WEBP", lossless=True)
    fitted = fitting.fit(data, limits(), allowed=True)
    assert opened(fitted.data).getpixel((32, 32)) == (255, 255, 255)
    assert fitted.note["fitted"]["backdrop"] == "white"


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "AVIF"])
def test_several_frames_that_do_not_fit_are_refused_and_not_cut_to_one(kind):
    with pytest.raises(errors.VendorRefusedInput, match=f"format {kind}; .*: 2 frames"):
        fitting.fit(several(kind), limits(), allowed=True)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_several_frames_that_are_too_large_are_refused(kind):
    with pytest.raises(errors.VendorRefusedInput, match=r"pixels, above 30 a side; .*: 2 frames"):
        fitting.fit(several(kind), limits(max_side=30), allowed=True)


def test_a_picture_that_would_shrink_until_nothing_is_seen_is_refused():
    data = encoded(red_then_blue(300, 6000), "PNG")
    with pytest.raises(errors.VendorRefusedInput, match="small enough"):
        fitting.fit(data, limits(max_side=1000), allowed=True)


def test_without_leave_nothing_is_changed():
    with pytest.raises(errors.VendorRefusedInput, match=r"^format TIFF$"):
        fitting.fit(encoded(red_then_blue(30, 30), "TIFF"), limits(), allowed=False)


def test_what_is_no_image_is_an_error_of_the_image():
    with pytest.raises(errors.ImageError):
        fitting.fit(b"<html>", limits(), allowed=True)
