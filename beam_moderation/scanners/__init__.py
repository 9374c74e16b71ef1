"""Local judges that need no model of the operator's: QR codes, text, nudity.

Each is an optional extra, whose package is imported when the scanner is made or loaded. Nothing is
downloaded at run time: models come with the packages.
"""

from collections.abc import Callable, Mapping
from typing import Any

from beam_moderation import errors, judges
from beam_moderation.scanners.nudity import Nudity
from beam_moderation.scanners.qrcode import QrCode
from beam_moderation.scanners.text import Text

__all__ = ["SCANNERS", "Nudity", "QrCode", "Text", "by_name"]

SCANNERS: Mapping[str, Callable[..., judges.Judge]] = {
    "nudity": Nudity,
    "qrcode": QrCode,
    "text": Text,
}
"""What can be asked for by name."""


def by_name(name: str, **options: Any) -> judges.Judge:
    """The scanner of that name.

    Args:
      name: a key of `SCANNERS`.
      options: the scanner's own.

    Raises:
      ConfigurationError: there is none of that name, or its extra is not installed.
    """
    if name not in SCANNERS:
        raise errors.ConfigurationError(f"no scanner '{name}'; there are {', '.join(SCANNERS)}")
    return SCANNERS[name](**options)
