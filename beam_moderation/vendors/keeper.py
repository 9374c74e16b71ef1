"""Has answers kept that come close together in one go.

To have a file on the disk takes longer than a vendor's fast answer, and more of the processor than
all else that is done for a call.
"""

import asyncio
import math
from collections.abc import Mapping

from beam_moderation.vendors import calls, kept

_ROUND_S = 0.02
"""Between the beginnings of two rounds. Of 300 answers a second six share a file, and none waits
noticeably; one that comes alone does not wait at all."""


class Keeper:
    """Keeps outcomes in rounds; belongs to one event loop."""

    def __init__(self, answers: kept.Answers) -> None:
        self._answers = answers
        self._waiting: dict[str, dict[str, kept.Outcome]] = {}
        self._round: asyncio.Task[None] | None = None
        self._began = -math.inf

    async def keep(self, batch_id: str, outcomes: Mapping[str, kept.Outcome]) -> None:
        """Returns when the outcomes of a batch are kept; raises what keeping them raises."""
        self._waiting.setdefault(batch_id, {}).update(outcomes)
        if self._round is None:
            self._round = asyncio.create_task(self._keep_waiting())
        await asyncio.shield(self._round)

    async def _keep_waiting(self) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(self._began + _ROUND_S - now())
        self._began, self._round = now(), None
        waiting, self._waiting = self._waiting, {}
        await calls.gather(
            asyncio.to_thread(self._answers.write, *of_batch) for of_batch in waiting.items()
        )
