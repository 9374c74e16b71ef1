"""Web servers on loopback for tests, ordinary and hostile, and an internet that leads to them.

A `Site` speaks HTTP over plain asyncio streams, in a thread of its own, so that a test can send
what no proper server would. An `Internet` gives names and public addresses to sites: the code under
test resolves and dials as ever, and only the last step, the connect, ends on loopback.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

IMAGE = b"\xff\xd8\xff" + bytes(range(256)) * 40


class Request(NamedTuple):
    """One request as it came; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(body=IMAGE, status=200, length=None, **headers) -> Answer:
    """A plain answer; `length` is what it says of its length where that is not true."""

    async def send(request, writer):
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {length or len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return send


def redirect(location, status=302) -> Answer:
    return answer(b"", status, Location=location)


def raw(*pieces: bytes, pause_s: float = 0, close: bool = True) -> Answer:
    """Any bytes, one after the other with pauses; then the connection is closed."""

    async def send(request, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if close:
            writer.close()

    return send


def endless(head: bytes, piece: bytes, pause_s: float = 0) -> Answer:
    """`piece` over and over until the client has had enough."""

    async def send(request, writer):
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return send


async def reset(request, writer):
    """Ends the connection by a reset."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
    )
    writer.close()


async def silence(request, writer):
    """Never answers."""
    await asyncio.Event().wait()


def tls(authority, *names: str) -> ssl.SSLContext:
    """The server's side of TLS, with a certificate of a `trustme.CA`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


class Site:
    """An HTTP server on loopback; `routes` maps a path to its answer, others get `IMAGE`."""

    def __init__(self, routes: Mapping[str, Answer] | None = None, tls=None) -> None:
        self.routes = dict(routes or {})
        self.requests: list[Request] = []
        self.connections = 0
        self._tls: ssl.SSLContext | None = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Site":
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self._tls))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _stop(self) -> None:
        self._server.close()
        talks = asyncio.all_tasks() - {asyncio.current_task()}
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader, writer) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                request = _parse(await reader.readuntil(b"\r\n\r\n"))
                self.requests.append(request)
                path = request.target.partition("?")[0]
                await self.routes.get(path, answer())(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()


def _parse(head: bytes) -> Request:
    first, *lines = head.decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return Request(method, target, {name.lower(): value.strip() for name, _, value in pairs})


class Internet:
    """Names with their addresses, and the sites that stand behind all addresses but loopback.

    Args:
      sites: by port, on every address.
      names: the successive answers of DNS, each a list of addresses; the last one stays.
    """

    def __init__(self, sites: Mapping[int, Site], names: Mapping[str, Sequence[Sequence[str]]]):
        self.sites = sites
        self.names = {name: list(answers) for name, answers in names.items()}
        self.dialled: list[tuple[str, int]] = []

    def install(self, monkeypatch) -> None:
        internet = self

        class Socket(socket.socket):
            def connect(self, address):
                internet.dialled.append(address[:2])
                super().connect(internet.route(self.family, address))

        monkeypatch.setattr(socket, "socket", Socket)
        monkeypatch.setattr(socket, "getaddrinfo", self.resolve)

    def route(self, family, address):
        if address[0].startswith("127.") or address[1] not in self.sites:
            return address
        loopback = "::ffff:127.0.0.1" if family == socket.AF_INET6 else "127.0.0.1"
        return (loopback, self.sites[address[1]].port)

    def resolve(self, host, port, family=0, kind=0, *_, **__):
        answers = self.names.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        now = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in now
        ]
