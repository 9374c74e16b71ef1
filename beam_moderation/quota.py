"""A vendor's quota, and the pacer that keeps every call of one lane within it.

The bound is exact where it matters, at the moment of sending: a call may leave only when the
N-th last one left more than a second ago. Timers that fire late can therefore cost a little of the
quota and never exceed it.
"""

import asyncio
import collections
import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator

from beam_moderation import errors

_WINDOW_S = 1.02
"""The second, and a margin for calls that travel at different speeds; it uses 98 % of a quota."""

_FULL_PACE = 1.1
"""Calls are spread over the second by this multiple of the quota's rate, so that what a stalled
event loop left out is caught up within the window and not in one burst."""

_CATCH_UP_S = 0.03
"""How much of a stall may be made good at once."""

_SLOWEST_PACE = 0.02
_RECOVERY_PER_S = 0.02
"""Additive increase: a halved pace is back at the whole quota after about half a minute."""

_PAUSE_S = 1.0
"""How long a lane pauses when a vendor throttles it and does not say for how long."""

_LONGEST_PAUSE_S = 60.0
"""The longest wish of a vendor's that is granted at once; then it is asked again."""

_LOOKAHEAD_S = 0.25
"""Calls that would leave within this time may connect already; the others wait without one."""


@dataclasses.dataclass(frozen=True)
class Quota:
    """What a vendor's account allows to the whole job.

    `calls_per_second` and `images_per_second` hold for every sliding second, `max_in_flight` at
    every moment. `lanes` is the number of workers that share the quota, each with its own part.

    Raises:
      ConfigurationError: a number below one, or more lanes than there is quota to share.
    """

    calls_per_second: int
    images_per_second: int | None = None
    max_in_flight: int = 32
    lanes: int = 1

    def __post_init__(self) -> None:
        for name in ("calls_per_second", "images_per_second", "max_in_flight", "lanes"):
            value = getattr(self, name)
            if value is None and name == "images_per_second":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise errors.ConfigurationError(
                    f"quota: {name} must be a whole number from 1 on, not {value!r}"
                )
            if value < self.lanes:
                raise errors.ConfigurationError(
                    f"quota: {self.lanes} lanes cannot share {name}={value}; use fewer lanes"
                )

    def share(self, lane: int) -> "Quota":
        """The part of lane number `lane`, from 0 on; the parts add up to the whole."""

        def part(whole: int) -> int:
            return whole // self.lanes + (lane < whole % self.lanes)

        images = self.images_per_second
        return Quota(
            part(self.calls_per_second),
            None if images is None else part(images),
            part(self.max_in_flight),
        )

    def items_a_call(self, max_items: int) -> int:
        """The largest call of at most `max_items` images that leaves none of the quota unused.

        With 250 images a second and calls of up to 100, calls of 83: three of them fit a second.
        """
        if self.images_per_second is None:
            return max_items
        return self.images_per_second // math.ceil(self.images_per_second / max_items)


class Turn:
    """A call's turn to leave.

    `left_at` is when the call left, by the loop's clock; None while it has not.
    """

    def __init__(self, pacer: "Pacer", images: int) -> None:
        self.left_at: float | None = None
        self.images = images
        self._pacer = pacer

    async def leave(self) -> None:
        """Returns when the call may be sent, and counts it as sent at that moment."""
        first = self.left_at is None
        await self._pacer.leave(self)
        if first:
            self._pacer.let_next_connect()

    def sent(self) -> None:
        """Says that the call is being written only now, as when the loop stood still meanwhile."""
        self.left_at = _now()

    def done(self) -> None:
        """Lets the next call connect if this one never left."""
        if self.left_at is None:
            self._pacer.let_next_connect()


class Pacer:
    """Paces the calls of one lane; belongs to one event loop and tells the time by its clock."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.throttled_s = 0.0
        """How long calls stood ready in all and had to wait for the quota or the vendor."""
        self._places = asyncio.Semaphore(quota.max_in_flight)
        ahead = max(2, math.ceil(quota.calls_per_second * _LOOKAHEAD_S))
        self._ahead = asyncio.Semaphore(ahead)
        self._gate = asyncio.Lock()
        self._calls: collections.deque[Turn] = collections.deque(maxlen=quota.calls_per_second)
        self._images: collections.deque[Turn] = collections.deque()
        self._slot = -math.inf
        self._paused_until = -math.inf
        self._pace = _FULL_PACE
        self._pace_at = -math.inf
        self._slowed_at = -math.inf

    @contextlib.asynccontextmanager
    async def place(self, images: int) -> AsyncIterator[Turn]:
        """A place in flight for a call that has `images` images judged.

        Inside, await `Turn.leave` when the connection stands and the request is ready to be sent.

        Raises:
          ValueError: more images than the quota allows in any second.
        """
        if images > (self.quota.images_per_second or images):
            raise ValueError(f"a call of {images} images is above {self.quota}")
        async with self._places:
            await self._ahead.acquire()
            turn = Turn(self, images)
            try:
                yield turn
            finally:
                turn.done()

    def let_next_connect(self) -> None:
        """Says that a call no longer stands ready with its connection."""
        self._ahead.release()

    async def leave(self, turn: Turn) -> None:
        """Waits for the turn of a call, first come first served."""
        async with self._gate:
            began = now = _now()
            while (wait_s := self._due(now, turn.images) - now) > 0:
                await asyncio.sleep(wait_s)
                now = _now()
            self.throttled_s += now - began
            self._count(turn, now)

    def throttled(self, turn: Turn, retry_after_s: float | None = None) -> None:
        """Pauses, and halves the pace, because the vendor throttled the call of `turn`.

        The answers to calls that left before the pace was last halved only prolong the pause.
        """
        now = _now()
        pause_s = min(_PAUSE_S if retry_after_s is None else retry_after_s, _LONGEST_PAUSE_S)
        self._paused_until = max(self._paused_until, now + pause_s)
        if turn.left_at is not None and turn.left_at > self._slowed_at:
            self._pace = max(_SLOWEST_PACE, min(1.0, self._pace_now(now)) / 2)
            self._slowed_at = self._pace_at = now

    def _due(self, now: float, images: int) -> float:
        """The earliest time at which a call may leave, as far as is known at `now`."""
        due = max(self._slot, self._paused_until)
        if len(self._calls) == self.quota.calls_per_second:
            due = max(due, _free_at(self._calls[0]))
        return max(due, self._images_due(now, images))

    def _images_due(self, now: float, images: int) -> float:
        if self.quota.images_per_second is None:
            return -math.inf
        while self._images and _free_at(self._images[0]) <= now:
            self._images.popleft()
        excess = sum(turn.images for turn in self._images) + images - self.quota.images_per_second
        due = -math.inf
        for turn in self._images:
            if excess <= 0:
                break
            due, excess = max(due, _free_at(turn)), excess - turn.images
        return due

    def _count(self, turn: Turn, now: float) -> None:
        turn.left_at = now
        self._calls.append(turn)
        spacing = 1 / self.quota.calls_per_second
        if turn.images and self.quota.images_per_second is not None:
            self._images.append(turn)
            spacing = max(spacing, turn.images / self.quota.images_per_second)
        self._slot = max(self._slot, now - _CATCH_UP_S) + spacing / self._pace_now(now)

    def _pace_now(self, now: float) -> float:
        if self._pace < _FULL_PACE:
            grown = self._pace + (now - self._pace_at) * _RECOVERY_PER_S
            self._pace, self._pace_at = min(_FULL_PACE, grown), now
        return self._pace


def _free_at(turn: Turn) -> float:
    """When a call that left no longer counts."""
    assert turn.left_at is not None
    return turn.left_at + _WINDOW_S


def _now() -> float:
    return asyncio.get_running_loop().time()
