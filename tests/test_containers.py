"""A file's structure is read without decoding; what is built to exhaust its reader is refused."""

import io
import struct

import bombs
import pictures
import pytest
from PIL import Image

from beam_moderation import containers, errors, tiff_directories

PILLOW_FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"]


def read(data):
    return containers.read(containers.format_of(data), data)


@pytest.mark.parametrize("kind", PILLOW_FORMATS)
def test_format_is_told_by_the_first_bytes(kind):
    assert containers.format_of(pictures.encoded(pictures.picture(), kind)) == kind


def test_no_bytes_are_an_empty_image():
    with pytest.raises(errors.ImageEmpty):
        containers.format_of(b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(bombs.html(), "markup", id="html"),
        pytest.param(b"\xef\xbb\xbf<svg/>", "markup", id="svg"),
        pytest.param(bombs.heic(), "HEIF", id="heic"),
        pytest.param(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(64), "HEIF", id="heif"),
        pytest.param(b"\0\0\0\x18ftypisom" + bytes(64), "ISO media", id="mp4"),
        pytest.param(b"%PDF-1.7", "PDF", id="pdf"),
        pytest.param(b"8BPS\0\1" + bytes(64), "PSD", id="psd"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known", id="eps"),
        pytest.param(b"BM is a text that begins like a bitmap", "no known", id="text"),
        pytest.param(b"\xff\xd8", "no known", id="too short"),
        pytest.param(b"RIFF\0\0\0\0WAVEfmt ", "no known", id="sound"),
        pytest.param(b"\0" * 100, "no known", id="zeros"),
    ],
)
def test_what_is_no_image_is_unsupported_not_broken(data, said):
    with pytest.raises(errors.FormatUnsupported, match=said):
        containers.format_of(data)


def test_avif_by_a_compatible_brand_is_avif():
    data = b"\0\0\0\x20ftypmif1\0\0\0\0mif1miafavif" + bytes(64)
    assert containers.format_of(data) == "AVIF"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_size_is_known_before_the_decoder_sees_the_file(kind):
    assert read(pictures.encoded(pictures.picture(321, 57), kind)).size == (321, 57)


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"lossless": False}, {"exif": b"Exif\0\0"}]
)
def test_size_of_every_kind_of_webp_is_known(options):
    assert read(pictures.encoded(pictures.picture(321, 57), "WEBP", **options)).size == (321, 57)


def test_size_of_a_large_webp_canvas_is_known():
    assert read(bombs.webp_of_frames(1, 16_000, 70_000)).size == (16_000, 70_000)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames_are_counted_as_the_decoder_counts_them(kind):
    data = pictures.animated(kind)
    with Image.open(io.BytesIO(data)) as image:
        assert read(data).frames == image.n_frames == 11


def test_default_image_of_an_apng_counts_as_a_frame():
    data = pictures.animated("PNG", default_image=True)
    assert read(data).frames == 11


def test_apng_has_no_more_frames_than_it_holds():
    data = pictures.animated("PNG").replace(struct.pack(">I", 11) + bytes(4), b"\x7f" + bytes(7))
    assert read(data).frames == 11


def test_pages_of_a_tiff_that_loops_are_counted_once():
    assert read(bombs.tiff_that_loops()).frames == 2


@pytest.mark.parametrize(
    "bomb",
    [
        bombs.jpeg_of_empty_segments,
        bombs.jpeg_of_junk,
        bombs.png_of_tiny_chunks,
        bombs.gif_of_tiny_blocks,
        bombs.tiff_of_directories,
    ],
)
def test_too_many_blocks_are_refused(bomb):
    with pytest.raises(errors.ImageBroken, match="more blocks"):
        read(bomb())


@pytest.mark.parametrize(
    "bomb",
    [
        bombs.tiff_claiming_much,
        bombs.tiff_claiming_much_further,
        bombs.avif_exif_claiming_much,
    ],
)
def test_directory_that_claims_bytes_many_times_is_refused(bomb):
    with pytest.raises(errors.ImageBroken, match="many times over"):
        read(bomb())


def test_tile_far_larger_than_its_picture_is_refused():
    with pytest.raises(errors.ImageBroken, match="tiles"):
        read(bombs.tiff_of_a_huge_tile())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_file_cut_anywhere_is_read_or_broken(kind):
    data = pictures.encoded(pictures.noise(20, 20), kind)
    for end in range(20, len(data)):
        try:
            containers.read(kind, data[:end])
        except errors.ImageBroken:
            continue


def test_metadata_of_a_jpeg_does_not_reach_the_decoder():
    exif = pictures.orientation_exif(6)
    data = pictures.jpeg_upright_by_exif(6)[:2] + bombs.jpeg_segment(0xE1, exif)
    data += bombs.jpeg_segment(0xED, b"Photoshop 3.0\0") + bombs.jpeg_segment(0xFE, b"secret")
    container = read(data + pictures.jpeg()[2:])
    assert container.orientation == 6
    assert container.content == pictures.jpeg()


def test_file_without_metadata_is_not_copied():
    for data in (pictures.jpeg(), pictures.encoded(pictures.picture(), "PNG")):
        assert read(data).content is data


@pytest.mark.parametrize(
    "bomb", [bombs.png_text_bomb, bombs.png_profile_bomb, bombs.png_text_of_settings]
)
def test_texts_and_profiles_of_a_png_do_not_reach_the_decoder(bomb):
    assert read(bomb()).content == pictures.encoded(pictures.picture(), "PNG")


def test_comments_of_a_gif_do_not_reach_the_decoder():
    assert read(bombs.gif_with_comment()).content == bombs.gif_of_frames(1, 10, 10)


def test_png_without_its_end_chunk_ends_early():
    with pytest.raises(errors.ImageBroken, match="before its end"):
        read(bombs.png_without_end())


def test_png_may_lack_the_checksum_of_its_end_chunk():
    assert read(pictures.encoded(pictures.picture(), "PNG")[:-4]).size == (64, 48)


def test_gif_may_lack_its_trailer():
    assert read(pictures.animated("GIF")[:-1]).frames == 11


def test_gif_that_ends_inside_a_frame_ends_early():
    with pytest.raises(errors.ImageBroken, match="inside a block"):
        read(pictures.animated("GIF")[:-3])


@pytest.mark.parametrize("kind", PILLOW_FORMATS)
def test_bytes_behind_the_end_are_ignored(kind):
    data = pictures.encoded(pictures.picture(), kind)
    assert read(data + b"<script>" * 100)._replace(content=b"") == read(data)._replace(content=b"")


@pytest.mark.parametrize("bomb", [bombs.jpeg_claiming, bombs.png_claiming])
def test_file_too_short_for_its_pixels_is_noticed(bomb):
    assert read(bomb()).short


@pytest.mark.parametrize("side", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": 1}]
)
def test_blank_jpeg_is_not_too_short(side, options):
    for mode in ("L", "RGB", "CMYK"):
        blank = Image.new(mode, (side, side))
        assert not read(pictures.encoded(blank, "JPEG", quality=1, **options)).short


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_blank_png_is_not_too_short(mode):
    blank = Image.new(mode, (3000, 2000))
    assert not read(pictures.encoded(blank, "PNG", compress_level=9)).short


def test_scans_of_a_progressive_jpeg_are_work():
    assert read(pictures.encoded(pictures.picture(), "JPEG", progressive=True)).effort == 1
    assert read(bombs.jpeg_of_scans(200)).effort == pytest.approx(21)


def test_scans_of_the_components_of_a_baseline_jpeg_are_work():
    assert read(bombs.jpeg_of_component_scans(200)).effort == pytest.approx(20.3)
    assert read(pictures.jpeg() + b"\xff\xda" * 1000).effort == 1


def test_scans_of_a_jpeg_within_a_tiff_are_work():
    assert read(bombs.tiff_of_scans(1, 64, 64)).effort == 10
    assert read(pictures.encoded(pictures.picture(), "TIFF", compression="jpeg")).effort == 1


@pytest.mark.parametrize("header", sorted({*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}))
def test_jpeg_that_no_browser_shows_is_unsupported(header):
    data = pictures.jpeg().replace(b"\xff\xc0", bytes([0xFF, header]))
    with pytest.raises(errors.FormatUnsupported, match="neither baseline nor progressive"):
        read(data)


def test_jpeg_without_a_frame_is_broken():
    data = pictures.jpeg()
    start = data.index(b"\xff\xc0")
    with pytest.raises(errors.ImageBroken):
        read(data[:start] + data[start + 19 :])


def test_run_length_bmp_is_work():
    assert read(bombs.bmp_run_length(100, 100)).effort > 30
    assert read(pictures.encoded(pictures.picture(), "BMP")).effort == 1


@pytest.mark.parametrize("kind", [3, 4, 8, 9])
def test_size_of_a_tiff_is_read_from_every_type_that_the_decoder_takes(kind):
    size = [(256, kind, 1, 70), (257, kind, 1, 30)]
    data = bombs.tiff([*size, *bombs.tiff_page(70, 30)[2:]], tail=bytes(70 * 30))
    assert read(data).size == (70, 30)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (70, 30)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_read_from_every_layout(order, big, kind):
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    value = struct.pack(order + {3: "H", 4: "L"}[kind], 6)
    if big:
        body = struct.pack(order + "HHQQ", 8, 0, 16, 1)
        body += struct.pack(order + "HHQ", 274, kind, 1) + value.ljust(8, b"\0") + bytes(8)
    else:
        body = struct.pack(order + "LH", 8, 1)
        body += struct.pack(order + "HHL", 274, kind, 1) + value.ljust(4, b"\0") + bytes(4)
    assert tiff_directories.orientation(b"Exif\0\0" + head + body) == 6


def test_every_page_of_a_tiff_can_be_made_the_first():
    data = pictures.animated("TIFF", pictures.animation(3, bad=1))
    page = read(data).pages[1]
    with Image.open(io.BytesIO(tiff_directories.with_first_page(data, page.position))) as image:
        assert image.getpixel((5, 5)) == pictures.RED
