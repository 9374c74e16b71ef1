"""Pictures that are odd at most: a function returns a file's bytes, or an image of Pillow's."""

import io

import numpy as np
from PIL import Image

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 60), (40, 60, 200), (230, 210, 60)


def picture(width=64, height=48):
    """A picture whose quarters are red, green, blue and yellow, in reading order: RGB."""
    quarters = Image.new("RGB", (2, 2))
    quarters.putdata([RED, GREEN, BLUE, YELLOW])
    return quarters.resize((width, height), Image.Resampling.NEAREST)


def encoded(image, kind, **options):
    """The image in a format of Pillow's."""
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def noise(width=300, height=200):
    """A picture that compresses badly: RGB."""
    return Image.effect_noise((width, height), 60).convert("RGB")


def orientation_exif(orientation):
    """An EXIF block that states an orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def jpeg(image=None, **options):
    """A JPEG of the picture in four colours, or of another."""
    return encoded(image or picture(), "JPEG", **{"quality": 90, **options})


def jpeg_upright_by_exif(orientation, width=64, height=48):
    """A JPEG of the picture in four colours, stored so that an orientation makes it upright."""
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = picture(width, height)
    if orientation in stored:
        image = image.transpose(stored[orientation])
    return jpeg(image, exif=orientation_exif(orientation))


def animation(frames=11, bad=5, width=60, height=40):
    """Grey frames, the one at `bad` red: RGB."""
    images = [Image.new("RGB", (width, height), (shade * 10,) * 3) for shade in range(frames)]
    if bad is not None:
        images[bad] = Image.new("RGB", (width, height), RED)
    return images


def animated(kind, images=None, **options):
    """An animation in a format of Pillow's."""
    first, *rest = images or animation()
    return encoded(first, kind, save_all=True, append_images=rest, duration=100, **options)


def strip(width=600, height=20_000, kind="JPEG"):
    """A long picture, red, green, blue and yellow from the top down or from left to right."""
    quarters = Image.new("RGB", (1, 4) if height > width else (4, 1))
    quarters.putdata([RED, GREEN, BLUE, YELLOW])
    return encoded(quarters.resize((width, height), Image.Resampling.NEAREST), kind)


def drawn_in_alpha(colour):
    """A PNG of one colour that is transparent but for a bar in the middle."""
    alpha = Image.new("L", (60, 60), 0)
    alpha.paste(255, (20, 0, 40, 60))
    image = Image.new("RGB", alpha.size, colour)
    image.putalpha(alpha)
    return encoded(image, "PNG")


def grey_of_16_bits(kind="PNG"):
    """A ramp of 16-bit grey, of 256 steps."""
    ramp = np.arange(256, dtype=np.uint16) * 256 + 7
    return encoded(Image.fromarray(np.tile(ramp, (4, 1))), kind)
