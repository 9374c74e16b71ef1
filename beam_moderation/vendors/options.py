"""A vendor's options: what may be wrong with them, and those that a request is to name."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from beam_moderation import errors

_ADDRESS = re.compile(r"https?://[^\s/?#]+(/[^\s]*)?", re.IGNORECASE)


def check(vendor: str, problems: Iterable[str]) -> None:
    """Looks whether a vendor's options are such as it takes.

    Raises:
      ConfigurationError: there is a problem; it names the first.
    """
    for problem in problems:
        raise errors.ConfigurationError(f"{vendor}: {problem}")


def of_scenes(scenes: Sequence[str], known: Collection[str]) -> Iterator[str]:
    """What is wrong with the scenes to be judged."""
    if isinstance(scenes, str):
        yield f"scenes is a list, as [{scenes!r}]"
    if not scenes:
        yield f"name scenes to judge: {', '.join(known)}"
    for scene in {*scenes} - {*known}:
        yield unknown("scene", scene, known)
    if len({*scenes}) < len(scenes):
        yield "a scene is named twice"


def of_counts(**counts: int | None) -> Iterator[str]:
    """What is wrong with numbers of things, of which None is the vendor's own."""
    for name, count in counts.items():
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            yield f"{name} is a whole number from 1 on, not {count!r}"


def of_addresses(**addresses: str | None) -> Iterator[str]:
    """What is wrong with addresses of web servers."""
    for name, address in addresses.items():
        if address and not _ADDRESS.fullmatch(address):
            yield f"{name} is an address such as https://host.example:8080, not {address}"


def unknown(what: str, word: object, known: Collection[str]) -> str:
    """That a word is none of those that are known, and which may be meant."""
    close = difflib.get_close_matches(str(word), known, 1)
    hint = f"did you mean {close[0]}?" if close else f"the {what}s are {', '.join(known)}"
    return f"no {what} '{word}'; {hint}"


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that have a value; 0 and False are values."""
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [], ())}
