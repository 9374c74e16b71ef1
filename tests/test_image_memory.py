"""Decoding takes no more memory than is documented, whatever the bytes."""

import sys

import bombs
import decoding
import judging_folder
import pictures
import pytest
from PIL import Image
from test_hostile_images import BAD, FINE

from beam_moderation import records

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's to keep")

WIDTH, HEIGHT = 2000, 1500


def see_through(angle=0):
    """A picture of exactly the most pixels, with every degree of transparency: RGBA."""
    image = pictures.picture(WIDTH, HEIGHT).rotate(angle)
    image.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    return image


def hungry_gif():
    """A GIF of full frames, each with a palette and a transparent colour of its own."""
    turned = [pictures.picture(WIDTH, HEIGHT).rotate(angle).quantize(8) for angle in range(3)]
    return pictures.animated("GIF", turned, disposal=3, transparency=0, optimize=False)


def hungriest():
    """Of each format, what takes the most memory a pixel, by name."""
    upright = {"exif": pictures.orientation_exif(6)}
    grey = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    cmyk = pictures.picture(WIDTH, HEIGHT).convert("CMYK")
    two = [see_through(), see_through(5)]
    return {
        "jpeg": pictures.jpeg(cmyk, progressive=True, subsampling=0, **upright),
        "png": pictures.encoded(see_through().convert("LA"), "PNG", compress_level=1, **upright),
        "apng": pictures.animated("PNG", two, disposal=2, blend=1, compress_level=1),
        "gif": hungry_gif(),
        "webp": pictures.encoded(see_through(), "WEBP", method=0, **upright),
        "animated webp": pictures.animated("WEBP", two, method=0),
        "lossless webp": bombs.webp_solid(WIDTH, HEIGHT),
        "tiff": pictures.encoded(grey.convert("F"), "TIFF"),
        "avif": pictures.animated("AVIF", two, speed=10, subsampling="4:4:4"),
    }


def test_no_bomb_takes_more_memory_than_is_documented(tmp_path):
    files = {name: make() for name, (make, _) in BAD.items()}
    files |= {name: make() for name, make in FINE.items()}
    found = swept(tmp_path, files, max_pixels=12_000_000)
    for name in FINE:
        assert isinstance(found[name], int), (name, found[name])
    for name, (_, error) in BAD.items():
        assert found[name].split(":")[0] in (error.code, "image-too-many-pixels"), name


@pytest.mark.parametrize("threads", [1, 3])
def test_a_worker_takes_no_more_than_its_threads_may(tmp_path, threads):
    files = {name: make() for name, (make, _) in BAD.items()}
    files |= {f"{name}{n}": make() for name, make in FINE.items() for n in range(2)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = judging_folder.judge(tmp_path, 12_000_000, threads)
    assert {name for name, end in found.items() if end in records.SUGGESTIONS} == {
        name for name in files if name not in BAD
    }
    for name, (_, error) in BAD.items():
        assert found[name].split(":")[0] in (error.code, "image-too-many-pixels"), name
    assert not [end for end in found.values() if "MemoryError" in end]


def test_no_picture_of_the_largest_size_takes_more_memory_than_is_documented(tmp_path):
    found = swept(tmp_path, hungriest(), max_pixels=WIDTH * HEIGHT)
    assert {name: type(frames) for name, frames in found.items()} == dict.fromkeys(found, int), (
        found
    )


def swept(folder, files, max_pixels):
    """The outcome of each file by its name."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = decoding.sweep([folder / name for name in files], max_pixels)
    return {name: found[str(folder / name)]["outcome"] for name in files}
