import concurrent.futures
import pickle
import socket

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scanned import ask, gradient

from beam_moderation import errors, scanners
from beam_moderation.scanners import text
from beam_moderation.scanners.boxes import Box


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("rapidocr")
    scanner = scanners.by_name("text", words={"spam": ["free money"]}, max_side=480)
    scanner.load()
    return scanner


def poster(*lines: str, size: int = 32) -> Image.Image:
    frame = gradient(720, 300)
    draw = ImageDraw.Draw(frame)
    draw.rectangle((30, 30, 690, 60 + len(lines) * size * 2), fill="white")
    for row, line in enumerate(lines):
        font = ImageFont.load_default(size)
        draw.text((50, 50 + row * size * 2), line, fill="black", font=font)
    return frame


def test_models_are_loaded_without_a_network_or_a_word(reader, monkeypatch, capfd):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    engine = text._engine(640)
    assert engine(np.zeros((64, 64, 3), np.uint8)).txts is None
    assert capfd.readouterr() == ("", "")


def test_frame_without_text_is_normal(reader):
    assert ask(reader, gradient()) == ({"normal": 1.0}, {})


def test_text_with_nothing_in_it_is_normal_and_in_the_detail(reader):
    found, detail = ask(reader, poster("Good morning"))
    assert found == {"normal": 1.0}
    [line] = detail["lines"]
    assert line["text"] == "Good morning"
    assert line["confidence"] > 0.9
    assert line["box"] == pytest.approx(Box(0.07, 0.17, 0.35, 0.29), abs=0.06)
    assert detail["matches"] == []


def test_telephone_number_and_address_are_found(reader):
    found, detail = ask(reader, poster("Call +1 (415) 555-2671", "www.cheap.example.com"))
    assert set(found) == {"contact", "link"}
    assert min(found.values()) > 0.8
    assert [match["label"] for match in detail["matches"]] == ["contact", "link"]


def test_listed_word_gives_its_label(reader):
    found, detail = ask(reader, poster("FREE MONEY here"))
    assert set(found) == {"spam"}
    assert detail["matches"] == [{"label": "spam", "kind": "word", "text": "free money"}]


def test_text_upside_down_is_read(reader):
    frame = poster("Call +1 (415) 555-2671").rotate(180)
    assert "contact" in ask(reader, frame)[0]


@pytest.mark.parametrize("size", [(2000, 20), (20, 2000), (3000, 40), (1, 1), (7, 900)])
def test_frame_of_extreme_shape_reaches_the_models(reader, size):
    page = reader.prepare(Image.new("RGB", size, "white"))
    height, width, _ = page.pixels.shape
    assert min(height, width) >= 32
    assert max(height, width) <= 480
    assert max(height, width) / min(height, width) <= 8
    reader.read(page)


def test_text_on_a_thin_strip_is_read(reader):
    frame = poster("Call +1 (415) 555-2671").crop((40, 40, 690, 100))
    assert "contact" in ask(reader, frame)[0]


def test_score_is_that_of_the_surest_line(reader):
    lines = [
        text.Line("www.a.com", 0.6, Box(0, 0, 1, 1)),
        text.Line("www.b.com", 0.9, Box(0, 0, 1, 1)),
        text.Line("hello", 1.0, Box(0, 0, 1, 1)),
    ]
    assert dict(reader.findings(lines).findings) == {"link": 0.9}


def test_detail_is_of_bounded_length(reader):
    line = text.Line("www.a.com " * 100, 0.9, Box(0, 0, 1, 1))
    detail = reader.findings([line] * 500).detail
    assert len(detail["lines"]) == len(detail["matches"]) == text.MAX_LINES
    assert len(detail["lines"][0]["text"]) == text.MAX_LENGTH


def test_provider_changes_with_words_and_options(reader):
    assert scanners.Text().provider != reader.provider
    assert scanners.Text(max_side=960).provider != scanners.Text().provider
    same = scanners.Text(words={"spam": ["free money"]}, max_side=480)
    assert same.provider == reader.provider


def test_label_without_words_is_refused():
    pytest.importorskip("rapidocr")
    with pytest.raises(errors.ConfigurationError, match="words of label 'spam' are empty"):
        scanners.Text(words={"spam": [" "]})


def test_copies_share_one_engine_and_threads_agree(reader):
    copy = pickle.loads(pickle.dumps(reader))
    copy.load()
    assert copy._engine is reader._engine
    frames = [poster(f"Call +1 (415) 555-{number}") for number in (2671, 3782, 4893)]
    expected = [ask(reader, frame) for frame in frames]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda frame: ask(copy, frame), frames)) == expected
