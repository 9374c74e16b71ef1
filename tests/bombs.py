"""Images to be afraid of, made when they are asked for.

Every function returns a file's bytes, most of them made by hand, so that a few bytes can claim
what no encoder would have the memory to write.
"""

import struct
import zlib

from pictures import encoded, jpeg, noise, picture
from PIL import Image


def jpeg_segment(marker, body):
    """A segment between a JPEG's markers."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments):
    """A JPEG with some segments, or anything else, before its own."""
    return b"\xff\xd8" + b"".join(segments) + jpeg()[2:]


def jpeg_claiming(width=8000, height=7999):
    """A small JPEG whose header claims another size."""
    data = bytearray(jpeg())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def jpeg_truncated():
    """The first half of a JPEG."""
    data = jpeg(noise())
    return data[: len(data) // 2]


def jpeg_corrupted():
    """A JPEG with its scan overwritten in the middle, and its end in place."""
    data = bytearray(jpeg(noise()))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    return bytes(data)


def jpeg_of_two_pictures():
    """An MPO: a JPEG with a second one behind it."""
    second = Image.new("RGB", (64, 48), "black")
    return encoded(picture(), "MPO", save_all=True, append_images=[second])


def jpeg_of_scans(count=20_000, image=None):
    """A progressive JPEG that repeats its last scan."""
    data = encoded(image or picture(640, 480), "JPEG", progressive=True)
    tables = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))
    return data[:-2] + data[tables:-2] * count + data[-2:]


def jpeg_of_component_scans(count=20_000):
    """A baseline JPEG with a scan for each component, and then the first again and again."""
    tables = jpeg(picture(640, 480), subsampling=0).split(b"\xff\xda")[0]
    scans = [jpeg_segment(0xDA, bytes([1, component, 0, 0, 63, 0])) for component in (1, 2, 3)]
    return tables + b"".join(scans) + scans[0] * count + b"\xff\xd9"


def jpeg_arithmetic():
    """A JPEG that claims 7000 x 7000 pixels in arithmetic coding, which makes them of nothing."""
    return jpeg_claiming(7000, 7000).replace(b"\xff\xc0", b"\xff\xc9", 1)


def jpeg_of_empty_segments(count=1_000_000):
    """A JPEG with a great many comments of no length."""
    return jpeg_with(jpeg_segment(0xFE, b"") * count)


def jpeg_of_junk(count=2_000_000):
    """A JPEG with a great many bytes between its segments."""
    return jpeg_with(jpeg_segment(0xFE, b""), bytes(count))


def exif_claiming_much(entries=5000, size=60_000):
    """An EXIF block whose entries all point to the same bytes."""
    directory = b"".join(
        struct.pack("<HHLL", 40_000 + index % 20_000, 7, size, 8) for index in range(entries)
    )
    return (b"II*\0" + struct.pack("<LH", 8, entries) + directory + bytes(4)).ljust(size + 8, b"\0")


def jpeg_exif_claiming_much():
    """A JPEG of 64 kB whose EXIF entries claim 300 MB."""
    return jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + exif_claiming_much()))


def png_chunk(kind, body):
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, bits=8, colours=0):
    """A PNG of a size, a depth and a colour type, with these chunks and an end."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_pixels(width, height, kind=b"IDAT", prefix=b""):
    """A chunk of black pixels, 8-bit grey, that compress to a thousandth."""
    return png_chunk(kind, prefix + zlib.compress(bytes(height * (width + 1)), 1))


def png_one_pixel_wide():
    """A PNG that claims 1 x 60,000,000 pixels."""
    return png(1, 60_000_000, png_chunk(b"IDAT", b""))


def png_one_bit(side=30_000):
    """A PNG that claims 30,000 x 30,000 pixels of one bit."""
    return png(side, side, png_chunk(b"IDAT", b""), bits=1)


def png_claiming():
    """A PNG that claims 7000 x 7000 pixels and holds none."""
    return png(7000, 7000, png_chunk(b"IDAT", zlib.compress(b"")))


def png_with(*chunks):
    """A PNG of the picture in four colours with some chunks before its pixels."""
    data = encoded(picture(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def png_text_bomb():
    """A PNG with texts of 50 MB each, compressed."""
    text = b"Comment\0\0" + zlib.compress(bytes(50_000_000), 1)
    return png_with(*[png_chunk(b"zTXt", text)] * 4)


def png_profile_bomb():
    """A PNG with a colour profile of 50 MB, compressed."""
    return png_with(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000), 1)))


def png_text_of_settings():
    """A PNG whose texts have the names of a decoder's settings."""
    names = (b"interlace", b"bbox", b"transparency", b"exif", b"gamma")
    return png_with(*(png_chunk(b"tEXt", name + b"\0x") for name in names))


def png_of_tiny_chunks(count=400_000):
    """A PNG with a great many empty chunks of pixels."""
    return png_with(png_chunk(b"IDAT", b"") * count)


def png_damaged():
    """A PNG with its pixels overwritten in the middle."""
    data = bytearray(encoded(noise(), "PNG"))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    return bytes(data)


def png_without_end():
    """A PNG with all its pixels and no end chunk."""
    return encoded(picture(), "PNG")[:-12]


def apng_of_frames(count=2000, side=4000):
    """An animated PNG of tiny frames on a large canvas."""
    control = struct.pack(">IIIIHHBB", side, side, 0, 0, 1, 10, 0, 0)
    chunks = [
        png_chunk(b"acTL", struct.pack(">II", count, 0)),
        png_chunk(b"fcTL", struct.pack(">I", 0) + control),
        png_pixels(side, side),
    ]
    control = struct.pack(">IIIIHHBB", 1, 1, 0, 0, 1, 10, 0, 0)
    for frame in range(1, count):
        chunks.append(png_chunk(b"fcTL", struct.pack(">I", 2 * frame - 1) + control))
        chunks.append(png_pixels(1, 1, b"fdAT", struct.pack(">I", 2 * frame)))
    return png(side, side, *chunks)


_GIF_PIXEL = b"\x02\x02\x44\x01\0"


def gif_of_frames(count=2000, width=8000, height=7999):
    """A GIF of frames of one pixel on a huge canvas."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\4\0\1\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + _GIF_PIXEL
    return screen + frame * count + b";"


def gif_growing():
    """A GIF whose second frame reaches far beyond its canvas."""
    small = gif_of_frames(1, 10, 10)
    return small[:-1] + b"," + struct.pack("<HHHHB", 65_000, 65_000, 1, 1, 0) + _GIF_PIXEL + b";"


def gif_with_comment(size=8_000_000):
    """A GIF with a comment of some megabytes."""
    comment = b"!\xfe" + (b"\xff" + bytes(255)) * (size // 255) + b"\0"
    small = gif_of_frames(1, 10, 10)
    return small[:19] + comment + small[19:]


def gif_of_tiny_blocks(count=3_000_000):
    """A GIF whose one frame comes in blocks of one byte."""
    return gif_of_frames(1, 10, 10)[:-2] + b"\1\0" * count + b"\0;"


def webp_solid(width=8000, height=7999):
    """A lossless WebP of one colour, of any size up to 16,384, in 36 bytes."""
    # Signature, size, no alpha, version 0, no transform, no colour cache, no further prefix codes,
    # and five prefix codes of a single one-bit symbol each (RFC 9649, section 3).
    fields = [(0x2F, 8), (width - 1, 14), (height - 1, 14), (0, 1), (0, 3), (0, 3)]
    fields += [(0b0001, 4)] * 5
    bits = shift = 0
    for value, length in fields:
        bits |= value << shift
        shift += length
    return webp_file(riff_chunk(b"VP8L", bits.to_bytes(-(-shift // 8) + 1, "little")))


def riff_chunk(kind, body):
    """A chunk, padded to an even length."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def webp_file(*chunks):
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _three_bytes(value):
    return value.to_bytes(3, "little")


def webp_of_frames(count=2000, width=8000, height=6000):
    """An animated WebP of frames of one pixel on a large canvas."""
    canvas = b"\x02\0\0\0" + _three_bytes(width - 1) + _three_bytes(height - 1)
    frame = bytes(6) + _three_bytes(0) * 2 + _three_bytes(100) + b"\0" + webp_solid(1, 1)[12:]
    animation = riff_chunk(b"ANIM", bytes(6)) + riff_chunk(b"ANMF", frame) * count
    return webp_file(riff_chunk(b"VP8X", canvas), animation)


def tiff(*pages, tail=b""):
    """A TIFF of pages, each a list of (tag, type, count, value); `tail` stands at offset 8."""
    data = bytearray(b"II*\0" + bytes(4) + tail)
    pointer = 4
    for entries in pages:
        struct.pack_into("<L", data, pointer, len(data))
        data += struct.pack("<H", len(entries))
        data += b"".join(struct.pack("<HHLL", *entry) for entry in entries)
        pointer = len(data)
        data += bytes(4)
    return bytes(data)


def tiff_page(width=1, height=1, *more):
    """The entries of a page of grey pixels that stand at offset 8."""
    size = [(256, 4, 1, width), (257, 4, 1, height)]
    kind = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1)]
    return [*size, *kind, (278, 4, 1, height), (279, 4, 1, width * height), *more]


def tiff_of_directories(count=20_000):
    """A TIFF of a great many pages of one pixel."""
    return tiff(*[tiff_page()] * count, tail=b"\x80\0")


def tiff_claiming_much():
    """A TIFF of 1.6 MB whose entries claim 50 GB."""
    size = 800_000
    entries = [(30_000 + index, 7, size, 8) for index in range(30_000)]
    return tiff([*tiff_page(), *entries], tail=bytes(size))


def tiff_claiming_much_further():
    """A TIFF whose EXIF directory claims what its own does not."""
    exif = exif_claiming_much()
    return tiff(tiff_page(1, 1, (34665, 4, 1, 16)), tail=exif)


def tiff_of_a_huge_tile():
    """A TIFF of one pixel with a tile of 30,000 x 30,000."""
    page = [entry for entry in tiff_page() if entry[0] not in (273, 278, 279)]
    tile = [(322, 4, 1, 30_000), (323, 4, 1, 30_000), (324, 4, 1, 8), (325, 4, 1, 1)]
    return tiff([*page, *tile], tail=b"\x80\0")


def tiff_of_scans(count=90, width=5000, height=5000):
    """A TIFF of 25 megapixels as a progressive JPEG that repeats its last scan."""
    data = jpeg_of_scans(count, Image.new("L", (width, height)))
    page = [entry for entry in tiff_page(width, height) if entry[0] not in (259, 279)]
    return tiff(sorted([*page, (259, 3, 1, 7), (279, 4, 1, len(data))]), tail=data)


def tiff_of_large_pages(count=10, side=7000):
    """A TIFF of pages of 49 megapixels behind one of a single pixel."""
    return tiff(tiff_page(), *[tiff_page(side, side)] * count, tail=bytes(16))


def tiff_that_loops():
    """A TIFF whose second page names the first as the next."""
    data = bytearray(tiff(tiff_page(), tiff_page(), tail=b"\x80\0"))
    data[-4:] = data[4:8]
    return bytes(data)


def bmp_run_length(width=6000, height=6000):
    """A run-length BMP of lines that end after their first pixel."""
    body = b"\x01\x05\0\0" * height
    palette = b"".join(bytes((grey, grey, 255 - grey, 0)) for grey in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def avif_exif_claiming_much():
    """An AVIF with an EXIF block whose entries claim 300 MB."""
    return encoded(picture(), "AVIF", exif=b"Exif\0\0" + exif_claiming_much())


def html():
    """A page that says that the image is gone."""
    return b"\n<!DOCTYPE html><html><body>404</body></html>"


def heic():
    """The beginning of a photograph as telephones take it."""
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
