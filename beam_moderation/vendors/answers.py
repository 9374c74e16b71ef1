"""Reading what vendors answer, strictly: what is not documented is malformed, never a `pass`."""

import collections
import contextlib
import email.utils
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import pydantic
import pydantic_core

from beam_moderation import errors, records, uris
from beam_moderation.vendors import protocol

Suggestion: TypeAlias = Literal["pass", "review", "block"]

T = TypeVar("T")
Model = TypeVar("Model", bound="Fields")


class Fields(pydantic.BaseModel):
    """Some fields of a vendor's object; all others are kept, unchecked, in `model_extra`."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    @property
    def others(self) -> dict[str, Any]:
        """The fields that no attribute stands for, by the names that the vendor gives them."""
        return self.model_extra or {}


def parse(model: type[Model], value: object) -> Model:
    """The fields of `model` in a part of an answer.

    Raises:
      VendorAnswerMalformed: one of them is missing or no value that the vendor documents.
    """
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        # The message of pydantic's own error quotes the answer.
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise errors.VendorAnswerMalformed(
            f"the answer's {place or 'item'} is no documented value ({first['type']})"
        ) from None


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8 that a body holds, without numbers that JSON cannot hold again.

    Raises:
      VendorAnswerMalformed: it holds none.
    """
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False)
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise errors.VendorAnswerMalformed("the answer is no JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise errors.VendorAnswerMalformed("the answer is no JSON object")
    return value


def text(fields: Mapping[str, Any], name: str) -> str | None:
    """A field that is text, None where there is none."""
    value = fields.get(name)
    return value if isinstance(value, str) else None


@contextlib.contextmanager
def of_one_decision(codes: Collection[str]) -> Iterator[None]:
    """Has a refusal with one of `codes` refuse the decision that was told, and no other call."""
    try:
        yield
    except errors.VendorRefusedRequest as error:
        if error.vendor_code not in codes:
            raise
        raise errors.VendorRefusedInput(str(error), vendor_code=error.vendor_code) from None


def is_web_address(url: str) -> bool:
    """Whether a text could be the address of an image in the web."""
    return url.isprintable() and re.match(r"https?://[^/\s]", url, re.IGNORECASE) is not None


def match(keys: Sequence[str], answers: Sequence[tuple[str | None, T]]) -> list[T | None]:
    """The answer to each key, None where there is none.

    Answers are found by name. Several of one name belong to the keys of that name in their order,
    where there are as many of each; otherwise they must be the same. An answer without a name
    belongs to the key at its place, where there are as many answers as keys.
    """
    found = collections.defaultdict(list)
    for place, (name, answer) in enumerate(answers):
        if name is not None:
            found[name].append(answer)
        elif len(answers) == len(keys):
            found[keys[place]].append(answer)
    asked = collections.Counter(keys)
    queues = {key: iter(_one_each(found[key], count)) for key, count in asked.items()}
    return [next(queues[key]) for key in keys]


def _one_each(found: Sequence[T], asked: int) -> Sequence[T | None]:
    if len(found) == asked:
        return found
    same = bool(found) and all(answer == found[0] for answer in found)
    return [found[0] if same else None] * asked


def wire_ids(
    items: Sequence[protocol.Item], taken: Callable[[str], bool], length: int
) -> list[str]:
    """An id for each item that the vendor takes and that is unique among them.

    It is the item's own `data_id` where that will do, and else a hash of it, the same at every
    call.

    Args:
      taken: whether the vendor takes an id as it is.
      length: how many hexadecimal digits of a hash the vendor takes.
    """
    ids: dict[str, None] = {}
    for place, item in enumerate(items):
        own = taken(item.data_id) and item.data_id not in ids
        hashed = records.stable_id(item.data_id, str(place))[:length]
        ids[item.data_id if own else hashed] = None
    return list(ids)


def key_in(scheme: str, bucket: str | None, uri: str) -> str | None:
    """The key in `scheme://bucket/key`; None for a URI of another scheme or another bucket."""
    if bucket is None or uris.scheme_of(uri) != scheme:
        return None
    try:
        of, key = uris.parse_object(uri)
    except errors.FetchError:
        return None
    return key if of == bucket else None


def unexplained(overall: str, scenes: Iterable[str]) -> str:
    """The suggestion on the whole image where no scene's is as bad, else `pass`.

    A vendor may block an image for a reason that it files under no scene, such as a list that the
    account is on; then no scene of the image passes.
    """
    explained = records.worst([*scenes, "pass"])
    return overall if records.worst([overall, explained]) != explained else "pass"


Kind: TypeAlias = type[errors.VendorError]


def kind_of_status(status: int) -> Kind:
    """The class of error that an HTTP status stands for where no code of the vendor's says more.

    A redirect would lead to another region's server, whose signature differs.
    """
    known: dict[int, Kind] = {
        400: errors.VendorAnswerMalformed,
        401: errors.VendorRefusedLogin,
        408: errors.VendorUnavailable,
        413: errors.VendorRefusedInput,
        429: errors.VendorThrottled,
    }
    if status < 300:
        return errors.VendorAnswerMalformed
    return known.get(
        status, errors.VendorUnavailable if status >= 500 else errors.VendorRefusedRequest
    )


def failure(
    kind: Kind, what: str, code: str = "", headers: Mapping[str, str] | None = None
) -> errors.VendorError:
    """An error of `kind` with the vendor's code, and its wish for a pause where it has one.

    The vendor's own message is left out: it may quote a signed URL.
    """
    code = re.sub(r"[^\w.\-]", "?", code[:64])
    message = f"{what} ({code})" if code else what
    if issubclass(kind, errors.VendorThrottled):
        return kind(message, vendor_code=code, retry_after_s=retry_after_s(headers or {}))
    return kind(message, vendor_code=code)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks for, by RFC 9110 section 10.2.3; None where it is absent.

    A date is counted from the answer's own `Date`, for our clock may differ.
    """
    wish = headers.get("retry-after", "")
    try:
        seconds = float(wish) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", wish) else _until(wish, headers)
    except (ValueError, TypeError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _until(date: str, headers: Mapping[str, str]) -> float:
    end = email.utils.parsedate_to_datetime(date)
    return (end - email.utils.parsedate_to_datetime(headers.get("date", ""))).total_seconds()
