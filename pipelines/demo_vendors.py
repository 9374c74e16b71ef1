"""The vendors of the demo: servers on loopback that speak their protocols, and what each must say.

Such a server's verdict is a function of the image's bytes, so the outcome of every image is known
beforehand: that of `emulator.truth`, or a dead letter for what the vendor's page does not take.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from beam_moderation import emulator
from beam_moderation.emulator.formats import image_format

KEYS = {"key_id": "testid", "key_secret": "testsecret"}
"""What the servers let in, and nobody else does."""

REFUSED = "vendor-refused-input"

_PASS = "pass"  # noqa: S105
_EVERYWHERE = frozenset({"PNG", "JPEG", "BMP"})


class Demonstrated(NamedTuple):
    """A vendor as the demo asks it: by which options, for which scenes, with which formats."""

    options: Sequence[str]
    scenes: Sequence[str]
    formats: frozenset[str] = _EVERYWHERE | {"GIF", "WEBP"}


VENDORS: Mapping[str, Demonstrated] = {
    "alibaba": Demonstrated(["--region=cn-shanghai"], ["porn", "terrorism", "ad"]),
    "tencent": Demonstrated(
        ["--region=ap-guangzhou", "--vendor-option=bucket=photos-1250000000"], ["porn", "ad"]
    ),
    "huawei": Demonstrated(["--region=cn-north-4"], ["porn", "terrorism"], _EVERYWHERE),
}
"""By name; the formats are those of the vendors' pages."""


def arguments(vendor: str, url: str, credentials: str) -> list[str]:
    """What the command `backfill` is told to have images judged by the server at a URL."""
    asked = VENDORS[vendor]
    return [
        *("--vendor", vendor, *asked.options),
        *(f"--scene={scene}" for scene in asked.scenes),
        *("--endpoint", url, "--credentials", credentials),
    ]


def expected(vendor: str, content: bytes | None, locally: str) -> str:
    """The outcome of a file, in the words of the column `expected`.

    Args:
      content: of the file; None: there is none.
      locally: what is expected of local scanners. A dead letter for a file that cannot be had, or
        that is no image, is the same here; of a broken one only the vendor finds out.
    """
    if content is None or not _is_sent(locally):
        return locally
    if image_format(content) not in VENDORS[vendor].formats or emulator.failure(vendor, content):
        return REFUSED
    flags = (_flag(vendor, content, scene) for scene in sorted(VENDORS[vendor].scenes))
    return ",".join(filter(None, flags)) or _PASS


def _is_sent(locally: str) -> bool:
    return locally in (_PASS, "image-broken") or "=" in locally


def _flag(vendor: str, content: bytes, scene: str) -> str | None:
    true = emulator.truth(vendor, content, scene)
    if true.suggestion == _PASS:
        return None
    labels = {true.label, true.sub_label} - {""}
    if (vendor, scene) == ("huawei", "porn"):
        labels = {"porn", "sexy"}  # all that are not normal are listed, whichever it is
    return f"{scene}:{'+'.join(sorted(labels))}={true.suggestion}"
