import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scanned import ask, gradient

from beam_moderation import errors, scanners
from beam_moderation.scanners import qrcode
from beam_moderation.scanners.boxes import Box


@pytest.fixture(scope="module")
def qr_code():
    pytest.importorskip("zxingcpp")
    scanner = scanners.by_name("qrcode")
    scanner.load()
    return scanner


def drawn(content: str, module: int, kind: str = "QRCode") -> Image.Image:
    zxing = pytest.importorskip("zxingcpp")
    made = zxing.create_barcode(content, zxing.BarcodeFormat[kind]).to_image(scale=module)
    return Image.fromarray(np.array(made)).convert("RGB")


def poster(code: Image.Image, at=(100, 40), angle=0) -> Image.Image:
    frame = gradient()
    mask = Image.new("L", code.size, 255).rotate(angle, expand=True)
    turned = code.rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
    frame.paste(turned, at, mask)
    return frame


def test_frame_without_a_code_is_normal(qr_code):
    assert ask(qr_code, gradient()) == ({"normal": 1.0}, {})


@pytest.mark.parametrize("module", [2, 3, 5, 9])
@pytest.mark.parametrize("angle", [0, 17, 90, 203])
def test_code_of_any_size_and_turn_is_read(qr_code, module, angle):
    frame = poster(drawn("https://example.org/pay", module), angle=angle)
    found, detail = ask(qr_code, frame)
    assert found == {"qrcode": 1.0}
    [code] = detail["codes"]
    assert code["text"] == "https://example.org/pay"
    assert code["format"] == "QR Code"
    assert code["readable"] is True


@pytest.mark.parametrize("contrast", [255, 90, 40])
@pytest.mark.parametrize("inverted", [False, True])
def test_faded_and_inverted_codes_are_read(qr_code, contrast, inverted):
    code = drawn("pay me", 6)
    code = ImageOps.invert(code) if inverted else code
    faded = code.point(lambda value: 128 - contrast // 2 + value * contrast // 255)
    found, detail = ask(qr_code, poster(faded))
    assert found == {"qrcode": 1.0}
    assert detail["codes"][0]["text"] == "pay me"


def test_mirrored_code_is_read(qr_code):
    frame = poster(ImageOps.mirror(drawn("pay me", 6)))
    assert ask(qr_code, frame)[1]["codes"][0]["text"] == "pay me"


def test_place_of_a_code_is_told_in_fractions_of_the_frame(qr_code):
    code = drawn("pay me", 6)
    [found] = ask(qr_code, poster(code, at=(320, 240)))[1]["codes"]
    quiet = 4 * 6  # ISO/IEC 18004: four modules around the symbol
    expected = Box(
        (320 + quiet) / 640,
        (240 + quiet) / 480,
        (320 + code.width - quiet) / 640,
        (240 + code.height - quiet) / 480,
    )
    assert found["box"] == pytest.approx(expected, abs=0.02)


def test_every_code_is_listed_up_to_a_limit(qr_code):
    frame = Image.new("RGB", (1400, 1000), "white")
    for place in range(20):
        frame.paste(drawn(f"code {place}", 5), (place % 5 * 280, place // 5 * 240))
    found, detail = ask(qr_code, frame)
    assert found == {"qrcode": 1.0}
    assert len(detail["codes"]) == qrcode.MAX_CODES
    assert len({code["text"] for code in detail["codes"]}) == qrcode.MAX_CODES


def test_long_text_is_cut(qr_code):
    frame = poster(drawn("x" * 900, 3), at=(0, 0))
    [code] = ask(qr_code, frame)[1]["codes"]
    assert code["text"] == "x" * qrcode.MAX_TEXT


@pytest.mark.parametrize("kind", ["MicroQRCode", "RMQRCode"])
def test_smaller_kinds_of_qr_code_are_found(qr_code, kind):
    found, detail = ask(qr_code, poster(drawn("12345", 6, kind)))
    assert found == {"qrcode": 1.0}
    assert detail["codes"][0]["text"] == "12345"


def test_code_too_damaged_to_decode_is_still_found(qr_code):
    code = drawn("https://example.org/pay?id=8812", 6)
    ImageDraw.Draw(code).rectangle((70, 70, code.width - 30, code.height - 30), fill="black")
    found, detail = ask(qr_code, poster(code))
    assert found == {"qrcode": qrcode.UNREADABLE_SCORE}
    assert detail["codes"][0]["readable"] is False
    assert detail["codes"][0]["text"] == ""


def test_code_too_small_to_read_at_once_is_enlarged(qr_code):
    read = 0
    for angle in range(0, 90, 5):
        code = drawn("https://example.org/pay?id=8812", 12)
        small = code.resize((54, 54), Image.Resampling.LANCZOS)
        frame = poster(small, angle=angle).filter(ImageFilter.GaussianBlur(0.7))
        pixels = qr_code.prepare(frame)
        if any(found.valid for found in qr_code._look(pixels)):
            continue
        codes = ask(qr_code, frame)[1].get("codes", [])
        read += any(code["readable"] for code in codes)
    assert read >= 1


def test_large_frame_is_reduced(qr_code):
    small = scanners.QrCode(max_pixels=100_000)
    assert small.prepare(gradient(640, 480)).shape == (240, 320)
    assert qr_code.prepare(gradient(640, 480)).shape == (480, 640)
    assert small.provider != qr_code.provider


def test_other_codes_are_found_only_when_asked_for(qr_code):
    frame = poster(drawn("4006381333931", 3, "EAN13"))
    assert ask(qr_code, frame)[0] == {"normal": 1.0}
    wide = scanners.QrCode(formats=["QRCode", "EAN13"])
    assert wide.labels == {"qrcode": frozenset({"normal", "qrcode", "barcode"})}
    found, detail = ask(wide, frame)
    assert found == {"barcode": 1.0}
    assert detail["codes"][0]["format"] == "EAN-13"


def test_unknown_format_is_refused():
    pytest.importorskip("zxingcpp")
    with pytest.raises(errors.ConfigurationError, match="BarCode5"):
        scanners.QrCode(formats=["BarCode5"])


def test_scanner_can_be_pickled(qr_code):
    copy = pickle.loads(pickle.dumps(qr_code))
    copy.load()
    frame = poster(drawn("pay me", 6))
    assert ask(copy, frame) == ask(qr_code, frame)
