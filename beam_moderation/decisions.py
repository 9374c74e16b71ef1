"""What people decided on images, and what became of telling the vendor: rows and markers.

A decision has a marker, a small file named by the decision's id, which is there before the vendor
is told. It says what is known:

- `unknown`: the vendor may have been told, and nobody knows whether it was. That is what is left of
  a run that was killed in the middle of a call, and of a call without a readable answer.
- `taken`: the vendor said that it took the decision.
- `refused`: the vendor said that it never will.

No vendor can be asked what it was told, so of an unknown decision one can only choose whether to
tell it again, perhaps twice, or not, perhaps never.
"""

import datetime
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import fsspec
import pydantic

from beam_moderation import durable_files, errors, records
from beam_moderation.vendors import protocol

State: TypeAlias = Literal["unknown", "taken", "refused"]
"""What a marker says."""

UNKNOWN: State = "unknown"
TAKEN: State = "taken"
REFUSED: State = "refused"


class Decision(NamedTuple):
    """A person's decision with a name that is the same in every run."""

    id: str
    human: protocol.Human


class _Row(pydantic.BaseModel):
    """A row of the table of decisions, by the names of the product's own tables."""

    model_config = pydantic.ConfigDict(extra="ignore", str_strip_whitespace=True)

    uri: str = pydantic.Field(min_length=1)
    suggestion: Literal["pass", "review", "block"]
    scenes: list[str] = []
    label: str = ""
    right_label: str = ""
    task_id: str | None = None
    note: str = ""
    moderated_at: datetime.datetime | None = None
    decision_id: Annotated[str | None, pydantic.Field(coerce_numbers_to_str=True)] = None

    @pydantic.field_validator("scenes", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value


COLUMNS = ("scene", *_Row.model_fields)
"""The columns of a table of decisions that matter."""

REQUIRED = ("uri", "suggestion")
"""Those that every such table has."""


def read_row(row: Mapping[str, Any]) -> Decision:
    """The decision of a row: `uri` and `suggestion`, and as far as known the other `COLUMNS`.

    `scenes` (or one `scene`) is a list, or text with commas. `label` is what the vendor gave, as in
    the table `scenes`, and `right_label` what it ought to be. Without a `decision_id` all that is
    told is the id.

    Raises:
      ReferenceInvalid: the row is no decision.
    """
    known = {name: value for name, value in row.items() if value is not None}
    try:
        read = _Row.model_validate({"scenes": known.get("scene", []), **known})
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise errors.ReferenceInvalid("decision-invalid", f"{place}: {first['msg']}") from None
    told = read.model_dump(mode="json", exclude={"decision_id"})
    name = read.decision_id or json.dumps(told, sort_keys=True)
    human = protocol.Human(
        url=read.uri,
        suggestion=read.suggestion,
        scenes=read.scenes,
        label=read.right_label,
        vendor_label=read.label,
        task_id=read.task_id,
        note=read.note,
        moderated_at=read.moderated_at,
    )
    return Decision(records.stable_id(name), human)


class Markers:
    """The markers of what one vendor was told, below an fsspec URL.

    Regions, and Tencent's buckets, are accounts of their own with the vendor, so each has its own
    folder.

    Raises:
      ConfigurationError: the URL's filesystem cannot be had.
    """

    def __init__(self, url: str, vendor: protocol.Vendor) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise errors.ConfigurationError(f"cannot use {url}: {error}") from error
        self._url = url
        self._root = posixpath.join(root, _account(vendor))

    def make(self) -> None:
        """Makes the folder.

        Raises:
          ConfigurationError: nothing can be written there.
        """
        try:
            durable_files.make_folder(self._fs, self._root)
        except OSError as error:
            raise errors.ConfigurationError(f"cannot write to {self._url}: {error}") from error

    def begin(self, decision: Decision) -> State | None:
        """Marks a decision as about to be told; the marker's state where it has one already."""
        path = self._path(decision)
        if durable_files.create(self._fs, path, _content(decision, UNKNOWN)):
            return None
        return _state(self._fs.cat_file(path))

    def end(self, decision: Decision, state: State, message: str = "") -> None:
        """Marks what became of a decision."""
        durable_files.write(self._fs, self._path(decision), _content(decision, state, message))

    def forget(self, decision: Decision) -> None:
        """Says that the vendor was not told."""
        self._fs.rm_file(self._path(decision))

    def _path(self, decision: Decision) -> str:
        return posixpath.join(self._root, decision.id[:2], f"{decision.id}.json")


def _account(vendor: protocol.Vendor) -> str:
    """A folder's name for whom the vendor takes decisions from."""
    words = (vendor.name, *(getattr(vendor, name, None) for name in ("region", "bucket")))
    return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, words)))


def _state(marker: bytes) -> State:
    """What a marker says; of one that a failing disk left half there, nothing is known."""
    try:
        state = json.loads(marker)["state"]
    except (ValueError, LookupError, TypeError):
        return UNKNOWN
    return state if state in (TAKEN, REFUSED) else UNKNOWN


def _content(decision: Decision, state: State, message: str = "") -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    told = {"uri": decision.human.url, "suggestion": decision.human.suggestion}
    return json.dumps({"state": state, "at": now, **told, "message": message}).encode()
