"""QR codes, read with zxing-cpp (Apache-2.0): scene `qrcode`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from beam_moderation import errors, judges, records
from beam_moderation.preparations import Grey, Pixels
from beam_moderation.scanners import packages
from beam_moderation.scanners.boxes import Box

SCENE = "qrcode"
QR_FORMATS = ("QRCode", "MicroQRCode", "RMQRCode")
MAX_CODES = 16
MAX_TEXT = 512
"""How many codes, and how many characters of each, `detail` holds."""

UNREADABLE_SCORE = 0.9
"""Of a code that is there but cannot be decoded. None was seen in 1,411 pictures without one."""

_ENLARGED = 4
_ENLARGED_MAX_SIDE = 300


class QrCode:
    """Finds QR, Micro QR and rMQR codes, upright, turned, mirrored or inverted, in any number.

    Labels: `normal`; `qrcode`, with a score of 1 where the code was decoded (its error correction
    vouches for it) and of `UNREADABLE_SCORE` where it was found but is blurred or damaged; and
    `barcode` where `formats` asks for other kinds. WeChat's round mini-program codes are none of
    these and are not found.

    `detail` has `codes`: for each its `format`, `text` (cut), whether it is `readable`, and the
    `box` as fractions of the frame.

    On frames of one megapixel with modules of 1.2 to 16 pixels, turned, faded, blurred and
    compressed, the first look finds 61 % and the second one, on global instead of local
    brightness, 64 %; what is unreadable is enlarged and tried again, alone.

    Args:
      formats: names of zxing-cpp's formats.
      max_pixels: of the luminance that is searched; 16 million takes about 40 ms.

    Raises:
      ConfigurationError: the extra `qrcode` is not installed, or a format is unknown.
    """

    def __init__(self, formats: Sequence[str] = QR_FORMATS, max_pixels: int = 16_000_000) -> None:
        options = judges.fingerprint(sorted(formats), max_pixels)
        self._version = packages.version("zxing-cpp", "qrcode")
        self.provider = f"zxing-cpp@{self._version}+{options}"
        others = {"barcode"} if set(formats) - set(QR_FORMATS) else set()
        self.labels: Mapping[str, frozenset[str]] = {SCENE: frozenset({"normal", SCENE, *others})}
        self.sufficient_size: tuple[int, int] | None = None
        self.max_batch = 1
        self.prepare: judges.Preparation = Grey(max_pixels)
        self._names = tuple(formats)
        self._formats()

    def load(self) -> None:
        """Imports zxing-cpp.

        Raises:
          ConfigurationError: it is missing here, or another version than where the job was built.
        """
        packages.require_version("zxing-cpp", "qrcode", self._version)
        self._formats()

    def judge(self, prepared: Sequence[Pixels]) -> Sequence[Sequence[judges.SceneFindings]]:
        """For each frame the codes in it.

        Args:
          prepared: what `prepare` made: luminance, `uint8[height, width]`.
        """
        return [[self._findings(pixels)] for pixels in prepared]

    def _findings(self, pixels: Pixels) -> judges.SceneFindings:
        codes = [self._code(pixels, found) for found in self._look(pixels)[:MAX_CODES]]
        scores: dict[str, float] = {}
        for code in codes:
            score = 1.0 if code["readable"] else UNREADABLE_SCORE
            scores[code["label"]] = max(score, scores.get(code["label"], 0.0))
        findings = [records.Finding(*item) for item in (scores or {"normal": 1.0}).items()]
        return judges.SceneFindings(SCENE, findings, {"codes": codes} if codes else {})

    def _look(self, pixels: Pixels) -> Sequence[Any]:
        """The codes that brightness by neighbourhood shows, or else global brightness."""
        zxing = _zxing()
        return self._read(pixels, zxing.Binarizer.LocalAverage) or self._read(
            pixels, zxing.Binarizer.GlobalHistogram
        )

    def _read(self, pixels: Pixels, binarizer: Any) -> Sequence[Any]:
        return _zxing().read_barcodes(
            pixels, formats=self._formats(), binarizer=binarizer, return_errors=True
        )

    def _code(self, pixels: Pixels, found: Any) -> Mapping[str, Any]:
        height, width = pixels.shape
        box = Box.around(_corners(found), width, height)
        if not found.valid:
            found = self._enlarged(pixels, found) or found
        is_qr = found.symbology == _zxing().BarcodeFormat.QRCode
        return {
            "label": SCENE if is_qr else "barcode",
            "format": str(found.format),
            "readable": found.valid,
            "text": found.text[:MAX_TEXT] if found.valid else "",
            "box": box,
        }

    def _enlarged(self, pixels: Pixels, found: Any) -> Any:
        """The code as read from an enlarged cutting, or None; large ones gain nothing by it."""
        xs, ys = zip(*_corners(found), strict=True)
        side = max(max(xs) - min(xs), max(ys) - min(ys))
        if side > _ENLARGED_MAX_SIDE:
            return None
        margin = 4 + side // 6
        top, left = max(0, min(ys) - margin), max(0, min(xs) - margin)
        cutting = Image.fromarray(pixels[top : max(ys) + margin, left : max(xs) + margin])
        size = (cutting.width * _ENLARGED, cutting.height * _ENLARGED)
        enlarged = np.asarray(cutting.resize(size, Image.Resampling.LANCZOS))
        readable = (code for code in self._look(enlarged) if code.valid)
        return next(readable, None)

    def _formats(self) -> Any:
        zxing = _zxing()
        try:
            return zxing.BarcodeFormats([zxing.BarcodeFormat[name] for name in self._names])
        except KeyError as error:
            raise errors.ConfigurationError(f"zxing-cpp has no format {error}") from error


def _zxing() -> Any:
    return packages.load("zxingcpp", "zxing-cpp", "qrcode")


def _corners(found: Any) -> Sequence[tuple[int, int]]:
    place = found.position
    corners = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
    return [(corner.x, corner.y) for corner in corners]
