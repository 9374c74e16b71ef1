"""Contact data, links and listed words in a line of text, as advertisements write them.

Pure functions on text. Everything is matched on the line in Unicode's compatibility form (NFKC:
full-width digits and letters become ordinary) and case-folded, and blanks are tolerated where
recognised text has them too many or too few.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

CONTACT, LINK = "contact", "link"


class Match(NamedTuple):
    """A part of a line that counts.

    Attributes:
      label: `contact`, `link`, or that of a listed word.
      kind: what was recognised: `phone`, `email`, `url`, `wechat`, ...; `word` for listed words.
      text: the part, normalised.
    """

    label: str
    kind: str
    text: str


_TOP_LEVEL = (
    "ai app asia biz cc club cn co com de dev hk icu info io jp kr link live net online org ru shop"
    " site store top tv tw uk vip wang xin xyz"
).replace(" ", "|")
_ID = "(?:号码?|id|no\\.?|群|account)?"
_SAYS = r"\s*[:;=]\s*"
_PHONE = "(?<![a-z])(?:tel|phone|mobile|hotline|call)|电话|手机|热线|致电"
_DIGITS = r"\+?\d(?:[\s().-]{0,2}\d){6,14}"

# The first pattern that fits a part of a line names it: the more telling ones stand first.
_PATTERNS: Sequence[tuple[str, str, str]] = (
    # 6 to 20 characters, the first a letter; or a phone or QQ number.
    (
        CONTACT,
        "wechat",
        rf"(?:we\s?chat|weixin|微信|薇信|威信|加\s?[vw]x?|(?<![a-z])[vw]x)\s*{_ID}"
        rf"(?:{_SAYS}|\s*(?=[\w-]*[\d_]))([a-z][\w-]{{5,19}}|\d{{5,11}})",
    ),
    (CONTACT, "qq", rf"(?:(?<![a-z])qq|企鹅|扣扣)\s*{_ID}(?:{_SAYS}|\s*)[1-9]\d{{4,10}}(?!\d)"),
    (
        CONTACT,
        "telegram",
        rf"(?:telegram|电报|纸飞机|(?<![a-z])tg)\s*{_ID}(?:{_SAYS}@?|\s*@|\s*(?=\w*[\d_]))"
        r"[a-z]\w{4,31}",
    ),
    (CONTACT, "telegram", r"(?<![a-z0-9])t\.me/\+?\w+"),
    (CONTACT, "whatsapp", rf"whats\s?app\s*{_ID}(?:{_SAYS}|\s*){_DIGITS}"),
    (CONTACT, "whatsapp", r"(?<![a-z0-9])wa\.me/\d+"),
    (
        CONTACT,
        "messenger",
        rf"(?:(?<![a-z])line|skype|kakao|viber|snapchat)\s*{_ID}{_SAYS}@?[a-z0-9][\w.-]{{3,31}}",
    ),
    (CONTACT, "email", r"[a-z0-9][\w.+-]{0,63}\s?@\s?(?:[a-z0-9-]+\.\s?)+[a-z]{2,}"),
    # International numbers: at most 15 digits (ITU-T E.164).
    (CONTACT, "phone", r"\+\s?\d(?:[\s().-]{0,2}\d){6,14}(?!\d)"),
    # Mainland China: mobile 1[3-9] and nine more, service 400/800, trunk with area code.
    (CONTACT, "phone", r"(?<![\d.])1[3-9]\d(?:[\s-]?\d{4}){2}(?!\d)"),
    (CONTACT, "phone", r"(?<![\d.])[48]00[\s-]?(?:\d{3}[\s-]?\d{4}|\d{4}[\s-]?\d{3})(?!\d)"),
    (CONTACT, "phone", r"(?<!\d)\(?0\d{2,3}(?:\)\s?|[\s-])\d{7,8}(?!\d)"),
    # North America: area code, exchange and number, set apart.
    (CONTACT, "phone", r"(?<!\d)(?:1[\s.-])?(?:\(\d{3}\)\s?|\d{3}[\s.-])\d{3}[\s.-]\d{4}(?!\d)"),
    (CONTACT, "phone", rf"(?:{_PHONE})\D{{0,6}}{_DIGITS}"),
    (LINK, "url", r"https?\s?:\s?/\s?/\s?[^\s/]+\.[^\s]+"),
    (LINK, "url", r"(?<![a-z0-9])www\s?\.\s?[a-z0-9-]+\s?\.\s?[a-z0-9][^\s]*"),
    (
        LINK,
        "url",
        rf"(?<![a-z0-9@.-])(?:[a-z0-9-]{{2,63}}\.)+(?:{_TOP_LEVEL})(?![a-z0-9@-])(?:/\S*)?",
    ),
)
_COMPILED = [(label, kind, re.compile(pattern)) for label, kind, pattern in _PATTERNS]


def normalised(line: str) -> str:
    """The line as patterns and words are matched on it."""
    return unicodedata.normalize("NFKC", line).casefold()


def contacts(line: str) -> Iterator[Match]:
    """Contact data and links in a line, each part of it as what is recognised first."""
    text = normalised(line)
    taken: list[range] = []
    for label, kind, pattern in _COMPILED:
        for found in pattern.finditer(text):
            part = range(*found.span())
            if not any(part.start < other.stop and other.start < part.stop for other in taken):
                taken.append(part)
                yield Match(label, kind, found[0].strip())


class Words:
    """Words to look for. Picklable.

    A word of Latin letters or digits is found only where it stands by itself; one of Chinese,
    Japanese or Korean characters anywhere, blanks between them or not.

    Args:
      words: the words by the label that they give.
    """

    def __init__(self, words: Mapping[str, Iterable[str]]) -> None:
        self._patterns = [
            (label, re.compile("|".join(map(_pattern, listed))))
            for label, listed in ((label, [*some]) for label, some in words.items())
            if listed
        ]

    def matches(self, line: str) -> Iterator[Match]:
        """The listed words in a line."""
        text = normalised(line)
        for label, pattern in self._patterns:
            for found in pattern.finditer(text):
                yield Match(label, "word", found[0])


def _pattern(word: str) -> str:
    characters = "".join(normalised(word).split())
    apart = r"\s*".join(map(re.escape, characters))
    before = "(?<![a-z0-9])" if _stands_alone(characters[:1]) else ""
    after = "(?![a-z0-9])" if _stands_alone(characters[-1:]) else ""
    return before + apart + after


def _stands_alone(character: str) -> bool:
    return character.isascii() and character.isalnum()
