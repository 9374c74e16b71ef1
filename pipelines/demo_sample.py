"""The demo's sample: real images and broken ones, each with the outcome that it must have.

Writes `images/` and `references.parquet`, whose rows `row` makes. The photographs are those that
scikit-image has inside its wheel; nothing is downloaded. The same versions of the libraries write
the same bytes.
"""

import datetime
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import demo_vendors
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zxingcpp
from demo_pictures import (
    PHOTOGRAPHS,
    advertisement,
    animated,
    animation,
    barcode,
    bomb,
    cut_out,
    encoded,
    exif_rotated,
    gif,
    jpeg,
    noisy,
    pasted,
    photograph,
    qr_code,
    sixteen_bit,
    skewed,
    strip,
)
from PIL import Image, PngImagePlugin

PASS = "pass"  # noqa: S105
QR_CODE = "qrcode:qrcode=review"
CONTACT = "ad:contact=review"
LINK = "ad:link=review"
CONTACT_AND_LINK = "ad:contact+link=review"

FIRST_DAY = datetime.datetime(2026, 3, 2, 6, tzinfo=datetime.timezone.utc)
BETWEEN_UPLOADS = datetime.timedelta(hours=3, minutes=7)


class Case(NamedTuple):
    """A file of the sample.

    `expected` is what the tables must say: `pass`, or `scene:labels=suggestion` of every scene that
    did not pass (sorted; scenes joined by a comma, labels by a plus), or the dead letter's code.
    `frame` is the index of the deciding frame or tile where that is known. A `content` of None:
    there is no such file.
    """

    name: str
    content: bytes | None
    expected: str
    note: str
    frame: int | None = None


BIG_SALE = ("BIG SALE 70% OFF", "Call +1 415 555 0132", "www.cheap-deals.example.com")


def photographs() -> Iterator[Case]:
    """Nothing is wrong with these."""
    for name in PHOTOGRAPHS:
        stem = name.partition(".")[0]
        yield Case(f"photo-{stem}.jpg", jpeg(photograph(name)), PASS, "photograph")
    for name in PHOTOGRAPHS[:6]:
        detail = photograph(name, 900, 600).crop((250, 150, 650, 450))
        stem = name.partition(".")[0]
        yield Case(f"detail-{stem}.jpg", jpeg(detail, 70), PASS, "detail of a photograph")


def qr_codes() -> Iterator[Case]:
    """QR codes in photographs, and bar codes that are none."""
    patches = {
        "small": qr_code(2),
        "medium": qr_code(4),
        "large": qr_code(9),
        "grey-on-grey": qr_code(5, "#606060", "#a8a8a8"),
        "blue-on-yellow": qr_code(5, "#102080", "#ffe060"),
        "light-on-dark": qr_code(5, "#ffffff", "#202020"),
        "turned-10": qr_code(5).rotate(10, Image.Resampling.BICUBIC, expand=True),
        "turned-45": qr_code(5).rotate(45, Image.Resampling.BICUBIC, expand=True),
        "turned-90": qr_code(5).rotate(90, expand=True),
        "turned-180": qr_code(5).rotate(180),
        "skewed": skewed(qr_code(6)),
    }
    for photo, (name, patch) in zip(PHOTOGRAPHS, patches.items(), strict=False):
        content = jpeg(pasted(photograph(photo), patch))
        yield Case(f"qr-{name}.jpg", content, QR_CODE, f"QR code, {name}")
    image = pasted(photograph("chelsea.png"), qr_code(5))
    yield Case("qr-poor-jpeg.jpg", jpeg(image, 20), QR_CODE, "QR code, JPEG quality 20")
    yield Case("qr-noisy.jpg", jpeg(noisy(image, 30)), QR_CODE, "QR code, noise of 30 levels")
    image = pasted(pasted(image, qr_code(3, text="tel:+14155550132"), (400, 200)), qr_code(2))
    yield Case("qr-several.png", encoded(image, "PNG"), QR_CODE, "three QR codes")
    ean = barcode("4006381333931", zxingcpp.BarcodeFormat.EAN13, 2).convert("RGBA")
    image = pasted(photograph("coffee.png"), ean)
    yield Case("ean-13.jpg", jpeg(image), PASS, "an article's bar code is no QR code")


def advertisements() -> Iterator[Case]:
    """Contact data and web addresses; text that is none is let through."""
    calling = advertisement(("Private lessons", "Call 0171 555 0199"), "astronaut.png")
    visiting = advertisement(("Visit https://win.example.com",), "rocket.jpg")
    writing = advertisement(("Write to boss@cheap.example.com",), "brick.png")
    bare = advertisement(BIG_SALE, "moon.png", "#ffffff", None)
    dark = advertisement(BIG_SALE, "gravel.png", "#f0f0f0", "#301060")
    harmless = advertisement(("Good morning", "A cup of coffee"))
    coded = pasted(advertisement(BIG_SALE), qr_code(4))
    sale = jpeg(advertisement(BIG_SALE))
    yield Case("ad-sale.jpg", sale, CONTACT_AND_LINK, "telephone number and web address")
    yield Case("ad-telephone.jpg", jpeg(calling), CONTACT, "telephone number")
    yield Case("ad-mail-address.jpg", jpeg(writing), CONTACT, "e-mail address")
    yield Case("ad-web-address.jpg", jpeg(visiting), LINK, "web address")
    yield Case("ad-bare.jpg", jpeg(bare), CONTACT_AND_LINK, "letters right on the photograph")
    yield Case("ad-dark.jpg", jpeg(dark), CONTACT_AND_LINK, "light letters on dark ground")
    yield Case("ad-poor-jpeg.jpg", jpeg(dark, 15), CONTACT_AND_LINK, "JPEG quality 15")
    both = f"{CONTACT_AND_LINK},{QR_CODE}"
    yield Case("ad-and-qr.jpg", jpeg(coded), both, "advertisement with a QR code")
    yield Case("text-harmless.jpg", jpeg(harmless), PASS, "text without contact data")


def frames_and_tiles() -> Iterator[Case]:
    """Animations and long images, bad in the middle."""
    bad, good = animation(5, 11), animation(None, 6)
    yield Case("animated-qr.gif", gif(bad), QR_CODE, "GIF of 11 frames, QR code in frame 5", 5)
    note = "APNG of 11 frames, QR code in frame 5"
    yield Case("animated-qr.png", animated(bad, "PNG"), QR_CODE, note, 5)
    note = "WebP of 11 frames, QR code in frame 5"
    yield Case("animated-qr.webp", animated(bad, "WEBP"), QR_CODE, note, 5)
    yield Case("animated.gif", gif(good), PASS, "harmless GIF of 6 frames")
    long = jpeg(strip(4, 8))
    yield Case("long-qr.jpg", long, QR_CODE, "8 times as high as wide, QR code in tile 4", 4)
    wide = jpeg(strip(2, 4).transpose(Image.Transpose.ROTATE_90))
    yield Case("wide-qr.jpg", wide, QR_CODE, "4 times as wide as high, QR code in tile 2", 2)
    yield Case("long.jpg", jpeg(strip(None, 4)), PASS, "harmless, 4 times as high as wide")


def encodings() -> Iterator[Case]:
    """Every way to store an image that decoders get wrong, with something to find in it."""
    sale = advertisement(BIG_SALE)
    coded = pasted(photograph("rocket.jpg"), qr_code(5), (220, 100))
    for orientation, stored in (
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ):
        content = exif_rotated(sale, orientation, stored)
        note = f"stored turned, EXIF orientation {orientation}"
        yield Case(f"exif-{orientation}.jpg", content, CONTACT_AND_LINK, note)
    yield Case("cmyk-qr.jpg", jpeg(coded.convert("CMYK")), QR_CODE, "CMYK JPEG")
    yield Case("progressive-qr.jpg", jpeg(coded, progressive=True), QR_CODE, "progressive JPEG")
    grey = pasted(photograph("rocket.jpg"), qr_code(5, "#303030", "#c0c0c0"), (220, 100))
    yield Case("16-bit-qr.png", sixteen_bit(grey), QR_CODE, "16-bit PNG, QR code without black")
    yield Case("palette-qr.png", encoded(coded.quantize(32), "PNG"), QR_CODE, "palette PNG")
    yield Case("1-bit-qr.png", encoded(coded.convert("1"), "PNG"), QR_CODE, "1-bit PNG")
    yield Case("alpha-qr.png", encoded(cut_out(coded), "PNG"), QR_CODE, "PNG with alpha")
    yield Case("qr.webp", encoded(coded, "WEBP", quality=60), QR_CODE, "WebP")
    yield Case("qr.avif", encoded(coded, "AVIF", quality=60, speed=9), QR_CODE, "AVIF")
    yield Case("qr.bmp", encoded(coded, "BMP"), QR_CODE, "BMP")
    yield Case("qr.tiff", encoded(coded, "TIFF", compression="tiff_lzw"), QR_CODE, "TIFF, LZW")
    yield Case("jpeg-named.png", jpeg(coded), QR_CODE, "a JPEG named .png")
    yield Case("16-bit.png", sixteen_bit(photograph("moon.png")), PASS, "16-bit PNG, harmless")
    yield Case("cmyk.jpg", jpeg(photograph("ihc.png").convert("CMYK")), PASS, "CMYK, harmless")


BROKEN = "image-broken"
"""A mark in a file that has the vendors' emulators fail on it, for they decode nothing."""


def broken_mark() -> PngImagePlugin.PngInfo:
    """The mark as a PNG's text."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", BROKEN)
    return text


HTML = b"<!doctype html><html><title>Not found</title><body>This image has moved.</body></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"/></svg>'


def unusable() -> Iterator[Case]:
    """What must end as a dead letter, and with which code."""
    photo = jpeg(photograph("coffee.png"), comment=BROKEN)
    png = encoded(photograph("coins.png"), "PNG", pnginfo=broken_mark())
    damaged = png[:2000] + bytes(64) + png[2064:]
    large = bytes(20_000_001)
    yield Case("truncated.jpg", photo[: len(photo) // 2], "image-broken", "half a JPEG")
    yield Case("damaged.png", damaged, "image-broken", "PNG with 64 bytes overwritten")
    yield Case("page.jpg", HTML, "format-unsupported", "an HTML page named .jpg")
    yield Case("drawing.svg", SVG, "format-unsupported", "SVG")
    yield Case("empty.jpg", b"", "image-empty", "an empty file")
    yield Case("missing.jpg", None, "fetch-not-found", "there is no such file")
    yield Case("bomb.png", bomb(), "image-too-many-pixels", "144 megapixels in 18 kB")
    yield Case("large.jpg", large, "fetch-too-large", "one byte more than 20 MB")


FAMILIES: Sequence[Callable[[], Iterator[Case]]] = (
    photographs,
    qr_codes,
    advertisements,
    frames_and_tiles,
    encodings,
    unusable,
)


def interleaved(cases: Sequence[Case]) -> list[Case]:
    """The cases in an order that spreads each family over the days, the same each time."""
    order = np.random.default_rng(7).permutation(len(cases))
    return [cases[index] for index in order]


def row(case: Case, path: pathlib.Path, time: datetime.datetime) -> dict[str, Any]:
    """A case's row: a reference, and what must become of it here and at each vendor."""
    return {
        "data_id": case.name,
        "uri": path.resolve().as_uri(),
        "time": time,
        "expected": case.expected,
        "expected_frame": case.frame,
        **{
            f"expected_{vendor}": demo_vendors.expected(vendor, case.content, case.expected)
            for vendor in demo_vendors.VENDORS
        },
        "note": case.note,
    }


def write_sample(folder: pathlib.Path) -> pathlib.Path:
    """Writes the sample below `folder` and returns the path of `references.parquet`."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, case in enumerate(interleaved([case for make in FAMILIES for case in make()])):
        path = images / case.name
        if case.content is not None:
            path.write_bytes(case.content)
        time = FIRST_DAY + number * BETWEEN_UPLOADS
        rows.append(row(case, path, time))
    references = folder / "references.parquet"
    pq.write_table(pa.Table.from_pylist(rows), references, row_group_size=16)
    return references


if __name__ == "__main__":
    print(write_sample(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "out/sample")))  # noqa: T201
