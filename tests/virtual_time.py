"""An event loop whose clock jumps to the next timer: hours of pacing pass in a moment."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits: tells the loop how long it would have waited."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen on this loop")
        self.waited_s = 0.0 if ready or timeout is None else timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Timers fire late by up to `late_s`, and once a second the loop stalls for `stall_s`."""

    def __init__(self, late_s: float = 0.0, stall_s: float = 0.0, seed: int = 0) -> None:
        self._clock_s = 1000.0
        self._late_s, self._stall_s = late_s, stall_s
        self._random = random.Random(seed)
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._clock_s

    def _run_once(self) -> None:
        self._virtual.waited_s = 0.0
        super()._run_once()

    def _process_events(self, event_list: Any) -> None:
        if waited_s := self._virtual.waited_s:
            late_s = self._random.random() * self._late_s
            if self._random.random() < min(waited_s, self._stall_s):
                late_s += self._random.random() * self._stall_s
            self._clock_s += waited_s + late_s
        super()._process_events(event_list)


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop | None = None) -> T:
    """What `asyncio.run` does, on a virtual loop."""
    loop = loop or VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
