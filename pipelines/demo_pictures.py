"""The pictures that the demo's sample is made of, drawn or taken from scikit-image's wheel."""

import functools
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import skimage
import zxingcpp
from PIL import Image, ImageDraw, ImageFont, ImageOps

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "hubble_deep_field.jpg",
    "camera.png",
    "coins.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "ihc.png",
    "clock_motion.png",
    "cell.png",
)
"""The files of `skimage.data` that are in the wheel and are photographs."""


@functools.cache
def photograph(name: str, width: int = 600, height: int = 400) -> Image.Image:
    """A photograph, cropped and resized to `width` x `height` pixels, RGB. Not to be changed."""
    with Image.open(pathlib.Path(skimage.__file__).parent / "data" / name) as image:
        return ImageOps.fit(image.convert("RGB"), (width, height))


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def jpeg(image: Image.Image, quality: int = 85, **options: Any) -> bytes:
    """The image as a JPEG file."""
    return encoded(image, "JPEG", quality=quality, **options)


def barcode(text: str, symbology: Any, module_px: int) -> Image.Image:
    """A bar code with its quiet zone, black on white, mode L."""
    code = zxingcpp.create_barcode(text, symbology)
    return Image.fromarray(np.asarray(zxingcpp.write_barcode_to_image(code, scale=module_px)))


def qr_code(
    module_px: int = 4,
    dark: str = "#000000",
    light: str = "#ffffff",
    text: str = "https://win.example/join?from=photo",
) -> Image.Image:
    """A QR code in two colours, RGBA."""
    code = barcode(text, zxingcpp.BarcodeFormat.QRCode, module_px)
    return ImageOps.colorize(code, dark, light).convert("RGBA")


def pasted(
    background: Image.Image, patch: Image.Image, at: tuple[int, int] = (40, 40)
) -> Image.Image:
    """The background with the patch on it, where the patch is opaque."""
    image = background.copy()
    image.paste(patch, at, patch)
    return image


def skewed(patch: Image.Image) -> Image.Image:
    """The patch as if photographed from the side."""
    width, height = patch.size
    corners = (-width // 8, -height // 5, 0, height, width, height * 4 // 5, width * 9 // 8, 0)
    return patch.transform(
        patch.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC, fillcolor=(0,) * 4
    )


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    """The image with a sensor's noise, the same each time."""
    pixels = np.asarray(image)
    noise = np.random.default_rng(0).normal(0, deviation, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def advertisement(
    lines: Sequence[str],
    photo: str = "coffee.png",
    ink: str = "#c00020",
    paper: str | None = "#fff4d0",
) -> Image.Image:
    """Lines of text over a photograph of 600 x 400 pixels, on a strip of `paper` if there is one.

    Drawn with the font that Pillow has built in, so that no font file is needed.
    """
    image = photograph(photo).copy()
    draw = ImageDraw.Draw(image)
    top = 380 - 50 * len(lines)
    if paper:
        draw.rectangle((0, top - 15, 600, 400), fill=paper)
    for row, line in enumerate(lines):
        draw.text((24, top + 50 * row), line, ink, ImageFont.load_default(34))
    return image


def animation(bad: int | None, total: int) -> list[Image.Image]:
    """A photograph that drifts over `total` frames of 240 x 240 pixels, QR code in frame `bad`."""
    photo = photograph("chelsea.png", 400, 240)
    frames = [photo.crop((4 * i, 0, 4 * i + 240, 240)) for i in range(total)]
    if bad is not None:
        frames[bad] = pasted(frames[bad], qr_code(4), (60, 60))
    return frames


def strip(bad: int | None, tiles: int, tile_px: int = 420) -> Image.Image:
    """Photographs one below the other, square tiles of `tile_px`, with a QR code in tile `bad`."""
    image = Image.new("RGB", (tile_px, tile_px * tiles))
    for index, name in enumerate(PHOTOGRAPHS[:tiles]):
        image.paste(photograph(name, tile_px, tile_px), (0, tile_px * index))
    if bad is not None:
        image = pasted(image, qr_code(4), (120, tile_px * bad + 120))
    return image


def animated(frames: Sequence[Image.Image], file_format: str) -> bytes:
    """The frames as an animation of 80 ms each."""
    first, *rest = frames
    return encoded(first, file_format, save_all=True, append_images=rest, duration=80)


def gif(frames: Sequence[Image.Image]) -> bytes:
    """The frames as a GIF of 128 colours."""
    octree = Image.Quantize.FASTOCTREE
    return animated([frame.quantize(128, octree) for frame in frames], "GIF")


def exif_rotated(image: Image.Image, orientation: int, stored: Image.Transpose) -> bytes:
    """A JPEG stored turned, with the EXIF orientation that turns it back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(image.transpose(stored), exif=exif)


def sixteen_bit(image: Image.Image) -> bytes:
    """The image as a greyscale PNG of 16 bits a sample."""
    samples = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(samples), "PNG")


def cut_out(image: Image.Image) -> Image.Image:
    """The image with the corners transparent, RGBA."""
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((0, 0, *image.size), fill=255)
    cut = image.convert("RGBA")
    cut.putalpha(mask)
    return cut


def bomb(side_px: int = 12_000) -> bytes:
    """A PNG of about 18 kB that is 144 megapixels large."""
    return encoded(Image.new("1", (side_px, side_px)), "PNG")
