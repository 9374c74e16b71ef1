"""The emulated vendors' verdicts: a pure function of the image, so that a test knows the truth.

An image is its URL, or its bytes where those were uploaded or sent inline.

- A mark `<scene>-<suggestion>` in it decides for that scene: `porn-block`, `ad-review`,
  `terrorism-pass`. It must not follow a letter or digit.
- A mark of `FAILURES` makes the vendor fail on it: `image-missing`, `image-broken`, …
- Without a mark the SHA-256 of the image decides: of 100 images and for one scene, about 80 pass,
  10 are for review, 10 are blocked.
"""

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

_MARK = re.compile(rb"(?<![a-z0-9])([a-z_]{2,10})-(pass|review|block)(?![a-z0-9])")
_FAILURE_MARK = re.compile(
    rb"(?<![a-z0-9])image-(missing|forbidden|too-large|broken|slow|unjudged)(?![a-z0-9])"
)

FAILURES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "alibaba": {
        "missing": ("404", "NOT_FOUND"),
        "forbidden": ("403", "FORBIDDEN"),
        "too-large": ("589", "TOO_LARGE"),
        "broken": ("590", "BAD_FORMAT"),
        "slow": ("592", "DOWNLOAD_TIMEOUT"),
        "unjudged": ("586", "ALGO_FAILED"),
    },
    "tencent": {
        "missing": ("ResourceNotFound", "the resource does not exist"),
        "forbidden": ("ResourceDownloadFailed", "download failed with status 403"),
        "too-large": ("InvalidArgument", "the image exceeds the size limit"),
        "broken": ("InvalidContent", "the content is not an image"),
        "slow": ("ResourceDownloadFailed", "download timed out"),
        "unjudged": ("InternalError", "the image could not be audited"),
    },
    "huawei": {
        "missing": ("AIS.0029", "Failed to download the file from the Internet."),
        "forbidden": ("AIS.0024", "Obtaining the file from the OBS failed. Forbidden"),
        "too-large": ("AIS.0504", "The size of the image is not supported."),
        "broken": ("AIS.0503", "The image is damaged."),
        "slow": ("AIS.0029", "Failed to download the file from the Internet."),
        "unjudged": ("AIS.0505", "The algorithm failed."),
    },
}
"""Vendor and mark to the code and message of the failed item (vendors' pages; the choice of a code
for a cause is this emulator's where no page says)."""

_LABELS: Mapping[str, Mapping[tuple[str, str], tuple[str, str]]] = {
    "alibaba": {
        ("porn", "review"): ("sexy", ""),
        ("porn", "block"): ("porn", ""),
        ("terrorism", "review"): ("weapon", ""),
        ("terrorism", "block"): ("bloody", ""),
        ("ad", "review"): ("npx", ""),
        ("ad", "block"): ("ad", ""),
        ("qrcode", "review"): ("programCode", ""),
        ("qrcode", "block"): ("qrcode", ""),
        ("live", "review"): ("smoking", ""),
        ("live", "block"): ("drug", ""),
        ("logo", "review"): ("trademark", ""),
        ("logo", "block"): ("TV", ""),
    },
    "tencent": {
        ("porn", "review"): ("Porn", "SexyBehavior"),
        ("porn", "block"): ("Porn", "SexyHigh"),
        ("ad", "review"): ("Ads", "QRCode"),
        ("ad", "block"): ("Ads", "Contact"),
        ("terrorism", "review"): ("Terrorism", "Weapon"),
        ("terrorism", "block"): ("Terrorism", "Bloody"),
        ("politics", "review"): ("Politics", "Flag"),
        ("politics", "block"): ("Politics", "Figure"),
        ("quality", "review"): ("Quality", "Blurred"),
        ("quality", "block"): ("Quality", "Meaningless"),
    },
    "huawei": {
        ("porn", "pass"): ("normal", ""),
        ("porn", "review"): ("sexy", ""),
        ("porn", "block"): ("porn", ""),
        ("terrorism", "pass"): ("fire", ""),
        ("terrorism", "review"): ("knife", ""),
        ("terrorism", "block"): ("bloody", ""),
        ("politics", "pass"): ("figure", ""),
        ("politics", "review"): ("figure", ""),
        ("politics", "block"): ("figure", ""),
        ("ad", "pass"): ("text", ""),
        ("ad", "review"): ("text", ""),
        ("ad", "block"): ("qr_code", ""),
        ("image_text", "review"): ("text", ""),
        ("image_text", "block"): ("text", ""),
    },
}
_NOTHING_FOUND = {"alibaba": "normal", "tencent": "Normal", "huawei": "normal"}

_SCORES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "alibaba": {"pass": (7000, 9999), "review": (6000, 8999), "block": (9000, 9999)},
    "tencent": {"pass": (0, 60), "review": (61, 90), "block": (91, 100)},
    "huawei": {"pass": (100, 4900), "review": (5000, 8999), "block": (9000, 9999)},
}
"""Bounds of the score, both included: hundredths of a `rate`, a `Score`, ten thousandths of a
`confidence`. Tencent's bands are those of its page."""
_SCORE_UNITS = {"alibaba": 10_000, "tencent": 100, "huawei": 10_000}


class Truth(NamedTuple):
    """What the vendor answers for one image and one scene.

    `score` is the number of the answer over its full scale, in [0, 1]: Alibaba's `rate` is the
    confidence in `label`, Tencent's `Score` that in a violation, whatever the label; Huawei's
    `confidence` is that in `label`. Huawei v3 gives no detail, so no label and score, on a pass.
    """

    suggestion: str
    label: str
    sub_label: str
    score: float


class Seen(NamedTuple):
    """All that a vendor keeps of an image: enough for its verdict, and small."""

    digest: bytes
    suggestions: tuple[tuple[str, str], ...]
    failure: str


def see(image: str | bytes) -> Seen:
    """What matters of an image: its hash and its marks."""
    return _see_url(image) if isinstance(image, str) else _see_bytes(image)


@functools.lru_cache(maxsize=8192)
def _see_url(url: str) -> Seen:
    return _see_bytes(url.encode())


def _see_bytes(data: bytes) -> Seen:
    marks = {scene.decode(): word.decode() for scene, word in _MARK.findall(data)}
    failure = _FAILURE_MARK.search(data)
    digest = hashlib.sha256(data).digest()
    return Seen(digest, tuple(marks.items()), failure[1].decode() if failure else "")


def truth(vendor: str, image: str | bytes, scene: str) -> Truth:
    """The verdict of the vendor on an image, by its URL or its bytes.

    Args:
      vendor: `alibaba`, `tencent` or `huawei`.
      scene: `porn`, `terrorism`, `ad`, `politics`, …: one word for all three vendors.
    """
    return verdict(vendor, see(image), scene)


def failure(vendor: str, image: str | bytes) -> str | None:
    """The code with which the vendor fails on an image; None where it judges it."""
    mark = see(image).failure
    return FAILURES[vendor][mark][0] if mark else None


def verdict(vendor: str, seen: Seen, scene: str) -> Truth:
    """The verdict of the vendor on an image that it has seen."""
    chance = hashlib.blake2b(scene.encode(), key=seen.digest, digest_size=8).digest()
    suggestion = dict(seen.suggestions).get(scene) or _suggestion(chance[0])
    label, sub_label = _LABELS[vendor].get((scene, suggestion), (_NOTHING_FOUND[vendor], ""))
    if vendor == "huawei" and scene == "porn" and suggestion == "pass":
        return Truth(suggestion, label, sub_label, round(1 - _score(vendor, "pass", chance), 4))
    return Truth(suggestion, label, sub_label, _score(vendor, suggestion, chance))


def _suggestion(chance: int) -> str:
    if chance < 205:
        return "pass"
    return "review" if chance < 230 else "block"


def _score(vendor: str, suggestion: str, chance: bytes) -> float:
    lowest, highest = _SCORES[vendor][suggestion]
    step = int.from_bytes(chance[1:], "big") % (highest - lowest + 1)
    return (lowest + step) / _SCORE_UNITS[vendor]
