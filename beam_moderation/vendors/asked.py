"""The items of a batch that a vendor is asked for, and how they are cut into requests."""

import collections
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from beam_moderation import errors
from beam_moderation.vendors import kept, protocol

_ITEM_BYTES = 512
"""Room for what a request says of an item beside its URL and its bytes."""


class Batch:
    """The items of a batch by their keys, without their bytes, and what is known of them so far.

    Args:
      earlier: what an earlier run was told, by the items' keys.
    """

    def __init__(self, batch_id: str, earlier: Mapping[str, kept.Outcome]) -> None:
        self.id = batch_id
        self.outcomes: dict[str, kept.Outcome] = {}
        self._earlier = earlier
        self._items: dict[str, protocol.Item] = {}
        self._looks: collections.Counter[str] = collections.Counter()

    def add(self, items: Iterable[protocol.Item]) -> list[protocol.Item]:
        """Takes items in; returns those that nothing is known of, each once."""
        fresh = []
        for item in items:
            key = kept.item_key(item)
            if key in self._items:
                continue
            self._items[key] = kept.without_bytes(item)
            if key in self._earlier:
                self.outcomes[key] = self._earlier[key]
            else:
                fresh.append(item)
        return fresh

    def tasks(self, items: Iterable[protocol.Item] | None = None) -> list[protocol.Task]:
        """The tasks without a result, of those items or of all, each with its items."""
        keys = self._items if items is None else map(kept.item_key, items)
        of_tasks = collections.defaultdict(list)
        for key in keys:
            outcome = self.outcomes.get(key)
            if outcome is not None and isinstance(outcome.answer, protocol.Pending):
                of_tasks[outcome.answer.task_id].append(self._items[key])
        return [protocol.Task(task_id, of_task) for task_id, of_task in of_tasks.items()]

    def ages_s(self, tasks: Iterable[protocol.Task]) -> tuple[float, float]:
        """How long ago the first and the last of some tasks were submitted."""
        keys = [kept.item_key(item) for task in tasks for item in task.items]
        submitted = [self.outcomes[key].answered_at for key in keys]
        now = time.time()
        return max(0.0, now - min(submitted)), max(0.0, now - max(submitted))

    def worth_another_look(self, key: str, answer: protocol.Answer, looks: int) -> bool:
        """Whether a task that failed, or whose result is unclear, is asked for once more.

        That costs nothing, and the failure may have been that of the call.
        """
        error = answer.error if isinstance(answer, protocol.Failed) else None
        if error is None or not error.retryable or isinstance(error, errors.VendorTaskGone):
            return False
        self._looks[key] += 1
        return self._looks[key] < looks


def cut(
    items: Sequence[protocol.Item], limits: protocol.Limits, max_items: int
) -> Iterator[list[protocol.Item]]:
    """The items in requests that a vendor takes, in their order but for those that go alone."""
    request: list[protocol.Item] = []
    request_bytes = 0
    for item in items:
        inline = limits.max_inline_bytes is not None and item.content is not None
        if inline and limits.inline_alone:
            yield [item]
            continue
        item_bytes = _request_bytes(item, inline)
        full = request_bytes + item_bytes > (limits.max_request_bytes or request_bytes + item_bytes)
        if request and (full or len(request) == max_items):
            yield request
            request, request_bytes = [], 0
        request.append(item)
        request_bytes += item_bytes
    if request:
        yield request


def _request_bytes(item: protocol.Item, inline: bool) -> int:
    """About how long an item is in a request, where bytes are written in base64."""
    content = len(item.content) * 4 // 3 if inline and item.content else 0
    return content + len(item.url or "") + _ITEM_BYTES
