"""Sends a vendor's requests over one HTTP session, each bounded in time and size.

A request waits for its turn when its connection already stands and its first byte is about to
leave, so that slow handshakes cannot bunch paced calls together on their way.
"""

import asyncio
import contextvars
import sys
from typing import Any

import aiohttp
import yarl

from beam_moderation import errors, quota
from beam_moderation.vendors import protocol

if sys.version_info >= (3, 11):
    from asyncio import timeout as _timeout

    _RESCHEDULE = "reschedule"
else:
    from async_timeout import timeout as _timeout

    _RESCHEDULE = "update"

MAX_ANSWER_BYTES = 10 * 2**20
_CONNECT_S = 10.0
_NO_END_S = 86_400.0
_FRESH_S = 60.0
"""How long a signed request may wait. Vendors refuse signatures that are ten minutes old."""
_CHUNK_BYTES = 2**16


class Stale(Exception):
    """A request's turn has come, and its signature is too old: it is to be signed and sent anew."""


class Client:
    """An HTTP session with one vendor; an async context manager.

    Follows no redirect, keeps no cookie, reads no proxy or password from the environment, and asks
    for no compression, so that what is bounded is what is held.
    """

    def __init__(self, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._max_answer_bytes = max_answer_bytes

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(
            connector=_PacedConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "beam-moderation"},
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[_tracing()],
            trust_env=False,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def send(
        self, request: protocol.Request, timeout_s: float, turn: quota.Turn | None = None
    ) -> protocol.Response:
        """Sends a request and returns its answer, whatever its status.

        Args:
          timeout_s: from the first byte sent to the last byte received.
          turn: waited for when the connection stands; None: no quota counts the request.

        Raises:
          Stale: nothing was sent, as the turn was long in coming; the next call needs none.
          VendorUnreached: nothing was sent.
          VendorTimeout: the request was sent, and no answer came, or not the whole of it.
          VendorAnswerMalformed: the answer is no HTTP, or larger than the limit.
        """
        sending = _Sending(turn, timeout_s)
        _current.set(sending)
        try:
            async with _timeout(_CONNECT_S) as sending.deadline:
                return await self._exchange(request)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise _fault(error, sending.sent) from error
        finally:
            # The loop keeps ended timers for long, and they this: not the task too, and its result.
            sending.deadline = None

    async def _exchange(self, request: protocol.Request) -> protocol.Response:
        async with self._session.request(
            request.method,
            yarl.URL(request.url, encoded=True),
            headers=request.headers,
            data=request.body or None,
            allow_redirects=False,
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return protocol.Response(response.status, headers, await self._body(response))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_answer_bytes:
                response.close()
                raise errors.VendorAnswerMalformed(
                    f"the answer is larger than {self._max_answer_bytes} bytes"
                )
        return bytes(body)


def _fault(error: Exception, sent: bool) -> errors.VendorError:
    """What a failed exchange means. The message names no address: it may hold a signature."""
    kind = type(error).__name__
    if not sent:
        return errors.VendorUnreached(f"the vendor cannot be reached: {kind}")
    if isinstance(error, aiohttp.ClientResponseError):
        return errors.VendorAnswerMalformed(f"the answer is no HTTP: {kind}")
    return errors.VendorTimeout(f"the request was sent, and no whole answer came: {kind}")


class _Sending:
    """A request on its way."""

    deadline: Any

    def __init__(self, turn: quota.Turn | None, timeout_s: float) -> None:
        self.sent = False
        self._turn, self._timeout_s = turn, timeout_s
        self._task = asyncio.current_task()

    async def connected(self) -> None:
        """Waits for the turn; meanwhile no time runs.

        A connection that fell meanwhile is replaced without another turn; a request that aiohttp
        sends a second time, having lost the connection of a GET or PUT, needs one.
        """
        if self._turn is not None and (self.sent or self._turn.left_at is None):
            began = _now()
            self._ends_in(_NO_END_S)
            await self._turn.leave()
            self._ends_in(_CONNECT_S)
            if _now() - began > _FRESH_S:
                raise Stale

    def writing(self) -> None:
        """Notes the moment of the first byte; from here on the vendor's time runs."""
        self.sent = True
        self._ends_in(self._timeout_s)
        if self._turn is not None:
            self._turn.sent()

    def _ends_in(self, seconds: float) -> None:
        getattr(self.deadline, _RESCHEDULE)(_now() + seconds)
        if sys.version_info < (3, 11):
            # Or else it would end the task that asks, which is aiohttp's, of writing the request.
            self.deadline._task = self._task


def _now() -> float:
    return asyncio.get_running_loop().time()


_current: contextvars.ContextVar[_Sending] = contextvars.ContextVar("_current")
"""The request that a task is sending."""


class _PacedConnector(aiohttp.TCPConnector):
    """Hands out a connection when the turn of the request has come, and only if it still stands."""

    async def connect(self, *request: Any, **options: Any) -> Any:
        """What aiohttp awaits before it writes a request."""
        while True:
            connection = await super().connect(*request, **options)
            try:
                await _current.get().connected()
            except BaseException:
                connection.release()
                raise
            if connection.protocol is not None and connection.protocol.is_connected():
                return connection
            connection.close()


def _tracing() -> aiohttp.TraceConfig:
    async def writing(*_: object) -> None:
        _current.get().writing()

    trace = aiohttp.TraceConfig()
    # Headers wait for the body, which before Python 3.12 is written in a later step of the loop.
    trace.on_request_headers_sent.append(writing)
    trace.on_request_chunk_sent.append(writing)
    return trace
