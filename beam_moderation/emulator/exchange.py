"""A call to an emulated vendor, its answer, and what every vendor has to offer the server."""

import abc
import dataclasses
import hmac
import html
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from beam_moderation.emulator.callbacks import Callbacks
from beam_moderation.emulator.ledger import Ledger, OverQuota
from beam_moderation.emulator.settings import Settings

JSON = "application/json;charset=utf-8"
XML = "application/xml"

Item: TypeAlias = dict[str, Any]
"""What an answer says of one image, in the vendor's own words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived.

    `path` is percent-decoded and `query` form-decoded, in the order sent; header names are
    lower-case.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes
    arrived_at: float = 0.0
    """In seconds of a clock that never goes back."""

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer that a fault can still change: its items, and how they become a body."""

    status: int
    media_type: str
    render: Callable[[Sequence[Item]], bytes]
    items: Sequence[Item] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    error_code: str = ""


class Refused(Exception):
    """The vendor does not do what a call asks for; `reply` tells the caller."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.error_code)
        self.reply = reply


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a vendor's API.

    `handle` and `authenticate` raise `Refused`. `group` names the rate that the operation counts
    to: `scan`, `feedback`, or none when empty.
    """

    name: str
    method: str
    path: str
    handle: Callable[[Call], Reply]
    authenticate: Callable[[Call], None]
    group: str = "scan"


class Vendor(abc.ABC):
    """One vendor's API, without HTTP: calls in, replies out."""

    name: str

    def __init__(self, settings: Settings, ledger: Ledger, callbacks: Callbacks) -> None:
        self.settings = settings
        self.ledger = ledger
        self.callbacks = callbacks

    @property
    @abc.abstractmethod
    def operations(self) -> Sequence[Operation]:
        """The operations, the most specific path first."""

    @abc.abstractmethod
    def throttled(self) -> Reply:
        """The refusal of a call over quota."""

    @abc.abstractmethod
    def unavailable(self, status: int) -> Reply:
        """The vendor's own failure."""

    @abc.abstractmethod
    def failed(self, item: Item) -> Item:
        """The same item, failed on the vendor's side."""

    @abc.abstractmethod
    def without_scene(self, item: Item) -> Item:
        """The same item with one scene left out."""

    def images_throttled(self) -> Reply:
        """The refusal of more images than the account may have judged in a second."""
        return self.throttled()

    def answer(self, operation: Operation, call: Call) -> Reply:
        """Does what the call asks for, once it proved who asks, within the quota.

        Raises:
          Refused: the call is wrong, or over quota.
        """
        operation.authenticate(call)
        if operation.group:
            try:
                self.ledger.admit_call(operation.group, call.arrived_at)
            except OverQuota as error:
                raise Refused(self.throttled()) from error
        return operation.handle(call)

    def admit_images(self, call: Call, amount: int) -> None:
        """Takes the images of a call. Raises `Refused` over quota."""
        try:
            self.ledger.admit_images(amount, call.arrived_at)
        except OverQuota as error:
            raise Refused(self.images_throttled()) from error


def pick(item: Item, *names: str) -> Item:
    """The fields of those names that the item has."""
    return {name: item[name] for name in names if name in item}


def is_same(expected: str, sent: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing of them."""
    return hmac.compare_digest(expected.encode(), sent.encode())


def new_request_id() -> str:
    """An id in the form that Alibaba uses."""
    return str(uuid.uuid4()).upper()


def json_bytes(document: Any) -> bytes:
    """A document as compact UTF-8 JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def json_reply(document: Any, status: int = 200, error_code: str = "") -> Reply:
    """A reply without items."""
    body = json_bytes(document)
    return Reply(status, JSON, lambda _: body, error_code=error_code)


def xml_text(tag: str, value: Any) -> str:
    """An element of a text, of a mapping, or one element for every member of a list."""
    if isinstance(value, list):
        return "".join(xml_text(tag, member) for member in value)
    if isinstance(value, dict):
        return f"<{tag}>{''.join(xml_text(key, member) for key, member in value.items())}</{tag}>"
    return f"<{tag}>{html.escape(str(value), quote=False)}</{tag}>"
