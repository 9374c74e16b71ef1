"""The emulated vendors over HTTP: metered, faulty on demand, on loopback only."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import multiprocessing
import socket
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pydantic
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from beam_moderation.emulator.alibaba import Alibaba
from beam_moderation.emulator.callbacks import Callbacks
from beam_moderation.emulator.exchange import Call, Operation, Refused, Reply, Vendor
from beam_moderation.emulator.faults import Fault, FaultPlan, FaultSpec, parse_faults
from beam_moderation.emulator.huawei import Huawei
from beam_moderation.emulator.ledger import Ledger
from beam_moderation.emulator.responses import respond
from beam_moderation.emulator.settings import Settings
from beam_moderation.emulator.tencent import Tencent

_VENDORS: dict[str, type[Vendor]] = {"alibaba": Alibaba, "tencent": Tencent, "huawei": Huawei}
_HOST = "127.0.0.1"
_MAX_BODY_BYTES = 64 * 1024 * 1024
_STOP_TIMEOUT_S = 2
_ASK_TIMEOUT_S = 60
"""A process that starts on a busy machine may take half a minute before it answers."""


def app(vendor: str, settings: Settings | None = None) -> Starlette:
    """An ASGI application that is one account of one vendor.

    Beside the vendor's paths it has `GET /_stats`, and `GET`, `PUT` and `DELETE /_faults`.
    The fault `drop` needs `run`, `serve` or `spawn`; on another server it is a `cut`.
    """
    return _Emulator(vendor, settings or Settings()).app()


class Running:
    """An emulator that this process started."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, Any]:
        """What `/_stats` says."""
        return self._ask("GET", "/_stats")

    def set_faults(self, spec: FaultSpec) -> None:
        """Replaces the faults from now on."""
        self._ask("PUT", "/_faults", spec.model_dump_json())

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        host = urllib.parse.urlsplit(self.url).netloc
        connected = http.client.HTTPConnection(host, timeout=_ASK_TIMEOUT_S)
        with contextlib.closing(connected) as connection:
            connection.request(method, path, body)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer


@contextlib.contextmanager
def serve(vendor: str, settings: Settings | None = None, port: int = 0) -> Iterator[Running]:
    """Runs an emulator in a thread, until the context ends; port 0 takes a free one.

    The socket listens before the thread starts, so the first caller needs not wait.
    """
    listener = _listen(port)
    server = uvicorn.Server(_config(vendor, settings))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    running = Running(_url(listener))
    thread.start()
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def spawn(vendor: str, settings: Settings | None = None, port: int = 0) -> Iterator[Running]:
    """Runs an emulator in a process of its own, until the context ends.

    For tests of a quota: a pipeline in this process would keep a thread from reading calls as they
    come, and make an even rate look like bursts. The settings must be picklable.
    """
    with _listen(port) as listener:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_run_on, args=(listener, vendor, settings), daemon=True)
        process.start()
        running = Running(_url(listener))
    try:
        yield running
    finally:
        process.terminate()
        process.join()


def run(
    vendor: str,
    port: int,
    settings: Settings | None = None,
    listening: Callable[[str], None] = lambda _: None,
) -> None:
    """Runs an emulator until it is interrupted; port 0 takes a free one.

    Args:
      listening: is told the URL as soon as there is somebody to answer there.

    Raises:
      OSError: the port is taken.
    """
    listener = _listen(port)
    listening(_url(listener))
    _run_on(listener, vendor, settings)


def _run_on(listener: socket.socket, vendor: str, settings: Settings | None) -> None:
    uvicorn.Server(_config(vendor, settings)).run([listener])


def _listen(port: int) -> socket.socket:
    return socket.create_server((_HOST, port), backlog=2048)


def _url(listener: socket.socket) -> str:
    return f"http://{_HOST}:{listener.getsockname()[1]}"


def _config(vendor: str, settings: Settings | None) -> uvicorn.Config:
    return uvicorn.Config(
        app(vendor, settings),
        http=_Protocol,
        loop="asyncio",
        ws="none",
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_TIMEOUT_S,
    )


class _Protocol(H11Protocol):
    """HTTP/1.1 that shows each call its transport, for faults, and when it came, for the quota.

    A time that the handler took would lag behind, by the work on all calls that came before.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Puts the transport into the state of the connection's calls."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def data_received(self, data: bytes) -> None:
        """Notes the time before the call is read."""
        self.app_state["arrived_at"] = time.monotonic()
        super().data_received(data)


class _Emulator:
    """One account of one vendor, with its ledger and its faults."""

    def __init__(self, vendor: str, settings: Settings) -> None:
        self._settings = settings
        self._ledger = Ledger(settings)
        self._plan = FaultPlan(settings.faults)
        self._callbacks = Callbacks(settings, self._ledger, self._plan)
        self._vendor = _VENDORS[vendor](settings, self._ledger, self._callbacks)

    def app(self) -> Starlette:
        """The application."""
        admin = [
            Route("/_stats", self._stats, methods=["GET"]),
            Route("/_faults", self._show_faults, methods=["GET"]),
            Route("/_faults", self._set_faults, methods=["PUT"]),
            Route("/_faults", self._clear_faults, methods=["DELETE"]),
        ]
        paths = [
            Route(operation.path, self._endpoint(operation), methods=[operation.method])
            for operation in self._vendor.operations
        ]
        return Starlette(routes=admin + paths, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        yield
        await self._callbacks.close()

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            arrived_at = request.scope.get("state", {}).get("arrived_at", time.monotonic())
            with self._ledger.call(operation.name, operation.group, arrived_at):
                faults = self._draw(operation)
                call = await _read(request, arrived_at)
                reply = self._reply(operation, call, faults)
                await asyncio.sleep(self._settings.latency_s + _delay_s(faults))
                return respond(self._vendor, reply, faults)

        return endpoint

    def _draw(self, operation: Operation) -> list[Fault]:
        faults = self._plan.draw(operation.name)
        for fault in faults:
            self._ledger.count("faults", fault.kind)
        return faults

    def _reply(self, operation: Operation, call: Call, faults: list[Fault]) -> Reply:
        """The vendor's reply, or its failure; the work is done unless a fault comes before it."""
        failure = next((reply for fault in faults if (reply := self._failure(fault))), None)
        if any(fault.before_work for fault in faults):
            return failure or self._vendor.unavailable(503)
        try:
            reply = self._vendor.answer(operation, call)
        except Refused as refused:
            reply = refused.reply
        if failure is not None:
            return failure
        if reply.error_code:
            self._ledger.count("refused", reply.error_code)
        return reply

    def _failure(self, fault: Fault) -> Reply | None:
        """The reply that a fault puts in the place of the vendor's own."""
        if fault.kind == "server_error":
            return self._vendor.unavailable(fault.status)
        if fault.kind == "throttled":
            return _retry_after(self._vendor.throttled(), fault.retry_after_s)
        return None

    async def _stats(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"vendor": self._vendor.name, **self._ledger.stats()})

    async def _show_faults(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(self._plan.spec.model_dump())

    async def _set_faults(self, request: Request) -> Response:
        try:
            spec = parse_faults((await request.body()).decode())
        except (pydantic.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
            return PlainTextResponse(str(error), 400)
        self._plan.replace(spec)
        return JSONResponse(spec.model_dump())

    async def _clear_faults(self, request: Request) -> Response:
        self._plan.replace(FaultSpec())
        return await self._show_faults(request)


async def _read(request: Request, arrived_at: float) -> Call:
    """The whole call. Raises `HTTPException` where its body is longer than any vendor takes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise HTTPException(413)
        chunks.append(chunk)
    query = urllib.parse.parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True)
    headers = {name.decode(): _text(value) for name, value in request.scope["headers"]}
    body = b"".join(chunks)
    return Call(request.method, request.scope["path"], query, headers, body, arrived_at)


def _text(value: bytes) -> str:
    """A header's value: UTF-8, as Huawei's SDK sends it, else what HTTP says."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _delay_s(faults: list[Fault]) -> float:
    return sum(fault.delay_s for fault in faults if fault.kind == "delay")


def _retry_after(reply: Reply, seconds: int | None) -> Reply:
    if seconds is None:
        return reply
    headers = {**reply.headers, "Retry-After": str(seconds)}
    return dataclasses.replace(reply, headers=headers)
