"""A vendor's operations as awaitable calls: logged in, paced, counted, heeding what it refuses."""

import asyncio
import collections
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from beam_moderation import errors, quota
from beam_moderation.vendors import client, lease, protocol
from beam_moderation.vendors.retries import Attempts, Retries

S = TypeVar("S")
T = TypeVar("T")
Make: TypeAlias = Callable[[protocol.Credentials, float, str], protocol.Request]
Read: TypeAlias = Callable[[protocol.Response], T]
Results: TypeAlias = Sequence[tuple[protocol.Item, protocol.Answer]]

_UPLOADS_AT_ONCE = 8
_UPLOAD_TIMEOUT_S = 60.0
"""Generous for the 20 MB that the largest image may have."""


class Calls:
    """The calls to one vendor; an async context manager.

    A refused account, key or request stays refused until `renew`: every later call raises the same
    at once, and those that sleep in between wake up to raise it.

    Args:
      credentials: looks the credentials up on this worker, and again when they are refused.
      retries: for how long what costs nothing, a login or an upload, is tried.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        credentials: Callable[[], protocol.Credentials],
        pacer: quota.Pacer,
        retries: Retries,
    ) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        """calls, unanswered_calls (sent, and perhaps paid, without an answer), uploads."""
        self._vendor, self._source, self._pacer = vendor, credentials, pacer
        self._retries = retries
        self._client = client.Client()
        self._login = lease.Lease(self._log_in)
        self._leave_to_upload = lease.Lease(self._get_leave_to_upload)
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        self._refusal: errors.ModerationError | None = None
        self._refused = asyncio.Event()

    async def __aenter__(self) -> "Calls":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.__aexit__(*exception)

    async def reach(self, items: Sequence[protocol.Item]) -> list[protocol.Item | protocol.Failed]:
        """Each item as `scan` takes it: uploaded, where that is how the vendor takes bytes."""
        return await gather(self._reach(item) for item in items)

    async def scan(self, items: Sequence[protocol.Item]) -> Sequence[protocol.Answer]:
        """The answer to each item of one request, in their order.

        Raises:
          VendorUnreached: the request was not sent.
          VendorError: the request as a whole failed.
        """
        answers, turn = await self._call(
            lambda *signing: self._vendor.scan(items, *signing),
            lambda response: self._vendor.read_scan(items, response),
            images=len(items),
        )
        for answer in answers:
            error = answer.error if isinstance(answer, protocol.Failed) else None
            if isinstance(error, errors.VendorThrottled):
                self._pacer.throttled(turn, error.retry_after_s)
        return answers

    def refused_unsent(self, item: protocol.Item) -> errors.VendorRefusedInput | None:
        """Why no request can be made for an item; None if one can, or if only sending it tells."""
        if item.content is not None:
            return None
        try:
            self._vendor.scan([item], protocol.Credentials("-", "-"), 0.0, "-")
        except errors.VendorRefusedInput as error:
            return error
        return None

    async def query(self, tasks: Sequence[protocol.Task]) -> Results:
        """The answers that there are by now to the items of tasks.

        Raises:
          VendorError: the request as a whole failed.
        """
        results, _ = await self._call(
            lambda *signing: self._vendor.query(tasks, *signing),
            lambda response: self._vendor.read_query(tasks, response),
        )
        return results

    def read_callback(self, task: protocol.Task, content: bytes) -> Results:
        """The answers in what was delivered for a task; none in what cannot be understood."""
        assert isinstance(self._vendor, protocol.Callbacks)
        vendor = self._vendor
        try:
            return _read(lambda delivered: vendor.read_callback(task, delivered), content)
        except errors.VendorError:
            return []

    async def feedback(self, human: protocol.Human) -> None:
        """Tells the vendor of a person's decision.

        Raises:
          VendorError: the vendor did not take it; `VendorTimeout` where that is not known.
        """
        await self._call(
            lambda *signing: self._vendor.feedback(human, *signing), self._vendor.read_feedback
        )

    async def sleep(self, seconds: float) -> None:
        """Sleeps, unless the vendor refuses a call meanwhile; then raises what that raised."""
        try:
            await asyncio.wait_for(self._refused.wait(), seconds)
        except asyncio.TimeoutError:
            return
        self._raise_if_refused()

    def refuse(self, error: errors.ModerationError) -> None:
        """Stops all calls, until `renew`."""
        self._refusal = self._refusal or error
        self._refused.set()

    def renew(self) -> None:
        """Lets calls be tried again after a refusal, with credentials that are looked up anew."""
        if self._refusal is not None:
            self._login = lease.Lease(self._log_in)
            self._refusal = None
            self._refused.clear()

    def _raise_if_refused(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def _call(self, make: Make, read: Read[T], images: int = 0) -> tuple[T, quota.Turn]:
        """Sends a request and reads its answer; a login that ended is renewed once."""
        try:
            grant = await self._logged_in()
            try:
                return await self._once(grant.credentials, make, read, images)
            except errors.VendorRefusedLogin:
                renewed = await self._login.renewed(grant)
                if renewed.credentials == grant.credentials:
                    raise
                return await self._once(renewed.credentials, make, read, images)
        except errors.VendorRefusedRequest as error:
            self.refuse(error)
            raise

    async def _logged_in(self) -> protocol.Grant:
        """What to call with. Without it the call itself is never sent."""
        try:
            return await self._login.get()
        except (errors.VendorRefusedRequest, errors.ConfigurationError):
            raise
        except errors.VendorError as error:
            raise errors.VendorUnreached(f"no login: {error}") from error

    async def _once(
        self, credentials: protocol.Credentials, make: Make, read: Read[T], images: int = 0
    ) -> tuple[T, quota.Turn]:
        async with self._pacer.place(images) as turn:
            self._raise_if_refused()
            try:
                response = await self._send(turn, lambda: make(credentials, *_signing()))
            except errors.VendorTimeout:
                self.counts["unanswered_calls"] += 1
                raise
            finally:
                self.counts["calls"] += turn.left_at is not None
        try:
            return _read(read, response), turn
        except errors.VendorThrottled as error:
            self._pacer.throttled(turn, error.retry_after_s)
            raise

    async def _send(
        self, turn: quota.Turn, signed: Callable[[], protocol.Request]
    ) -> protocol.Response:
        """Sends a request, signed anew where its turn was long in coming."""
        timeout_s = self._vendor.limits.timeout_s
        while True:
            try:
                return await self._client.send(signed(), timeout_s, turn)
            except client.Stale:
                continue

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call returns that costs nothing: it is made again until the patience ends."""
        attempts = Attempts(self._retries)
        while True:
            try:
                return await call()
            except errors.VendorError as error:
                attempts.made(error, free=True)
                if not attempts.again(error):
                    raise
            await self.sleep(attempts.pause_s)

    async def _log_in(self) -> protocol.Grant:
        credentials = await asyncio.to_thread(self._source)
        if not isinstance(self._vendor, protocol.Login):
            return protocol.Grant(credentials, math.inf)
        login, read_login = self._vendor.login, self._vendor.read_login
        if login(credentials, time.time(), "-") is None:
            return protocol.Grant(credentials, math.inf)

        def make(*signing: Any) -> protocol.Request:
            request = login(*signing)
            assert request is not None
            return request

        grant, _ = await self._patiently(
            lambda: self._once(
                credentials, make, lambda response: read_login(credentials, response)
            )
        )
        return grant

    async def _get_leave_to_upload(self) -> protocol.Grant:
        assert isinstance(self._vendor, protocol.Uploads)
        grant, _ = await self._call(self._vendor.upload_grant, self._vendor.read_upload_grant)
        return grant

    async def _reach(self, item: protocol.Item) -> protocol.Item | protocol.Failed:
        vendor = self._vendor
        if item.content is None or item.stored or not isinstance(vendor, protocol.Uploads):
            return item
        try:
            async with self._uploads:
                return await self._patiently(lambda: self._upload(vendor, item))
        except errors.VendorRefusedRequest as error:
            self.refuse(error)
            raise
        except errors.VendorError as error:
            return protocol.Failed(error)

    async def _upload(self, vendor: protocol.Uploads, item: protocol.Item) -> protocol.Item:
        grant = await self._leave_to_upload.get()
        try:
            return await self._store(vendor, item, grant)
        except errors.VendorRefusedLogin:
            grant = await self._leave_to_upload.renewed(grant)
            return await self._store(vendor, item, grant)

    async def _store(
        self, vendor: protocol.Uploads, item: protocol.Item, grant: protocol.Grant
    ) -> protocol.Item:
        request, stored = vendor.upload(item, grant, time.time())
        self.counts["uploads"] += 1
        response = await self._client.send(request, _UPLOAD_TIMEOUT_S)
        _read(vendor.read_upload, response)
        return stored


def _signing() -> tuple[float, str]:
    """The time of a call, and its nonce."""
    return time.time(), uuid.uuid4().hex


def _read(read: Callable[[S], T], answer: S) -> T:
    """Reads an answer; one that trips its reader is malformed."""
    try:
        return read(answer)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise errors.VendorAnswerMalformed(
            f"the answer cannot be understood: {type(error).__name__}"
        ) from error


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all coroutines return; all come to their end before the first failure is raised."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
