"""Keeps a vendor's answers, so that what was paid for once is never paid for again.

```
<url>/<provider>-<options>/<batch>/<answers>.json
```

A file holds what one response said of the items of its request, the ids of tasks among it. It is
on the disk before anybody acts on the response, appears as a whole, and is never changed. What an
item is asked is part of its key, so it does not matter how the items were cut into requests. A
stream's batches, which may be cut otherwise another time, share the folder of their block.
"""

import dataclasses
import hashlib
import json
import posixpath
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import fsspec

from beam_moderation import durable_files, errors, records
from beam_moderation.vendors import protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item, for good or, when the answer is `Pending`, for now.

    `latency_s` counts from the first call for the item to this answer.
    """

    answer: protocol.Answer
    attempts: int
    latency_s: float
    answered_at: float
    """Seconds since 1970."""

    def followed_by(self, answer: protocol.Answer) -> "Outcome":
        """The outcome when the task of this one has come to an end."""
        now = time.time()
        latency_s = self.latency_s + max(0.0, now - self.answered_at)
        return Outcome(answer, self.attempts, latency_s, now)


def item_key(item: protocol.Item) -> str:
    """A name for what is asked: the same for the same image under the same `data_id`."""
    content = item.sha256 or _sha256(item)
    return records.stable_id(item.data_id, item.url or "", item.object_key or "", content)


def without_bytes(item: protocol.Item) -> protocol.Item:
    """The item under the same key, without what takes memory."""
    return dataclasses.replace(item, content=None, sha256=item.sha256 or _sha256(item))


def _sha256(item: protocol.Item) -> str:
    return "" if item.content is None else hashlib.sha256(item.content).hexdigest()


def options_key(vendor: protocol.Vendor) -> str:
    """A name for what decides the verdicts: the fields by which two vendors compare as equal."""
    options: Any = vendor
    compared = [field.name for field in dataclasses.fields(options) if field.compare]
    values = {name: getattr(vendor, name) for name in compared}
    return records.stable_id(
        type(vendor).__name__, json.dumps(values, sort_keys=True, default=_plain)
    )


def _plain(value: Any) -> Any:
    """Options that JSON has no word for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return sorted(value) if isinstance(value, (set, frozenset)) else dict(value)


class Answers(Protocol):
    """Where the answers of a vendor are kept. Called in threads."""

    def read(self, batch_id: str) -> dict[str, Outcome]:
        """The outcomes of a batch by their items' keys; a final one hides a pending one."""

    def write(self, batch_id: str, outcomes: Mapping[str, Outcome]) -> None:
        """Keeps the outcomes that one response gave, by their items' keys."""


class RecentAnswers:
    """The answers on the latest batches, in this process alone: for who has no place for more."""

    MAX_BATCHES = 1024

    def __init__(self) -> None:
        self._batches: dict[str, dict[str, Outcome]] = {}
        self._lock = threading.Lock()

    def read(self, batch_id: str) -> dict[str, Outcome]:
        """The outcomes of a batch by their items' keys."""
        with self._lock:
            return dict(self._batches.get(batch_id, {}))

    def write(self, batch_id: str, outcomes: Mapping[str, Outcome]) -> None:
        """Keeps outcomes until many other batches came."""
        with self._lock:
            self._batches[batch_id] = {**self._batches.pop(batch_id, {}), **outcomes}
            if len(self._batches) > self.MAX_BATCHES:
                del self._batches[next(iter(self._batches))]


class KeptAnswers:
    """The answers of one vendor below an fsspec URL of the operator's.

    Raises:
      ConfigurationError: the URL's filesystem cannot be had.
    """

    MAX_FOLDERS = 64
    """Whose files are in memory: more than a worker has batches and partitions at a time."""

    def __init__(
        self,
        url: str,
        vendor: protocol.Vendor,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **(storage_options or {}))
        except (ImportError, ValueError, OSError) as error:
            raise errors.ConfigurationError(f"cannot keep answers in {url}: {error}") from error
        provider = re.sub(r"[^\w.]+", "-", vendor.provider)
        self._root = posixpath.join(root, f"{provider}-{options_key(vendor)}")
        self._lock = threading.Lock()
        self._recent: dict[str, dict[str, dict[str, Outcome]]] = {}

    def read(self, batch_id: str) -> dict[str, Outcome]:
        """The outcomes of a batch by their items' keys; a final one hides a pending one.

        Raises:
          ConfigurationError: a file is not what `write` makes.
        """
        outcomes: dict[str, Outcome] = {}
        folder = self._folder(batch_id)
        read = self._read_before(folder)
        for name in self._files(folder):
            if name not in read:
                read[name] = self._read_file(name)
            for key, outcome in read[name].items():
                if key not in outcomes or _finality(outcome) >= _finality(outcomes[key]):
                    outcomes[key] = outcome
        return outcomes

    def _read_before(self, folder: str) -> dict[str, dict[str, Outcome]]:
        """The files of a folder that were read already: a block is opened for each of its batches.

        Others are forgotten when many folders came since.
        """
        with self._lock:
            read = self._recent[folder] = self._recent.pop(folder, {})
            if len(self._recent) > self.MAX_FOLDERS:
                del self._recent[next(iter(self._recent))]
        return read

    def write(self, batch_id: str, outcomes: Mapping[str, Outcome]) -> None:
        """Keeps the outcomes that one response gave, by their items' keys."""
        folder = self._folder(batch_id)
        pending = [isinstance(o.answer, protocol.Pending) for o in outcomes.values()]
        name = records.stable_id(*sorted(outcomes), *map(str, pending)) + ".json"
        values = {key: _value(outcome) for key, outcome in outcomes.items()}
        content = json.dumps(values, ensure_ascii=False, indent=1).encode()
        durable_files.write(self._fs, posixpath.join(folder, name), content)

    def _folder(self, batch_id: str) -> str:
        if not re.fullmatch(r"[\w.=-]{1,200}", batch_id) or batch_id.startswith("."):
            raise ValueError(f"{batch_id!r} cannot be the name of a folder")
        return posixpath.join(self._root, batch_id)

    def _files(self, folder: str) -> Iterable[str]:
        self._fs.invalidate_cache(folder)
        try:
            names = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith(".json"))

    def _read_file(self, name: str) -> dict[str, Outcome]:
        try:
            values = json.loads(self._fs.cat_file(name))
            return {key: _outcome(value) for key, value in values.items()}
        except (ValueError, TypeError, LookupError, AttributeError, StopIteration) as error:
            raise errors.ConfigurationError(
                f"{name} holds no answers; without it they would be asked for, and paid, again"
            ) from error


_ANSWERS: Mapping[str, type[protocol.Judged] | type[protocol.Pending]] = {
    "judged": protocol.Judged,
    "pending": protocol.Pending,
}


def _finality(outcome: Outcome) -> int:
    """Which of several outcomes counts: a verdict is the last word, and was paid for."""
    return [protocol.Pending, protocol.Failed, protocol.Judged].index(type(outcome.answer))


def _value(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON has it."""
    value = {field.name: getattr(outcome, field.name) for field in dataclasses.fields(outcome)}
    answer = value.pop("answer")
    if isinstance(answer, protocol.Failed):
        error = answer.error
        failed = {"code": error.code, "message": str(error), "vendor_code": error.vendor_code}
        rest = {"task_id": answer.task_id, "request_id": answer.request_id, "scene": answer.scene}
        return {**value, "failed": {**failed, **rest}}
    name = next(name for name, kind in _ANSWERS.items() if isinstance(answer, kind))
    return {**value, name: dataclasses.asdict(answer)}


def _outcome(value: dict[str, Any]) -> Outcome:
    """The reverse of `_value`."""
    answer: protocol.Answer
    if "failed" in value:
        failed = value.pop("failed")
        code, message, vendor_code = (failed.pop(k) for k in ("code", "message", "vendor_code"))
        answer = protocol.Failed(_error(code)(message, vendor_code=vendor_code), **failed)
    elif "judged" in value:
        judged = value.pop("judged")
        verdicts = [_verdict(verdict) for verdict in judged.pop("verdicts")]
        answer = protocol.Judged(verdicts, **judged)
    else:
        answer = protocol.Pending(**value.pop("pending"))
    return Outcome(answer, **value)


def _verdict(value: dict[str, Any]) -> protocol.Verdict:
    findings = [records.Finding(*finding) for finding in value.pop("findings")]
    return protocol.Verdict(findings=findings, **value)


def _error(code: str) -> type[errors.VendorError]:
    """The class of vendor errors that has a code."""
    return next(kind for kind in _kinds(errors.VendorError) if kind.code == code)


def _kinds(kind: type[errors.VendorError]) -> Iterator[type[errors.VendorError]]:
    yield kind
    for more in kind.__subclasses__():
        yield from _kinds(more)
