"""What a process keeps standing from bundle to bundle: one worker a job and lane.

Beam's `Shared` keeps one object a process alive. Of several lanes all but one would be made anew
for each bundle, not knowing which calls left a moment ago.
"""

import dataclasses
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar


class Worker(Protocol):
    """What stands."""

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""

    def close(self) -> None:
        """Ends it."""


W = TypeVar("W", bound=Worker)


@dataclasses.dataclass(frozen=True)
class _Place:
    worker: Any
    users: "weakref.WeakSet[object]" = dataclasses.field(default_factory=weakref.WeakSet)


_places: dict[tuple[str, int], _Place] = {}
_lock = threading.Lock()


def acquire(job: str, lane: int, user: object, make: Callable[[], W]) -> W:
    """The worker of a lane, made where there is none yet.

    It stands though nobody uses it, for the next bundle may come. When a worker is made, those are
    closed that are idle and whose jobs have no user that is alive.
    """
    with _lock:
        left = []
        if (job, lane) not in _places:
            _places[job, lane] = _Place(make())
            left = _take_left(job)
        place = _places[job, lane]
        place.users.add(user)
    for worker in left:
        worker.close()
    made: W = place.worker
    return made


def workers(job: str) -> list[Any]:
    """The workers that stand for a job."""
    with _lock:
        return [place.worker for (of, _), place in _places.items() if of == job]


def _take_left(job: str) -> list[Worker]:
    """Takes out the workers of other jobs that nobody will ask for again."""
    used = {job, *(job for (job, _), place in _places.items() if place.users)}
    left = [key for key, place in _places.items() if key[0] not in used and place.worker.idle]
    return [_places.pop(key).worker for key in left]
