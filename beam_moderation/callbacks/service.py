"""The service that takes a vendor's deliveries: ASGI, bounded in size, time and rate.

Only HTTP 200 says that a result is kept. Anything else has the vendor repeat the delivery, so when
in doubt this service refuses.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from beam_moderation.callbacks import proofs, stores

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ServiceLimits:
    """What one post may cost, and all of them together.

    Args:
      max_bytes: of a body. A result of a thousand frames has about 200 kB.
      per_second: posts that are nobody's delivery, or of which that is known only when the vendor
        was asked. More are told to come again; what a checksum proves always has room.
      timeout_s: for a body to arrive, and again for what it delivers to be confirmed.
    """

    max_bytes: int = 2**20
    per_second: int = 200
    timeout_s: float = 10.0


class _Rate:
    """A bucket that holds a second's worth of posts."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._left, self._at = float(per_second), clock()

    def take(self) -> bool:
        """Whether there is room for one more post."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def app(
    proof: proofs.Proof,
    store: stores.Store,
    path: str = "/",
    limits: ServiceLimits | None = None,
) -> Starlette:
    """The ASGI application that takes posts to `path`."""
    return _Service(proof, store, limits or ServiceLimits()).app(path)


class _Service:
    def __init__(self, proof: proofs.Proof, store: stores.Store, limits: ServiceLimits) -> None:
        self._proof, self._store, self._limits = proof, store, limits
        self._rate = _Rate(limits.per_second)

    def app(self, path: str) -> Starlette:
        return Starlette(
            routes=[Route(path, self._answer, methods=["POST"])], lifespan=self._lifespan
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        async with self._proof:
            yield

    async def _answer(self, request: Request) -> Response:
        try:
            await self._take(request)
        except proofs.Refused as refused:
            _LOG.warning("a callback was refused: %s", refused)
            return PlainTextResponse("not taken\n", refused.status)
        except OSError as error:
            _LOG.error("a result could not be kept: %s", error)
            return PlainTextResponse("not kept\n", 503)
        return PlainTextResponse("kept\n")

    async def _take(self, request: Request) -> None:
        """Returns once the result that a post delivers is kept."""
        body = await _body(request, self._limits)
        if await asyncio.to_thread(self._store.has, self._task_id(body)):
            return
        if self._proof.costs_calls:
            self._spend()
        delivery = await self._delivery(body)
        await asyncio.to_thread(self._store.keep, *delivery)

    def _task_id(self, body: bytes) -> str:
        try:
            return self._proof.task_id(body)
        except proofs.Refused:
            self._spend()
            raise

    def _spend(self) -> None:
        """Counts a post that may be anybody's."""
        if not self._rate.take():
            raise proofs.Refused(429, "too many posts")

    async def _delivery(self, body: bytes) -> proofs.Delivery:
        try:
            return await asyncio.wait_for(self._proof.delivery(body), self._limits.timeout_s)
        except asyncio.TimeoutError:
            raise proofs.Refused(503, "no word from the vendor in time") from None


async def _body(request: Request, limits: ServiceLimits) -> bytes:
    try:
        return await asyncio.wait_for(_read(request, limits.max_bytes), limits.timeout_s)
    except asyncio.TimeoutError:
        raise proofs.Refused(408, "a body that does not come") from None
    except ClientDisconnect:
        raise proofs.Refused(400, "half a body") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise proofs.Refused(413, f"a body of more than {max_bytes} bytes")
    return bytes(body)
