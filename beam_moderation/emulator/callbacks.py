"""Deliveries of finished tasks to the address that came with them, repeated until HTTP 200."""

import asyncio
import dataclasses
from collections.abc import Mapping

import aiohttp

from beam_moderation.emulator.faults import Fault, FaultPlan
from beam_moderation.emulator.ledger import Ledger
from beam_moderation.emulator.settings import Settings

_TIMEOUT_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One POST, the same at every repeat."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class Callbacks:
    """Sends deliveries in the background, from the loop of the server."""

    def __init__(self, settings: Settings, ledger: Ledger, plan: FaultPlan) -> None:
        self._plan = plan
        self._settings = settings
        self._ledger = ledger
        self._session: aiohttp.ClientSession | None = None
        self._running: set[asyncio.Task[None]] = set()

    def schedule(self, delivery: Delivery, delay_s: float) -> None:
        """Sends a delivery after a while."""
        task = asyncio.get_running_loop().create_task(self._deliver(delivery, delay_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Gives up what was not delivered."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, delivery: Delivery, delay_s: float) -> None:
        faults: dict[str, Fault] = {fault.kind: fault for fault in self._plan.draw("callback")}
        await asyncio.sleep(delay_s + _delay_s(faults))
        if "drop" in faults:
            self._ledger.count("callbacks", "dropped")
            return
        await self._post_until_taken(delivery)
        if "duplicate" in faults:
            await self._post(delivery)

    async def _post_until_taken(self, delivery: Delivery) -> None:
        for attempt in range(self._settings.callback_repeats + 1):
            if attempt:
                await asyncio.sleep(self._settings.callback_interval_s)
            if await self._post(delivery):
                return
        self._ledger.count("callbacks", "given_up")

    async def _post(self, delivery: Delivery) -> bool:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        self._ledger.count("callbacks", "sent")
        try:
            async with self._session.post(
                delivery.url,
                data=delivery.body,
                headers=delivery.headers,
                allow_redirects=False,
            ) as response:
                taken = response.status == 200
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
            taken = False
        self._ledger.count("callbacks", "taken" if taken else "refused")
        return taken


def _delay_s(faults: Mapping[str, Fault]) -> float:
    return faults["delay"].delay_s if "delay" in faults else 0.0
