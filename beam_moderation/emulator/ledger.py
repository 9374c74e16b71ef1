"""What was asked of an emulated vendor, what it allowed, and what it will put on the bill."""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

from beam_moderation.emulator.settings import Settings


class OverQuota(Exception):
    """One call, image or call in flight more than the account may have."""


class SlidingSecond:
    """How much came in the last second, and the most that ever came in one.

    A window is half open: what came exactly one second ago is no longer in it.
    """

    def __init__(self) -> None:
        self.highest = 0
        self._events: collections.deque[tuple[float, int]] = collections.deque()
        self._sum = 0

    def add(self, now: float, amount: int = 1) -> None:
        """Notes an amount; one that comes out of order counts as the latest before it."""
        now = max(now, self._events[-1][0]) if self._events else now
        self._events.append((now, amount))
        self._sum += amount
        self.highest = max(self.highest, self.count(now))

    def count(self, now: float) -> int:
        """The amount of the second that ends now."""
        while self._events and self._events[0][0] <= now - 1:
            self._sum -= self._events.popleft()[1]
        return self._sum


class Ledger:
    """Counts calls, images, units and tasks, and holds the account to its quota.

    Times are those at which calls arrived, in seconds of a clock that never goes back. What arrived
    is counted apart from what was accepted: a refused call makes no later call refused, yet it is
    in the highest number of calls in a second.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._arrived: dict[str, SlidingSecond] = collections.defaultdict(SlidingSecond)
        self._accepted: dict[str, SlidingSecond] = collections.defaultdict(SlidingSecond)
        self._in_flight = 0
        self._highest_in_flight = 0
        self._billed_units = 0
        self._counts: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )

    @contextlib.contextmanager
    def call(self, operation: str, group: str, now: float) -> Iterator[None]:
        """Counts a call that arrived now, in flight while the context is open."""
        self.count("calls", operation)
        self._arrived[f"calls {operation}"].add(now)
        if not group:
            yield
            return
        self._arrived[group].add(now)
        self._in_flight += 1
        self._highest_in_flight = max(self._highest_in_flight, self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1

    def admit_call(self, group: str, now: float) -> None:
        """Accepts a call of `scan` or `feedback` that arrived now, or raises `OverQuota`."""
        settings = self._settings
        if settings.max_in_flight is not None and self._in_flight > settings.max_in_flight:
            raise OverQuota("in flight")
        limits = {"scan": settings.calls_per_second, "feedback": settings.feedback_per_second}
        self._admit(group, 1, limits[group], now)

    def admit_images(self, amount: int, now: float) -> None:
        """Accepts the images of a call that arrived now, or raises `OverQuota`."""
        self._arrived["images"].add(now, amount)
        self._admit("images", amount, self._settings.images_per_second, now)
        self.count("images", "accepted", amount)

    def judge(self, data_id: str, units: int) -> None:
        """Bills one image: a unit a scene."""
        self._billed_units += units
        self.count("judged_per_data_id", data_id)

    def count(self, table: str, key: str, amount: int = 1) -> None:
        """Adds to a table of the statistics."""
        self._counts[table][key] += amount

    def stats(self) -> dict[str, Any]:
        """All numbers so far, as the page `/_stats` shows them."""
        tables = ("calls", "refused", "faults", "callbacks", "judged_per_data_id")
        more = ("tasks_per_data_id", "feedback_per_image")
        return {
            "images": self._counts["images"]["accepted"],
            "billed_units": self._billed_units,
            "highest_calls_per_second": self._arrived["scan"].highest,
            "highest_feedback_per_second": self._arrived["feedback"].highest,
            "highest_images_per_second": self._arrived["images"].highest,
            "highest_calls_per_second_by_operation": {
                key.removeprefix("calls "): window.highest
                for key, window in self._arrived.items()
                if key.startswith("calls ")
            },
            "in_flight": self._in_flight,
            "highest_in_flight": self._highest_in_flight,
            **{table: dict(self._counts[table]) for table in (*tables, *more)},
        }

    def _admit(self, group: str, amount: int, limit: int | None, now: float) -> None:
        window = self._accepted[group]
        if limit is not None and window.count(now) + amount > limit:
            raise OverQuota(group)
        window.add(now, amount)
