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
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import fsspec
import pydantic

from beam_moderation import durable_files, errors, records
from beam_moderation.vendors import protocol

UNKNOWN, TAKEN, REFUSED = "unknown", "taken", "refused"


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
    vendor_label: str = ""
    task_id: str | None = None
    note: str = ""
    moderated_at: datetime.datetime | None = None
    decision_id: str | None = None

    @pydantic.field_validator("scenes", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value


def read_row(row: Mapping[str, Any]) -> Decision:
    """The decision of a row: `uri` and `suggestion`, and as far as known the other columns.

    `scenes` (or one `scene`) is a list, or text with commas; `label` is what it ought to be and
    `vendor_label` what the vendor gave. Without a `decision_id` all that is told is the id.

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
    fields = read.model_dump(exclude={"decision_id", "uri"})
    return Decision(records.stable_id(name), protocol.Human(url=read.uri, **fields))


class Markers:
    """The markers of one vendor's decisions below an fsspec URL. Picklable.

    Raises:
      ConfigurationError: the URL's filesystem cannot be had.
    """

    def __init__(self, url: str, vendor_name: str) -> None:
        self._url, self._vendor_name = url, vendor_name
        self._open()

    def __getstate__(self) -> tuple[str, str]:
        return self._url, self._vendor_name

    def __setstate__(self, state: tuple[str, str]) -> None:
        self._url, self._vendor_name = state
        self._open()

    def _open(self) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError, OSError) as error:
            raise errors.ConfigurationError(f"cannot use {self._url}: {error}") from error
        self._root = posixpath.join(root, self._vendor_name)

    def begin(self, decision: Decision) -> str | None:
        """Marks a decision as about to be told; the marker's state where it has one already."""
        path = self._path(decision)
        if durable_files.create(self._fs, path, _content(decision, UNKNOWN)):
            return None
        state: str = json.loads(self._fs.cat_file(path))["state"]
        return state

    def end(self, decision: Decision, state: str, message: str = "") -> None:
        """Marks what became of a decision."""
        durable_files.write(self._fs, self._path(decision), _content(decision, state, message))

    def forget(self, decision: Decision) -> None:
        """Says that the vendor was not told."""
        self._fs.rm_file(self._path(decision))

    def _path(self, decision: Decision) -> str:
        return posixpath.join(self._root, decision.id[:2], f"{decision.id}.json")


def _content(decision: Decision, state: str, message: str = "") -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    told = {"uri": decision.human.url, "suggestion": decision.human.suggestion}
    return json.dumps({"state": state, "at": now, **told, "message": message}).encode()
