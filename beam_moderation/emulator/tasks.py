"""Asynchronous tasks: made at once, finished after a while, forgotten in the end."""

import dataclasses
import hashlib
import heapq
import itertools
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One task or job; times are seconds since 1970."""

    task_id: str
    work: Any
    """What the vendor needs to answer."""
    created_at: float
    ready_at: float
    expires_at: float


class Tasks:
    """The tasks of one vendor.

    Args:
      name_task: makes a task's id of a hexadecimal text that no other task has.
      task_s: the mean time a task takes; each takes between half and one and a half times that.
      life_s: how long the result is kept.
    """

    def __init__(
        self,
        name_task: Callable[[str], str],
        task_s: float,
        life_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._name_task = name_task
        self._task_s = task_s
        self._life_s = life_s
        self._clock = clock
        self._numbers = itertools.count(int(clock() * 1_000_000))
        self._tasks: dict[str, Task] = {}
        self._unfinished: list[float] = []

    def add(self, work: Any) -> Task:
        """Makes a task."""
        name = hashlib.md5(str(next(self._numbers)).encode(), usedforsecurity=False).hexdigest()
        now = self._clock()
        ready_at = now + self._task_s * (0.5 + int(name[:4], 16) / 0x10000)
        task = Task(self._name_task(name), work, now, ready_at, ready_at + self._life_s)
        self._tasks[task.task_id] = task
        heapq.heappush(self._unfinished, ready_at)
        return task

    def find(self, task_id: str) -> Task | None:
        """The task of that id, expired ones too; None for an id that was never given."""
        return self._tasks.get(task_id)

    def all(self) -> list[Task]:
        """All tasks that are still kept, the oldest first."""
        return [task for task in self._tasks.values() if not self.is_expired(task)]

    def is_ready(self, task: Task) -> bool:
        """Whether the vendor is done with the task."""
        return self._clock() >= task.ready_at

    def is_expired(self, task: Task) -> bool:
        """Whether the result is no longer kept."""
        return self._clock() >= task.expires_at

    def count_unfinished(self) -> int:
        """How many tasks are not ready."""
        while self._unfinished and self._unfinished[0] <= self._clock():
            heapq.heappop(self._unfinished)
        return len(self._unfinished)
