"""fsspec's http filesystem for URLs that strangers wrote: one GET an image, every socket checked.

The check sits where aiohttp opens a socket, on the numeric address that is about to be dialled, so
it holds for every hop of a redirect, every answer of DNS and every spelling of an address.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import socket
import ssl
import urllib.parse
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import aiohttp.abc
from aiohttp import hdrs
from fsspec.implementations.http import HTTPFileSystem

from beam_moderation import addresses, errors, uris

Received = Callable[[int], Awaitable[None]]
"""Told of every piece of a body: the number of its bytes. The next is not read until it returns."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""RFC 9110 section 15.4: what a GET follows."""

_NAME_LOOKUPS = 64
"""Threads for DNS: a name whose servers do not answer holds one for as long as libc tries."""

_LOOKUPS_A_DOMAIN = 8
"""A domain whose servers do not answer leaves threads for others, however many names it has."""

_SUFFIX_LETTERS = 3
"""As many has the `co` of `co.uk`, the `com` of `com.cn`: domains of strangers are below it."""

_STREAM_BUFFER_BYTES = 2**17
"""What a connection holds back before its reading is paused; 2**16 pauses it twice
often for a photo."""

_dialled_host = contextvars.ContextVar("dialled_host", default="")


class _Refused(OSError):
    """Raised by the guard. All have the same text, for aiohttp merges those that differ."""

    def __init__(self) -> None:
        super().__init__("address refused")


class ThreadedResolver(aiohttp.abc.AbstractResolver):
    """The system's resolver in threads of its own, not in the few of the loop's executor."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(_NAME_LOOKUPS, "resolve")
        self._turns: weakref.WeakValueDictionary[str, asyncio.Semaphore] = (
            weakref.WeakValueDictionary()
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        """Every address of `host`; they are checked when they are dialled."""
        answers = await self._look_up(host, port, family)
        return [
            aiohttp.abc.ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in answers
        ]

    async def _look_up(self, host: str, port: int, family: int) -> list[Any]:
        """Takes one of the domain's turns for as long as the thread takes, whoever still waits."""
        turns = self._turns.setdefault(_domain(host), asyncio.Semaphore(_LOOKUPS_A_DOMAIN))
        await turns.acquire()
        loop = asyncio.get_running_loop()
        looking = self._threads.submit(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)

        def release(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended before
                loop.call_soon_threadsafe(turns.release)

        looking.add_done_callback(release)
        return await asyncio.wrap_future(looking)

    async def close(self) -> None:
        """Lets the threads go; one that still waits for an answer ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _domain(host: str) -> str:
    """What somebody has registered, as far as a name shows it."""
    *_, third, second, top = ["", "", *host.rstrip(".").split(".")]
    return f"{third}.{second}.{top}" if len(second) <= _SUFFIX_LETTERS else f"{second}.{top}"


class GuardedHTTPFileSystem(HTTPFileSystem):
    """An fsspec filesystem for http and https that dials only what `policy` allows.

    It sends no cookie, no Authorization and no Referer, and takes no proxy from the environment.

    Args:
      policy: the addresses and ports that may be dialled.
      max_redirects: hops after the first.
      user_agent: tells the servers who asks.
      ca_file: certificates (PEM) to be trusted beside the system's.
      options: those of `fsspec.asyn.AsyncFileSystem`.
    """

    def __init__(
        self,
        policy: addresses.AddressPolicy | None = None,
        max_redirects: int = 5,
        user_agent: str = "beam-moderation",
        ca_file: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(get_client=self._make_client, **options)
        self._policy = policy or addresses.AddressPolicy()
        self._max_redirects = max_redirects
        self._user_agent = user_agent
        self._ca_file = ca_file

    async def _make_client(self, **_: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            socket_factory=self._open_socket,
            resolver=ThreadedResolver(),
            ssl=_trust(self._ca_file) if self._ca_file else True,
            limit=0,  # the caller bounds what is in flight
        )
        return aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),  # none: the caller's deadline spans all hops
            auto_decompress=False,
            headers={hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: self._user_agent},
            read_bufsize=_STREAM_BUFFER_BYTES,
        )

    def _open_socket(self, target: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = target
        if not self._policy.allows(_dialled_host.get(), str(address[0]), int(address[1])):
            raise _Refused
        return socket.socket(family, kind, protocol)

    async def _cat_file(
        self,
        url: str,
        start: int | None = None,
        end: int | None = None,
        *,
        max_bytes: int | None = None,
        received: Received | None = None,
        **_: Any,
    ) -> bytes:
        """The whole body of a 200, by one GET a hop.

        Args:
          url: an absolute http or https URL.
          start: where in the body the result begins; the body is fetched whole all the same.
          end: where it ends.
          max_bytes: a longer body is refused, as early as it is known to be longer.
          received: is told of every piece.

        Raises:
          FetchError: what became of it instead.
        """
        place = uris.parse_web_address(url)
        session = await self.set_session()
        try:
            for _hop in range(self._max_redirects + 1):
                _dialled_host.set(place.host)
                async with session.get(place.url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        body = await _body(response, url, max_bytes, received)
                        return body[start:end]
                    place = _next_hop(place, response.headers.get(hdrs.LOCATION))
        except (aiohttp.ClientError, ssl.SSLError) as error:
            raise _as_fetch_error(error, place) from None  # it may quote the answer
        raise errors.RedirectRefused(
            f"more than {self._max_redirects} redirects from {uris.redact_uri(url)}"
        )


def _trust(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context


def _next_hop(place: uris.WebAddress, location: str | None) -> uris.WebAddress:
    """Where a redirect leads, parsed as strictly as the reference was."""
    source = uris.redact_uri(str(place.url))
    if location is None:
        raise errors.RedirectRefused(f"a redirect to nowhere from {source}")
    try:
        uris.check_text(location)
        target = uris.parse_web_address(urllib.parse.urljoin(str(place.url), location))
    except (errors.UriInvalid, errors.SchemeRefused, ValueError) as error:
        to = uris.redact_uri(location)
        raise errors.RedirectRefused(f"redirected from {source} to {to}") from error
    if place.scheme == "https" and target.scheme == "http":
        raise errors.RedirectRefused(f"redirected from https to http by {source}")
    return target


async def _body(
    response: aiohttp.ClientResponse, url: str, max_bytes: int | None, received: Received | None
) -> bytes:
    _check_status(response.status, url)
    if response.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise errors.FetchStatus(f"a compressed body from {uris.redact_uri(url)}")
    _check_size(response.content_length or 0, url, max_bytes)
    pieces = []
    size = 0
    while piece := await response.content.readany():
        pieces.append(piece)
        size += len(piece)
        _check_size(size, url, max_bytes)
        if received is not None:
            await received(len(piece))
    return b"".join(pieces)


def _check_status(status: int, url: str) -> None:
    if status == 200:
        return
    message = f"HTTP {status} from {uris.redact_uri(url)}"
    if status in (401, 403):
        raise errors.FetchForbidden(message)
    if status in (404, 410):
        raise errors.FetchNotFound(message)
    if status == 429 or status >= 500:
        raise errors.FetchUnavailable(message)
    raise errors.FetchStatus(message)


def _check_size(size: int, url: str, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise errors.FetchTooLarge(f"more than {max_bytes} bytes at {uris.redact_uri(url)}")


def _as_fetch_error(error: Exception, place: uris.WebAddress) -> errors.FetchError:
    """The error with a message of our own: that of the library may hold what the server sent."""
    where = uris.redact_uri(str(place.url))
    if isinstance(getattr(error, "os_error", None), _Refused):
        return errors.AddressRefused(f"{place.host} is at no address that may be dialled: {where}")
    if isinstance(error, aiohttp.ClientResponseError):
        return errors.FetchStatus(f"an answer that is not HTTP from {where}")
    return errors.FetchUnavailable(f"{type(error).__name__} from {where}")
