"""Mutations of valid images of every format: each ends in frames or in one `ImageError`.

They go on for as long as `fuzzing` says, each time with other mutations.
"""

import struct

import bombs
import fuzzing
import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_moderation import containers, errors, images

LIMITS = images.ImageLimits(max_pixels=1_000_000, max_total_pixels=3_000_000)

EXAMPLES, TESTS = 400, 2

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def seeds():
    """Valid images that reach as much of the decoders as a few kilobytes can."""
    picture = pictures.picture(40, 24)
    exif = pictures.orientation_exif(6)
    yield pictures.jpeg(picture, exif=exif, progressive=True, comment=b"a comment")
    yield pictures.jpeg(picture.convert("CMYK"), restart_marker_blocks=2)
    yield pictures.jpeg(picture.convert("L"), exif=exif)
    yield bombs.jpeg_of_two_pictures()
    yield pictures.encoded(picture, "PNG", exif=exif, compress_level=0)
    yield pictures.encoded(picture.convert("P"), "PNG", transparency=0, bits=4)
    yield pictures.encoded(picture.convert("RGBA"), "PNG")
    yield pictures.grey_of_16_bits()
    yield pictures.encoded(picture.quantize(7), "GIF", comment=b"a comment", interlace=1)
    yield pictures.encoded(picture, "BMP")
    yield pictures.encoded(picture.convert("1"), "BMP")
    yield bombs.bmp_run_length(30, 20)
    yield pictures.encoded(picture, "WEBP", exif=exif)
    yield bombs.webp_solid(30, 20)
    yield pictures.encoded(picture.convert("RGBA"), "WEBP", lossless=True)
    yield pictures.encoded(picture, "AVIF", exif=exif)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield pictures.encoded(picture, "TIFF", compression=compression, tiffinfo={274: 6})
    yield pictures.encoded(picture.convert("1"), "TIFF", compression="group4")
    yield pictures.encoded(picture, "TIFF", big_tiff=True)
    frames = pictures.animation(4, 2, 20, 12)
    yield from (pictures.animated(kind, frames) for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"))


SEEDS = list(seeds())
MAGIC = sorted({data[:size] for data in SEEDS for size in (3, 12, 20)})
NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**31 - 1, 2**32 - 1]


@st.composite
def flipped(draw, data):
    """One bit is another."""
    changed = bytearray(data)
    changed[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@st.composite
def truncated(draw, data):
    """The end is missing."""
    return data[: draw(st.integers(1, len(data)))]


@st.composite
def spliced(draw, data):
    """A part is replaced with a part of an image, perhaps of another format."""
    other = draw(st.sampled_from([data, *SEEDS]))
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(other))] * 2)))
    return data[:start] + other[first:last] + data[end:] or data


@st.composite
def numbered(draw, data):
    """A field holds a number that lengths and counts overflow at."""
    changed = bytearray(data.ljust(8, b"\0"))
    field = draw(st.sampled_from([">B", ">H", "<H", ">L", "<L"]))
    number = draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(field)
    position = draw(st.integers(0, len(changed) - struct.calcsize(field)))
    struct.pack_into(field, changed, position, number)
    return bytes(changed)


@st.composite
def mutated(draw):
    data = draw(st.sampled_from(SEEDS))
    for mutate in draw(
        st.lists(st.sampled_from([flipped, truncated, spliced, numbered]), max_size=6)
    ):
        data = draw(mutate(data))
    return data


def consumed(data, sampling, sufficient_size):
    """The indices of the frames that came, or what was said instead."""
    try:
        opened = images.open_image(data, LIMITS)
        frames = list(opened.frames(sampling, sufficient_size))
    except errors.ImageError as error:
        return str(error)
    assert {frame.image.mode for frame in frames} == {"RGB"}
    assert {frame.index for frame in frames} <= set(range(opened.frames_total))
    return [frame.index for frame in frames]


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_seed_is_a_valid_image(data):
    assert consumed(data, images.Sampling(), None)[0] == 0


@fuzzing.for_seconds
def test_mutated_images_end_in_frames_or_in_an_image_error():
    sizes = st.sampled_from([None, (1, 1), (9, 31), (300, 300)])
    samplings = st.builds(images.Sampling, st.integers(1, 5), st.integers(1, 12))

    @fuzzing.fuzzing(EXAMPLES)
    @given(mutated(), samplings, sizes)
    def check(data, sampling, sufficient_size):
        ended = consumed(data, sampling, sufficient_size)
        assert not isinstance(ended, str) or ended.isprintable()

    fuzzing.repeated(check, TESTS)


@fuzzing.for_seconds
def test_any_bytes_behind_a_signature_end_in_a_structure_or_in_an_image_error():
    @fuzzing.fuzzing(EXAMPLES)
    @given(st.sampled_from(MAGIC), st.binary(max_size=200))
    def check(magic, rest):
        data = magic + rest
        try:
            structure = containers.read(containers.format_of(data), data)
        except errors.ImageError:
            return
        assert structure.frames >= 1
        assert 1 <= structure.orientation <= 8
        assert len(structure.content) <= len(data)

    fuzzing.repeated(check, TESTS)
