"""What a vendor is: requests built and answers read by pure functions, one file a vendor.

Nothing here opens a socket. The paced lane sends the requests, retries, and keeps the answers; a
vendor's file translates its words, its signatures and its errors, and that is all.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from beam_moderation import errors, records


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to be sent as it is."""

    method: str
    url: str
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response with its whole body; header names are lower-case."""

    status: int
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """A vendor's key pair, and the token of a temporary one. Never shown by `repr`.

    Where `domain` is given, the pair is a user's name and password in that account, which a
    `Login` exchanges for credentials that have a `login_token`.
    """

    key_id: str = dataclasses.field(repr=False)
    key_secret: str = dataclasses.field(repr=False)
    security_token: str | None = dataclasses.field(default=None, repr=False)
    domain: str | None = dataclasses.field(default=None, repr=False)
    login_token: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """What a vendor lends for a while: credentials, and for uploads the place they open."""

    credentials: Credentials
    expires_at: float
    """Seconds since 1970."""
    place: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One image as a vendor is given it: by URL, by key in the operator's bucket, or by its bytes.

    `sha256` is that of the bytes and stays when they are let go. `stored` is where the vendor's own
    store has them, once they are uploaded. `created_at`, in seconds since 1970, and `client_info`,
    by the vendor's names, are for its records alone: they change no verdict.
    """

    data_id: str
    url: str | None = None
    object_key: str | None = None
    content: bytes | None = dataclasses.field(default=None, repr=False)
    sha256: str = ""
    stored: str | None = None
    created_at: float | None = None
    client_info: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a vendor says of one image and one scene.

    `score` is the confidence in `label`, in [0, 1]; `label`, `sub_label` and `suggestion` are kept
    as the vendor gives them (`suggestion` in pass, review, block); `detail` holds the documented
    further fields of the answer. `floor` is what the vendor says of the whole image where no scene
    explains it: no policy makes the suggestion milder than that.
    """

    scene: str
    label: str
    score: float
    suggestion: str
    sub_label: str = ""
    findings: Sequence[records.Finding] = ()
    detail: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    floor: str = "pass"


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """The vendor's verdicts on one item: one for every scene that was asked for."""

    verdicts: Sequence[Verdict]
    task_id: str | None = None
    request_id: str | None = None
    billed_units: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """The vendor took the item and will have its verdict under `task_id`."""

    task_id: str
    request_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A task or job at the vendor, and the items whose verdicts it will have."""

    task_id: str
    items: Sequence[Item]


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """The vendor has no verdict on this item, or not on `scene` of it, and why."""

    error: errors.VendorError
    task_id: str | None = None
    request_id: str | None = None
    scene: str | None = None


Answer: TypeAlias = Judged | Pending | Failed


@dataclasses.dataclass(frozen=True, slots=True)
class Human:
    """A person's decision on an image, to be told to the vendor that judged it."""

    url: str
    suggestion: str
    scenes: Sequence[str] = ()
    label: str = ""
    vendor_label: str = ""
    task_id: str | None = None
    note: str = ""
    moderated_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a vendor takes: images a request, and of one image the bytes, pixels and formats."""

    max_items: int
    max_bytes: int
    formats: frozenset[str]
    max_pixels: int | None = None
    max_side: int | None = None
    max_gif_pixels: int | None = None
    """Of a GIF's picture, where it may have fewer than others."""
    max_inline_bytes: int | None = None
    """Bytes of one image sent inline; None where a vendor takes no inline bytes."""
    max_request_bytes: int | None = None
    inline_alone: bool = False
    """Whether an image sent inline needs a request of its own."""
    timeout_s: float = 15.0
    """How long a call may take, from its first byte sent to its last byte received."""
    first_look_s: float = 30.0
    """How long after its submission a task is asked for first, and then every `look_every_s`."""
    look_every_s: float = 5.0
    results_kept_s: float = 3600.0
    max_tasks: int = 1
    """Tasks whose results are asked for in one request."""
    max_unfinished: int | None = None
    """Requests whose tasks may be without a result at a time, of the whole account."""


class Vendor(Protocol):
    """A vendor's API in one mode, synchronous or asynchronous. Picklable; holds no credentials.

    `read_*` raise a `VendorError` when the request as a whole failed; what failed for one item
    alone is that item's `Failed`. HTTP 200 proves nothing.
    """

    @property
    def name(self) -> str:
        """The vendor, as the command line names it."""

    @property
    def provider(self) -> str:
        """What the tables show: the name with the API's version, as `alibaba/2018-05-09`."""

    @property
    def scenes(self) -> Sequence[str]:
        """What is looked for; every one of them has a verdict in a `Judged`."""

    @property
    def asynchronous(self) -> bool:
        """Whether images are taken at once and judged later."""

    @property
    def limits(self) -> Limits:
        """What the vendor takes."""

    def scan(
        self, items: Sequence[Item], credentials: Credentials, now: float, nonce: str
    ) -> Request:
        """The request that has up to `limits.max_items` items judged.

        Signed at `now`, in seconds since 1970; `nonce` is unique for the call.

        Raises:
          VendorRefusedInput: an item is one that the vendor would never take.
        """

    def read_scan(self, items: Sequence[Item], response: Response) -> Sequence[Answer]:
        """The answer to each item of `scan`, in their order."""

    def query(
        self, tasks: Sequence[Task], credentials: Credentials, now: float, nonce: str
    ) -> Request:
        """The request that asks for the results of up to `limits.max_tasks` tasks."""

    def read_query(
        self, tasks: Sequence[Task], response: Response
    ) -> Sequence[tuple[Item, Answer]]:
        """The answer to each item of the tasks that a request of `query` asked for."""

    def feedback(self, human: Human, credentials: Credentials, now: float, nonce: str) -> Request:
        """The request that tells the vendor of a person's decision."""

    def read_feedback(self, response: Response) -> None:
        """Raises a `VendorError` unless the vendor took the decision."""


@runtime_checkable
class Login(Protocol):
    """A vendor that exchanges some credentials for a short-lived login before any other call."""

    def login(self, credentials: Credentials, now: float, nonce: str) -> Request | None:
        """The request that logs in; None where `credentials` sign the calls as they are."""

    def read_login(self, credentials: Credentials, response: Response) -> Grant:
        """The credentials to call with until the grant ends."""


@runtime_checkable
class Uploads(Protocol):
    """A vendor that takes an image's bytes only through a store of its own."""

    def upload_grant(self, credentials: Credentials, now: float, nonce: str) -> Request:
        """The request for leave to upload."""

    def read_upload_grant(self, response: Response) -> Grant:
        """The leave to upload: credentials for the store, and the place in it."""

    def upload(self, item: Item, grant: Grant, now: float) -> tuple[Request, Item]:
        """The request that stores the item's bytes, and the item with where it is stored.

        The place depends on the bytes alone: an upload that is repeated overwrites itself.
        """

    def read_upload(self, response: Response) -> None:
        """Raises a `VendorError` unless the store took the bytes."""


@runtime_checkable
class Stores(Protocol):
    """A vendor that reads images from a bucket of the operator's in its own object store."""

    def object_key(self, uri: str) -> str | None:
        """The key of an image in the bucket that was configured; None for any other URI."""


@runtime_checkable
class Callbacks(Protocol):
    """A vendor that posts the results of tasks to an address of ours."""

    @property
    def callback(self) -> str | None:
        """That address; None where the vendor is given none."""

    def read_callback(self, task: Task, content: bytes) -> Sequence[tuple[Item, Answer]]:
        """The answers that a delivery holds, whose origin the receiver has proved."""
