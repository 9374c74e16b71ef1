"""The bytes of references: `Fetcher.ahead` takes (key, reference), gives (key, bytes or error).

Everything runs on fsspec's own event loop, one thread a process, started on first use; the
consumers are other threads. Every reference that is taken has exactly one outcome.
"""

import asyncio
import collections
import dataclasses
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import fsspec.asyn

from beam_moderation import errors, filesystems, uris

if sys.version_info >= (3, 11):
    from asyncio import Timeout, timeout_at

    _move = Timeout.reschedule
else:
    from async_timeout import Timeout, timeout_at

    _move = Timeout.update

_NO_DEADLINE_S = 10**6

Key = TypeVar("Key", bound=Hashable)
Outcome: TypeAlias = bytes | errors.FetchError


class Reference(Protocol):
    """What is fetched: `content` where the bytes came inline, else what `uri` points to."""

    @property
    def uri(self) -> str | None:
        """The place, as its source wrote it."""

    @property
    def content(self) -> bytes | None:
        """The bytes themselves."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchLimits:
    """What fetching may take.

    One reference takes at most `attempts * (deadline_s + 1.5 * backoff_s * attempts)` seconds, and
    a window holds at most twice `buffer_bytes` and one more image of http; of the other filesystems
    it holds at most `concurrency` images more.

    Args:
      max_bytes: of one image.
      deadline_s: from the name's look-up to the last byte of one attempt, over all redirects.
      attempts: tries of what is retryable.
      backoff_s: the pause before the second try; later ones are that much longer each.
      concurrency: fetches of one window in flight.
      buffer_bytes: received and not yet taken by the consumer; no fetch is begun above it.

    Raises:
      ConfigurationError: a limit is not positive.
    """

    max_bytes: int = 20_000_000
    deadline_s: float = 3.0
    attempts: int = 2
    backoff_s: float = 0.2
    concurrency: int = 64
    buffer_bytes: int = 8_000_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise errors.ConfigurationError(f"{name} is above 0, not {getattr(self, name)}")


class _Room(Protocol):
    """Accounts for the bytes that fetches have received."""

    def take(self, size: int) -> bool:
        """Adds bytes; True where the fetch has to wait before it takes more."""

    async def wait(self) -> None:
        """Returns when the fetch may take more."""


class Fetcher:
    """Fetches references through the operator's filesystems. Picklable, thread-safe.

    The filesystems are made on first use in a process, and closed when the fetcher is dropped.
    """

    def __init__(
        self,
        sources: filesystems.Filesystems | None = None,
        limits: FetchLimits | None = None,
    ) -> None:
        self.filesystems = sources or filesystems.Filesystems()
        self.limits = limits or FetchLimits()
        self._opening = threading.Lock()
        self._opened: tuple[Any, Mapping[str, filesystems.Read]] = (None, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return Fetcher, (self.filesystems, self.limits)

    async def fetch(self, uri: str) -> bytes:
        """The bytes at a URI, from any event loop.

        Raises:
          FetchError: there are none to be had; `attempts` says how often it was tried.
        """
        self._open()
        fetching = self._fetch(uri, None)
        loop = fsspec.asyn.get_loop()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fetching, loop))

    def ahead(self, references: Iterable[tuple[Key, Reference]]) -> "Window[Key]":
        """Fetches ahead of its consumers; outcomes come as they are ready, each with its key."""
        self._open()
        window = Window(self._fetch, references, self.limits)
        window.begin()
        return window

    def _open(self) -> None:
        """Makes the filesystems of this process: a fork has another loop and needs others."""
        loop = fsspec.asyn.get_loop()
        with self._opening:
            if self._opened[0] is not loop:
                self._opened = (loop, self.filesystems.open())

    async def _fetch(self, uri: str, room: _Room | None) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(uri, room)
            except errors.FetchError as error:
                error.attempts = attempt
                if not error.retryable or attempt == self.limits.attempts:
                    raise
            await asyncio.sleep(self.limits.backoff_s * attempt * random.uniform(0.5, 1.5))  # noqa: S311

    async def _attempt(self, uri: str, room: _Room | None) -> bytes:
        taken = 0
        ends = _now() + self.limits.deadline_s

        async def received(size: int) -> None:
            nonlocal taken, ends
            taken += size
            if room is not None and room.take(size):
                ends += await _outside(deadline, room.wait())
                _move(deadline, ends)

        try:
            scheme, absolute = self.filesystems.locate(uri)
            async with timeout_at(ends) as deadline:
                content = await self._opened[1][scheme](absolute, self.limits.max_bytes, received)
            if len(content) > self.limits.max_bytes:
                raise errors.FetchTooLarge(_too_large(self.limits.max_bytes, uri))
        except Exception as error:  # noqa: BLE001 - a filesystem may raise anything
            if room is not None:
                room.take(-taken)
            raise _as_fetch_error(error, uri) from None  # it may hold a key
        return content


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _outside(deadline: Timeout, waiting: Coroutine[Any, Any, None]) -> float:
    """Waits with the deadline put off, for a slow consumer is not the source's fault.

    Returns:
      the seconds waited.
    """
    began = _now()
    _move(deadline, began + _NO_DEADLINE_S)
    await waiting
    return _now() - began


def _too_large(max_bytes: int, uri: str) -> str:
    return f"more than {max_bytes} bytes: {uris.redact_uri(uri)}"


def _as_fetch_error(error: Exception, uri: str) -> errors.FetchError:
    """What an error means, with a message of our own: a library's may hold a key or an answer."""
    if isinstance(error, errors.FetchError):
        return error
    where = uris.redact_uri(uri)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return errors.FetchTimeout(f"not within the deadline: {where}")
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return errors.FetchNotFound(f"nothing at {where}")
    if isinstance(error, PermissionError):
        return errors.FetchForbidden(f"not allowed to read {where}")
    return errors.FetchUnavailable(f"{type(error).__name__} at {where}")


class Window(Generic[Key]):
    """An iterator over outcomes, with fetches in flight ahead of it. Any threads may share it.

    The consumers' threads take references from their iterable, up to three times `concurrency` of
    them beyond what they were given. On the loop `concurrency` workers fetch them, while fewer than
    `buffer_bytes` wait. So a slow consumer stops new fetches, and a stuck source takes one place of
    many until its deadline.
    """

    def __init__(
        self,
        fetch: Callable[[str, _Room], Coroutine[Any, Any, bytes]],
        references: Iterable[tuple[Key, Reference]],
        limits: FetchLimits,
    ) -> None:
        self.fetch_ms: list[float] = []
        """Milliseconds that each successful fetch took, in the order of their ends."""
        self._fetch = fetch
        self._references = iter(references)
        self._limits = limits
        self._loop = fsspec.asyn.get_loop()
        self._outcomes: queue.SimpleQueue[tuple[Key, Outcome, int] | None] = queue.SimpleQueue()
        self._pending: collections.deque[tuple[Key, str]] = collections.deque()
        # Written by the consumers, under their lock:
        self._consumers = threading.Lock()
        self._exhausted = False
        self._closed = False
        self._owed = 0
        self._handed_bytes = 0
        # Written by the loop:
        self._workers: set[asyncio.Task[None]] = set()
        self._fetching: dict[asyncio.Task[None] | None, None] = {}
        self._received_bytes = 0
        self._blocked = False
        self._waiting: list[asyncio.Future[None]] = []

    def __iter__(self) -> Iterator[tuple[Key, Outcome]]:
        return self

    def __next__(self) -> tuple[Key, Outcome]:
        with self._consumers:
            if self._owed <= 2 * self._limits.concurrency:
                self._take_references()
            if not self._owed:
                raise StopIteration
            self._owed -= 1
        ready = self._outcomes.get()
        if ready is None:
            raise StopIteration
        key, outcome, size = ready
        with self._consumers:
            self._handed_bytes += size
        if self._blocked and self._is_drained():
            self._loop.call_soon_threadsafe(self._go_on)
        return key, outcome

    def begin(self) -> None:
        """Begins to fetch before the first outcome is asked for."""
        with self._consumers:
            self._take_references()

    def close(self) -> None:
        """Cancels what is in flight; every consumer's iteration ends."""
        with self._consumers:
            self._exhausted = self._closed = True
            self._owed = 0
        self._loop.call_soon_threadsafe(self._cancel)

    def _take_references(self) -> None:
        """Takes so many at once that waking the loop for them costs nothing."""
        while self._owed < 3 * self._limits.concurrency and not self._exhausted:
            item = next(self._references, None)
            if item is None:
                self._exhausted = True
                break
            key, reference = item
            self._owed += 1
            if reference.uri is None or reference.content is not None:
                self._outcomes.put((key, _inline(reference, self._limits.max_bytes), 0))
            else:
                self._pending.append((key, reference.uri))
        if self._pending:
            self._loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        """Lets the fetches that wait for room look again; has workers for what is pending."""
        self._blocked = False
        self._wake()
        idle = self._limits.concurrency - len(self._workers)
        for _ in range(min(idle, len(self._pending))):
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        worker = asyncio.current_task()
        while self._pending and self._has_room():
            key, uri = self._pending.popleft()
            self._fetching[worker] = None
            self._outcomes.put(await self._outcome(key, uri))
            del self._fetching[worker]
            self._wake()

    async def _outcome(self, key: Key, uri: str) -> tuple[Key, Outcome, int] | None:
        """The outcome of one fetch, and how many of the bytes held are its own."""
        started = time.perf_counter()
        try:
            content = await self._fetch(uri, self)
        except errors.FetchError as error:
            return key, error, 0
        except asyncio.CancelledError:
            return None if self._closed else (key, errors.FetchUnavailable("cancelled"), 0)
        except Exception as error:  # noqa: BLE001 (whatever it is, its consumer waits for it)
            return key, errors.FetchError(type(error).__name__), 0
        self.fetch_ms.append((time.perf_counter() - started) * 1000)
        return key, content, len(content)

    def _held_bytes(self) -> int:
        return self._received_bytes - self._handed_bytes

    def _is_drained(self) -> bool:
        """Whether to wake the loop: once for many images, since each time costs the consumers."""
        return self._held_bytes() <= self._limits.buffer_bytes / 2 or self._outcomes.empty()

    def _has_room(self) -> bool:
        # Said before looking: a consumer that frees bytes in between then sees that it must tell.
        self._blocked = True
        self._blocked = self._held_bytes() >= self._limits.buffer_bytes
        return not self._blocked

    def take(self, size: int) -> bool:
        """Adds bytes; True where so many are held that the fetch must not take more.

        Where the consumers have nothing to take, the oldest fetch goes on all the same.
        """
        self._received_bytes += size
        if self._held_bytes() <= 2 * self._limits.buffer_bytes:
            return False
        return not (self._outcomes.empty() and self._is_oldest())

    async def wait(self) -> None:
        """Returns when the consumers have made room, or wait for this fetch."""
        self._blocked = True
        while self.take(0):
            room = self._loop.create_future()
            self._waiting.append(room)
            await room
            self._blocked = True

    def _is_oldest(self) -> bool:
        return asyncio.current_task() is next(iter(self._fetching))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _cancel(self) -> None:
        for _ in self._pending:
            self._outcomes.put(None)
        self._pending.clear()
        for worker in self._workers:
            worker.cancel()


def _inline(reference: Reference, max_bytes: int) -> Outcome:
    if reference.content is None:
        return errors.UriInvalid("neither a URI nor bytes")
    if len(reference.content) > max_bytes:
        return errors.FetchTooLarge(_too_large(max_bytes, reference.uri or "inline"))
    return reference.content
