"""HTTP responses of the emulator, the broken ones included."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from beam_moderation.emulator.exchange import Item, Reply, Vendor
from beam_moderation.emulator.faults import Fault

_CHUNK = b" " * 65_536


class Dropped(Response):
    """No byte at all: the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Closes the connection; its transport is in the scope where `server` put it there."""
        transport = scope.get("state", {}).get("transport")
        if transport is None:
            await Cut(b"..")(scope, receive, send)
            return
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class Cut(Response):
    """The head and half of the body; then the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends less than the length that the head promises."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})


def respond(vendor: Vendor, reply: Reply, faults: Sequence[Fault]) -> Response:
    """The response that carries a reply, changed by the faults that hit the call."""
    hit: dict[str, Fault] = {fault.kind: fault for fault in faults}
    if "drop" in hit:
        return Dropped()
    body = reply.render(_distorted(vendor, list(reply.items), hit))
    if "wrong_encoding" in hit:
        body = _with_gbk(body)
    if "malformed" in hit:
        body = body[: len(body) // 2]
    if "huge" in hit:
        stream = _padded(body, hit["huge"].size_bytes)
        return StreamingResponse(stream, reply.status, _headers(reply))
    kind = Cut if "cut" in hit else Response
    return kind(body, reply.status, _headers(reply))


def _headers(reply: Reply) -> dict[str, str]:
    return {"Content-Type": reply.media_type, **reply.headers}


def _distorted(vendor: Vendor, items: list[Item], hit: Mapping[str, Fault]) -> list[Item]:
    """The items as the faults leave them."""
    changes: Mapping[str, Callable[[list[Item]], list[Item]]] = {
        "partial": lambda items: [
            vendor.failed(item) if number % 2 == 0 else item for number, item in enumerate(items)
        ],
        "missing_scene": lambda items: [vendor.without_scene(items[0]), *items[1:]],
        "duplicate": lambda items: [items[0], *items],
        "missing_item": lambda items: items[:-1],
        "out_of_order": lambda items: items[::-1],
    }
    for kind, change in changes.items():
        if kind in hit and items:
            items = change(items)
    return items


def _with_gbk(body: bytes) -> bytes:
    """The body with one more field, whose text is GBK and no UTF-8."""
    word = "违规".encode("gbk")
    if body.startswith(b"{"):
        return b'{"note":"' + word + b'",' + body[1:]
    head, tag, rest = body.partition(b"<Response>")
    return head + tag + b"<Note>" + word + b"</Note>" + rest


async def _padded(body: bytes, size_bytes: int) -> AsyncIterator[bytes]:
    yield body
    for _ in range(size_bytes // len(_CHUNK)):
        yield _CHUNK
