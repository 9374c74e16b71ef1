"""A lane that runs on an event loop in a thread of its own, for callers that are no coroutines."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from beam_moderation.vendors import kept, lane, protocol

T = TypeVar("T")

_THREADS = 16
"""Of the loop's own, for looking up hosts and keeping answers."""


class RunningLane:
    """Serves many batches at once, so that the pace goes on over their borders. A context manager.

    It is for the caller to bound how many batches wait here.
    """

    def __init__(self, paced: lane.Lane) -> None:
        self.lane = paced
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS, "vendor"))
        self._thread = threading.Thread(target=self._run, name="vendor-lane", daemon=True)

    def start(self) -> "RunningLane":
        """Begins to serve, until `close`."""
        self._thread.start()
        self.begin(self.lane.__aenter__()).result()
        return self

    def close(self) -> None:
        """Gives up what is under way, as a kill would: answers that are not kept yet among it."""
        self.begin(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> "RunningLane":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Has a coroutine of the lane's done; returns at once. From any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def submit(
        self, batch_id: str, items: Sequence[protocol.Item]
    ) -> concurrent.futures.Future[list[kept.Outcome]]:
        """Has a batch judged, as `Lane.judge` does; returns at once."""
        return self.begin(self.lane.judge(batch_id, items))

    def feedback(self, human: protocol.Human) -> concurrent.futures.Future[None]:
        """Tells the vendor of a decision, as `Lane.feedback` does; returns at once."""
        return self.begin(self.lane.feedback(human))

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self.lane.__aexit__(None, None, None)
        await self._loop.shutdown_default_executor()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
