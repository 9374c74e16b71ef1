"""Tests of the local scanners: QR codes, text, nudity."""

import concurrent.futures
import json
import math
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from beam_moderation import errors, models, scanners
from beam_moderation.scanners import contacts, nudity, packages, qrcode, text
from beam_moderation.scanners.boxes import Box


def gradient(width: int = 640, height: int = 480) -> Image.Image:
    """Something with light and shade, but with nothing in it."""
    across = np.linspace(40, 220, width)
    down = np.linspace(0, 1, height)[:, None]
    pixels = np.stack(
        [across * down, across * (1 - down), np.broadcast_to(across, (height, width))]
    )
    return Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))


def ask(scanner, frame: Image.Image):
    """The findings of one scene in one frame, as label to score, and the detail."""
    [[found]] = scanner.judge([scanner.prepare(frame)])
    assert found.findings
    assert found.scene in scanner.labels
    assert {label for label, _ in found.findings} <= scanner.labels[found.scene]
    json.dumps(found.detail)
    return dict(found.findings), found.detail


def test_an_unknown_scanner_is_refused():
    with pytest.raises(errors.ConfigurationError, match="there are nudity, qrcode, text"):
        scanners.by_name("faces")


def test_no_scanner_package_is_imported_before_it_is_needed():
    code = (
        "import sys, beam_moderation.scanners;"
        "print({'zxingcpp', 'rapidocr', 'cv2', 'nudenet'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "call",
    [
        lambda: packages.version("no-such-package", "qrcode"),
        lambda: packages.load("no_such_package", "no-such-package", "qrcode"),
        lambda: packages.file("no-such-package", "qrcode", "*.onnx"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(call):
    with pytest.raises(errors.ConfigurationError) as caught:
        call()
    assert str(caught.value) == (
        "no-such-package is not installed: pip install 'beam-moderation[qrcode]'"
    )


def test_another_version_than_where_the_job_was_built_is_refused():
    found = packages.version("pillow", "none")
    packages.require_version("pillow", "none", found)
    with pytest.raises(errors.ConfigurationError, match=f"pillow is {found} here and 1.0"):
        packages.require_version("pillow", "none", "1.0")


def test_boxes_are_fractions_of_the_frame_and_stay_in_it():
    assert Box.around([(10, 20), (50, 5)], 100, 40) == Box(0.1, 0.125, 0.5, 0.5)
    assert Box.around([(-3, -1), (500, 500)], 100, 40) == Box(0, 0, 1, 1)


@pytest.fixture(scope="module")
def qr_code():
    pytest.importorskip("zxingcpp")
    scanner = scanners.by_name("qrcode")
    scanner.load()
    return scanner


class TestQrCode:
    def code(self, content: str, module: int, kind: str = "QRCode") -> Image.Image:
        zxing = pytest.importorskip("zxingcpp")
        made = zxing.create_barcode(content, zxing.BarcodeFormat[kind]).to_image(scale=module)
        return Image.fromarray(np.array(made)).convert("RGB")

    def poster(self, code: Image.Image, at=(100, 40), angle=0) -> Image.Image:
        frame = gradient()
        mask = Image.new("L", code.size, 255).rotate(angle, expand=True)
        turned = code.rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
        frame.paste(turned, at, mask)
        return frame

    def test_frame_without_a_code_is_normal(self, qr_code):
        assert ask(qr_code, gradient()) == ({"normal": 1.0}, {})

    @pytest.mark.parametrize("module", [2, 3, 5, 9])
    @pytest.mark.parametrize("angle", [0, 17, 90, 203])
    def test_code_of_any_size_and_turn_is_read(self, qr_code, module, angle):
        frame = self.poster(self.code("https://example.org/pay", module), angle=angle)
        found, detail = ask(qr_code, frame)
        assert found == {"qrcode": 1.0}
        [code] = detail["codes"]
        assert code["text"] == "https://example.org/pay"
        assert code["format"] == "QR Code"
        assert code["readable"] is True

    @pytest.mark.parametrize("contrast", [255, 90, 40])
    @pytest.mark.parametrize("inverted", [False, True])
    def test_faded_and_inverted_codes_are_read(self, qr_code, contrast, inverted):
        code = self.code("pay me", 6)
        code = ImageOps.invert(code) if inverted else code
        faded = code.point(lambda value: 128 - contrast // 2 + value * contrast // 255)
        found, detail = ask(qr_code, self.poster(faded))
        assert found == {"qrcode": 1.0}
        assert detail["codes"][0]["text"] == "pay me"

    def test_mirrored_code_is_read(self, qr_code):
        frame = self.poster(ImageOps.mirror(self.code("pay me", 6)))
        assert ask(qr_code, frame)[1]["codes"][0]["text"] == "pay me"

    def test_place_of_a_code_is_told_in_fractions_of_the_frame(self, qr_code):
        code = self.code("pay me", 6)
        [found] = ask(qr_code, self.poster(code, at=(320, 240)))[1]["codes"]
        quiet = 4 * 6  # ISO/IEC 18004: four modules around the symbol
        expected = Box(
            (320 + quiet) / 640,
            (240 + quiet) / 480,
            (320 + code.width - quiet) / 640,
            (240 + code.height - quiet) / 480,
        )
        assert found["box"] == pytest.approx(expected, abs=0.02)

    def test_every_code_is_listed_up_to_a_limit(self, qr_code):
        frame = Image.new("RGB", (1400, 1000), "white")
        for place in range(20):
            frame.paste(self.code(f"code {place}", 5), (place % 5 * 280, place // 5 * 240))
        found, detail = ask(qr_code, frame)
        assert found == {"qrcode": 1.0}
        assert len(detail["codes"]) == qrcode.MAX_CODES
        assert len({code["text"] for code in detail["codes"]}) == qrcode.MAX_CODES

    def test_long_text_is_cut(self, qr_code):
        frame = self.poster(self.code("x" * 900, 3), at=(0, 0))
        [code] = ask(qr_code, frame)[1]["codes"]
        assert code["text"] == "x" * qrcode.MAX_TEXT

    @pytest.mark.parametrize("kind", ["MicroQRCode", "RMQRCode"])
    def test_smaller_kinds_of_qr_code_are_found(self, qr_code, kind):
        found, detail = ask(qr_code, self.poster(self.code("12345", 6, kind)))
        assert found == {"qrcode": 1.0}
        assert detail["codes"][0]["text"] == "12345"

    def test_code_too_damaged_to_decode_is_still_found(self, qr_code):
        code = self.code("https://example.org/pay?id=8812", 6)
        ImageDraw.Draw(code).rectangle((70, 70, code.width - 30, code.height - 30), fill="black")
        found, detail = ask(qr_code, self.poster(code))
        assert found == {"qrcode": qrcode.UNREADABLE_SCORE}
        assert detail["codes"][0]["readable"] is False
        assert detail["codes"][0]["text"] == ""

    def test_code_too_small_to_read_at_once_is_enlarged(self, qr_code):
        read = 0
        for angle in range(0, 90, 5):
            code = self.code("https://example.org/pay?id=8812", 12)
            small = code.resize((54, 54), Image.Resampling.LANCZOS)
            frame = self.poster(small, angle=angle).filter(ImageFilter.GaussianBlur(0.7))
            pixels = qr_code.prepare(frame)
            if any(found.valid for found in qr_code._look(pixels)):
                continue
            codes = ask(qr_code, frame)[1].get("codes", [])
            read += any(code["readable"] for code in codes)
        assert read >= 1

    def test_large_frame_is_reduced(self, qr_code):
        small = scanners.QrCode(max_pixels=100_000)
        assert small.prepare(gradient(640, 480)).shape == (240, 320)
        assert qr_code.prepare(gradient(640, 480)).shape == (480, 640)
        assert small.provider != qr_code.provider

    def test_other_codes_are_found_only_when_asked_for(self, qr_code):
        frame = self.poster(self.code("4006381333931", 3, "EAN13"))
        assert ask(qr_code, frame)[0] == {"normal": 1.0}
        wide = scanners.QrCode(formats=["QRCode", "EAN13"])
        assert wide.labels == {"qrcode": frozenset({"normal", "qrcode", "barcode"})}
        found, detail = ask(wide, frame)
        assert found == {"barcode": 1.0}
        assert detail["codes"][0]["format"] == "EAN-13"

    def test_unknown_format_is_refused(self):
        pytest.importorskip("zxingcpp")
        with pytest.raises(errors.ConfigurationError, match="BarCode5"):
            scanners.QrCode(formats=["BarCode5"])

    def test_scanner_can_be_pickled(self, qr_code):
        copy = pickle.loads(pickle.dumps(qr_code))
        copy.load()
        frame = self.poster(self.code("pay me", 6))
        assert ask(copy, frame) == ask(qr_code, frame)


class TestContacts:
    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ("Call +1 (415) 555-2671 now", "phone"),
            ("Call+14155552671", "phone"),
            ("(415) 555-2671", "phone"),
            ("１３８００１３８０００", "phone"),  # noqa: RUF001
            ("客服 138-0013-8000", "phone"),
            ("热线400-820-8820", "phone"),
            ("010-62345678", "phone"),
            ("电话：62345678", "phone"),  # noqa: RUF001
            ("Tel. 030 1234567", "phone"),
            ("mail to Sales.Team@Shop-24.example.com!", "email"),
            ("info @ shop.com", "email"),
            ("加微信abc_12345", "wechat"),
            ("WeChat: lucky888", "wechat"),
            ("vx:freegirl", "wechat"),
            ("加V a1234567", "wechat"),
            ("QQ 123456789", "qq"),
            ("qq群：98765432", "qq"),  # noqa: RUF001
            ("Telegram @best_offers", "telegram"),
            ("join t.me/best_offers", "telegram"),
            ("WhatsApp +44 7700 900123", "whatsapp"),
            ("wa.me/447700900123", "whatsapp"),
            ("LINE ID: girl.99", "messenger"),
        ],
    )
    def test_contact_data_is_found(self, line, kind):
        found = [match for match in contacts.contacts(line) if match.label == "contact"]
        assert kind in [match.kind for match in found]

    @pytest.mark.parametrize(
        "line",
        [
            "https://example.org/a?b=1",
            "http : // cheap.example.com",
            "WWW.Cheap-Loans.Example.Com",
            "visit cheap-loans.shop today",
            "访问shop88.cn领取",
        ],
    )
    def test_links_are_found(self, line):
        assert "link" in [match.label for match in contacts.contacts(line)]

    @pytest.mark.parametrize(
        "line",
        [
            "Anniversary sale 2024-01-15 until 2024-02-29",
            "Total 1,299.00 EUR, order 20240115",
            "12:30 - 14:45",
            "ISBN 978-3-16-148410-0",
            "3.14159265358979",
            "We chat over coffee about payment",
            "WeChat payment accepted",
            "Grand Hotel 1234567",
            "the finish line identifies winners",
            "Please call me. In the morning",
            "v2.0.1 released",
            "Size 10.5 x 20.25 cm",
            "Top 10 of 2024",
            "192.168.100.200",
            "images/photo.jpeg",
        ],
    )
    def test_ordinary_lines_hold_nothing(self, line):
        assert list(contacts.contacts(line)) == []

    @pytest.mark.parametrize(
        ("line", "labels"),
        [
            ("FREE MONEY today", ["spam"]),
            ("get Free  money!", ["spam"]),
            ("freemoney", ["spam"]),
            ("carefree money", []),
            ("a class act", []),
            ("what an ass", ["abuse"]),
            ("我要代 开 发 票", ["spam"]),
            ("Ｆｒｅｅ Ｍｏｎｅｙ", ["spam"]),  # noqa: RUF001
        ],
    )
    def test_listed_words_are_found_where_they_stand_by_themselves(self, line, labels):
        words = contacts.Words({"spam": ["free money", "代开发票"], "abuse": ["ass"]})
        assert [match.label for match in words.matches(line)] == labels


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("rapidocr")
    scanner = scanners.by_name("text", words={"spam": ["free money"]}, max_side=480)
    scanner.load()
    return scanner


class TestText:
    def poster(self, *lines: str, size: int = 32) -> Image.Image:
        frame = gradient(720, 300)
        draw = ImageDraw.Draw(frame)
        draw.rectangle((30, 30, 690, 60 + len(lines) * size * 2), fill="white")
        for row, line in enumerate(lines):
            font = ImageFont.load_default(size)
            draw.text((50, 50 + row * size * 2), line, fill="black", font=font)
        return frame

    def test_models_are_loaded_without_a_network_or_a_word(self, reader, monkeypatch, capfd):
        def refuse(*_):
            raise AssertionError("a connection was tried")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        engine = text._engine(640)
        assert engine(np.zeros((64, 64, 3), np.uint8)).txts is None
        assert capfd.readouterr() == ("", "")

    def test_frame_without_text_is_normal(self, reader):
        assert ask(reader, gradient()) == ({"normal": 1.0}, {})

    def test_text_with_nothing_in_it_is_normal_and_in_the_detail(self, reader):
        found, detail = ask(reader, self.poster("Good morning"))
        assert found == {"normal": 1.0}
        [line] = detail["lines"]
        assert line["text"] == "Good morning"
        assert line["confidence"] > 0.9
        assert line["box"] == pytest.approx(Box(0.07, 0.17, 0.35, 0.29), abs=0.06)
        assert detail["matches"] == []

    def test_telephone_number_and_address_are_found(self, reader):
        found, detail = ask(reader, self.poster("Call +1 (415) 555-2671", "www.cheap.example.com"))
        assert set(found) == {"contact", "link"}
        assert min(found.values()) > 0.8
        assert [match["label"] for match in detail["matches"]] == ["contact", "link"]

    def test_listed_word_gives_its_label(self, reader):
        found, detail = ask(reader, self.poster("FREE MONEY here"))
        assert set(found) == {"spam"}
        assert detail["matches"] == [{"label": "spam", "kind": "word", "text": "free money"}]

    def test_text_upside_down_is_read(self, reader):
        frame = self.poster("Call +1 (415) 555-2671").rotate(180)
        assert "contact" in ask(reader, frame)[0]

    @pytest.mark.parametrize("size", [(2000, 20), (20, 2000), (3000, 40), (1, 1), (7, 900)])
    def test_frame_of_extreme_shape_reaches_the_models(self, reader, size):
        page = reader.prepare(Image.new("RGB", size, "white"))
        height, width, _ = page.pixels.shape
        assert min(height, width) >= 32
        assert max(height, width) <= 480
        assert max(height, width) / min(height, width) <= 8
        reader.read(page)

    def test_text_on_a_thin_strip_is_read(self, reader):
        frame = self.poster("Call +1 (415) 555-2671").crop((40, 40, 690, 100))
        assert "contact" in ask(reader, frame)[0]

    def test_score_is_that_of_the_surest_line(self, reader):
        lines = [
            text.Line("www.a.com", 0.6, Box(0, 0, 1, 1)),
            text.Line("www.b.com", 0.9, Box(0, 0, 1, 1)),
            text.Line("hello", 1.0, Box(0, 0, 1, 1)),
        ]
        assert dict(reader.findings(lines).findings) == {"link": 0.9}

    def test_detail_is_of_bounded_length(self, reader):
        line = text.Line("www.a.com " * 100, 0.9, Box(0, 0, 1, 1))
        detail = reader.findings([line] * 500).detail
        assert len(detail["lines"]) == len(detail["matches"]) == text.MAX_LINES
        assert len(detail["lines"][0]["text"]) == text.MAX_LENGTH

    def test_provider_changes_with_words_and_options(self, reader):
        assert scanners.Text().provider != reader.provider
        assert scanners.Text(max_side=960).provider != scanners.Text().provider
        same = scanners.Text(words={"spam": ["free money"]}, max_side=480)
        assert same.provider == reader.provider

    def test_label_without_words_is_refused(self):
        pytest.importorskip("rapidocr")
        with pytest.raises(errors.ConfigurationError, match="words of label 'spam' are empty"):
            scanners.Text(words={"spam": [" "]})

    def test_copies_share_one_engine_and_threads_agree(self, reader):
        copy = pickle.loads(pickle.dumps(reader))
        copy.load()
        assert copy._engine is reader._engine
        frames = [self.poster(f"Call +1 (415) 555-{number}") for number in (2671, 3782, 4893)]
        expected = [ask(reader, frame) for frame in frames]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda frame: ask(copy, frame), frames)) == expected


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("nudenet")
    scanner = scanners.by_name("nudity")
    scanner.load()
    return scanner


@pytest.fixture(scope="module")
def portrait():
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


class TestNudity:
    def test_frame_without_people_is_normal(self, detector):
        found, detail = ask(detector, gradient())
        assert found == {"porn": 0.0, "sexy": 0.0, "normal": 1.0}
        assert detail == {}

    def test_portrait_is_normal_and_its_face_is_in_the_detail(self, detector, portrait):
        found, detail = ask(detector, portrait)
        assert found == {"porn": 0.0, "sexy": 0.0, "normal": 1.0}
        assert detail["classes"]["FACE_FEMALE"]["score"] > 0.7

    @pytest.mark.parametrize("box", [None, (60, 0, 460, 300), (100, 40, 400, 500)])
    def test_detections_are_those_of_nudenet_itself_on_rgb(self, detector, portrait, box):
        nudenet = pytest.importorskip("nudenet")
        frame = portrait.crop(box) if box else portrait
        # What NudeNet takes for BGR it hands to the model in the order that it came in.
        theirs = nudenet.NudeDetector().detect(np.asarray(frame))
        ours = ask(detector, frame)[1]["classes"]
        assert {seen["class"] for seen in theirs} == set(ours)
        for seen in theirs:
            left, top, width, height = seen["box"]
            corners = [(left, top), (left + width, top + height)]
            assert ours[seen["class"]]["score"] == pytest.approx(seen["score"], abs=0.1)
            assert ours[seen["class"]]["box"] == pytest.approx(
                Box.around(corners, *frame.size), abs=0.03
            )

    def test_a_class_counts_as_what_it_is_mapped_to(self, portrait):
        pytest.importorskip("nudenet")
        strict = scanners.Nudity(classes={"FACE_FEMALE": "sexy"})
        strict.load()
        assert strict.labels == {"porn": frozenset({"normal", "sexy"})}
        found, detail = ask(strict, portrait)
        assert found["sexy"] == detail["classes"]["FACE_FEMALE"]["score"]
        assert math.isclose(found["normal"], 1 - found["sexy"])
        assert strict.provider != scanners.Nudity().provider

    @pytest.mark.parametrize("classes", [{"KNEE": "porn"}, {"FACE_MALE": "block"}])
    def test_unknown_class_or_label_is_refused(self, classes):
        pytest.importorskip("nudenet")
        with pytest.raises(errors.ConfigurationError, match="no class or label of NudeNet's"):
            scanners.Nudity(classes=classes)

    def test_classes_are_those_of_the_model(self, detector):
        session = detector._network._session.inference
        names = session.get_modelmeta().custom_metadata_map["names"]
        assert names == str(dict(enumerate(nudity.CLASSES)))

    def test_batches_give_what_single_frames_give(self, detector, portrait):
        batched = scanners.Nudity(runtime=models.Runtime(batch_size=4))
        batched.load()
        frames = [portrait, gradient(), portrait.rotate(90)]
        together = batched.judge([batched.prepare(frame) for frame in frames])
        for [found], frame in zip(together, frames, strict=True):
            assert dict(found.findings) == pytest.approx(ask(detector, frame)[0], abs=1e-4)

    def test_scanner_can_be_pickled(self, detector, portrait):
        copy = pickle.loads(pickle.dumps(detector))
        copy.load()
        assert copy.provider == detector.provider
        assert ask(copy, portrait) == ask(detector, portrait)
