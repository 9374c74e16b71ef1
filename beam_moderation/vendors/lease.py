"""What a vendor lends for a while, renewed before it ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from beam_moderation.vendors import protocol

_EARLY_S = 120.0
"""A grant is renewed this long before its end: longer than any call with it takes."""


class Lease:
    """A grant that is had when it is needed, and renewed by one caller for all."""

    def __init__(self, renew: Callable[[], Awaitable[protocol.Grant]]) -> None:
        self._renew = renew
        self._grant: protocol.Grant | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> protocol.Grant:
        """A grant that has not ended."""
        async with self._lock:
            if self._grant is None or self._grant.expires_at < time.time() + _EARLY_S:
                self._grant = await self._renew()
            return self._grant

    async def renewed(self, refused: protocol.Grant) -> protocol.Grant:
        """The grant that took, or now takes, the place of one that the vendor refused."""
        async with self._lock:
            if self._grant is refused:
                self._grant = await self._renew()
            assert self._grant is not None
            return self._grant
