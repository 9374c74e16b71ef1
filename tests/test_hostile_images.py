"""What becomes of bytes that were made to harm, or that came to harm: one error, or the picture."""

import contextlib

import bombs
import numpy as np
import pictures
import pytest
from PIL import Image

from beam_moderation import errors, images

LIMITS, SAMPLING = images.ImageLimits(), images.Sampling()


def frames(data):
    return list(images.frames(data, LIMITS, SAMPLING))


def only(data):
    (frame,) = frames(data)
    return frame.image


BAD = {
    "empty": (lambda: b"", errors.ImageEmpty),
    "html": (bombs.html, errors.FormatUnsupported),
    "heic": (bombs.heic, errors.FormatUnsupported),
    "jpeg truncated": (bombs.jpeg_truncated, errors.ImageBroken),
    "jpeg without end": (lambda: pictures.jpeg()[:-2], errors.ImageBroken),
    "jpeg of scans": (bombs.jpeg_of_scans, errors.ImageTooManyPixels),
    "jpeg claiming": (bombs.jpeg_claiming, errors.ImageTooManyPixels),
    "jpeg claiming less": (lambda: bombs.jpeg_claiming(7000, 7000), errors.ImageBroken),
    "jpeg of component scans": (bombs.jpeg_of_component_scans, errors.ImageTooManyPixels),
    "jpeg arithmetic": (bombs.jpeg_arithmetic, errors.FormatUnsupported),
    "png one pixel wide": (bombs.png_one_pixel_wide, errors.ImageTooManyPixels),
    "png of one bit": (bombs.png_one_bit, errors.ImageTooManyPixels),
    "png claiming": (bombs.png_claiming, errors.ImageBroken),
    "png damaged": (bombs.png_damaged, errors.ImageBroken),
    "png without end": (bombs.png_without_end, errors.ImageBroken),
    "apng of frames": (bombs.apng_of_frames, errors.ImageTooManyPixels),
    "gif of frames": (bombs.gif_of_frames, errors.ImageTooManyPixels),
    "gif growing": (bombs.gif_growing, errors.ImageTooManyPixels),
    "gif on a smaller canvas": (
        lambda: bombs.gif_of_frames(2000, 1000, 1000),
        errors.ImageTooManyPixels,
    ),
    "webp huge": (bombs.webp_solid, errors.ImageTooManyPixels),
    "webp of frames": (bombs.webp_of_frames, errors.ImageTooManyPixels),
    "tiff of directories": (bombs.tiff_of_directories, errors.ImageBroken),
    "tiff claiming much": (bombs.tiff_claiming_much, errors.ImageBroken),
    "tiff of scans": (bombs.tiff_of_scans, errors.ImageTooManyPixels),
    "tiff of large pages": (bombs.tiff_of_large_pages, errors.ImageTooManyPixels),
    "bmp of runs": (bombs.bmp_run_length, errors.ImageTooManyPixels),
    "avif claiming much": (bombs.avif_exif_claiming_much, errors.ImageBroken),
}


@pytest.mark.parametrize(("bomb", "error"), BAD.values(), ids=BAD)
def test_bad_bytes_end_in_one_error_that_names_its_cause(bomb, error):
    with pytest.raises(errors.ImageError) as raised:
        frames(bomb())
    assert type(raised.value) is error
    said = str(raised.value)
    assert said
    assert said.isprintable()
    assert "0x" not in said
    assert len(said) < 300


FINE = {
    "jpeg corrupted": bombs.jpeg_corrupted,
    "jpeg exif claiming much": bombs.jpeg_exif_claiming_much,
    "jpeg and bytes behind it": lambda: pictures.jpeg() + b"\0" * 1000,
    "png text": bombs.png_text_bomb,
    "png profile": bombs.png_profile_bomb,
    "png settings": bombs.png_text_of_settings,
    "gif comment": bombs.gif_with_comment,
    "webp": lambda: bombs.webp_solid(3000, 2000),
    "png blank": lambda: bombs.png(2000, 3000, bombs.png_pixels(2000, 3000)),
    "long": pictures.strip,
}


@pytest.mark.parametrize("make", FINE.values(), ids=FINE)
def test_what_is_odd_but_can_be_shown_is_judged(make):
    assert frames(make())


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", images.FORMATS)
def test_image_cut_short_anywhere_is_never_judged_as_if_it_were_whole(kind):
    data = pictures.encoded(pictures.noise(40, 30), kind)
    whole = only(data).tobytes()
    for end in range(0, len(data), 97):
        try:
            assert only(data[:end]).tobytes() == whole
        except errors.ImageError:
            continue


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", images.FORMATS)
def test_any_change_to_the_bytes_ends_in_frames_or_one_image_error(kind):
    data = pictures.encoded(pictures.noise(40, 30), kind)
    generator = np.random.default_rng(7)
    for _ in range(60):
        changed = bytearray(data)
        for place in generator.integers(0, min(len(data), 400), 3):
            changed[place] = generator.integers(0, 256)
        with contextlib.suppress(errors.ImageError):
            assert all(frame.image.mode == "RGB" for frame in frames(bytes(changed)))


def test_memory_that_cannot_be_had_costs_the_image_and_not_the_worker():
    with pytest.raises(errors.OutOfMemory, match="MemoryError"), images._decoder_errors():
        bytearray(1 << 62)


@pytest.mark.parametrize(
    "error", [KeyError("a\nb"), RecursionError(), SyntaxError("\x1b[31m"), TypeError("<at 0x7>")]
)
def test_every_exception_of_a_decoder_is_an_image_error(error):
    with pytest.raises(errors.ImageBroken) as raised, images._decoder_errors():
        raise error
    assert str(raised.value).startswith(type(error).__name__)
    assert str(raised.value).isprintable()
    assert "0x7" not in str(raised.value)


@pytest.mark.parametrize("bomb", [Image.DecompressionBombError, Image.DecompressionBombWarning])
def test_bombs_that_pillow_finds_are_too_many_pixels(bomb):
    with pytest.raises(errors.ImageTooManyPixels), images._decoder_errors():
        raise bomb("too large")


def test_what_the_consumer_of_a_frame_raises_is_left_alone():
    iterator = images.frames(pictures.jpeg(), LIMITS, SAMPLING)
    next(iterator)
    with pytest.raises(ZeroDivisionError):
        iterator.throw(ZeroDivisionError())


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_libtiff_writes_nothing_of_a_file(capfd):
    data = pictures.encoded(pictures.noise(64, 48), "TIFF", compression="tiff_lzw")
    for place in range(8, len(data) - 8, 100):
        with contextlib.suppress(errors.ImageError):
            frames(data[:place] + b"\xff" * 8 + data[place + 8 :])
    assert capfd.readouterr().err == ""
