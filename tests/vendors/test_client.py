"""The client against real servers that are slow, broken, endless or hostile."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from beam_moderation import errors
from beam_moderation.quota import Pacer, Quota
from beam_moderation.vendors import protocol
from beam_moderation.vendors.client import Client

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def raw_server(answer):
    """A server that reads a request and then does what `answer` does with the writer."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def writing(*pieces):
    async def answer(writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


async def never(_):
    await asyncio.sleep(30)


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def dripping(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


def send(answer, timeout_s=5.0, **options):
    async def main():
        async with raw_server(answer) as url, Client(**options) as client:
            return await client.send(protocol.Request("POST", url, {}, b"{}"), timeout_s)

    return asyncio.run(main())


def test_answer_is_returned_whatever_its_status():
    answer = send(writing(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno"))
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"no", "7")


def test_redirect_is_not_followed():
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    assert send(writing(redirect)).status == 302


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (never, errors.VendorTimeout),
        (dripping, errors.VendorTimeout),
        (writing(), errors.VendorTimeout),
        (writing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), errors.VendorTimeout),
        (writing(b"it is not HTTP\r\n\r\n"), errors.VendorAnswerMalformed),
        (endless, errors.VendorAnswerMalformed),
    ],
    ids=["never", "drip", "closed", "half", "no-http", "endless"],
)
def test_answer_that_does_not_come_whole_has_its_class(answer, expected):
    with pytest.raises(errors.VendorError) as raised:
        send(answer, timeout_s=0.3 if answer in (never, dripping) else 5.0)
    assert type(raised.value) is expected
    assert "127.0.0.1" not in str(raised.value)


def test_compressed_answer_is_not_unpacked():
    bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    assert send(writing(bomb)).body == b"\x1f\x8b"


def test_server_that_is_not_there_was_sent_nothing():
    async def main():
        async with Client() as client:
            request = protocol.Request("POST", "http://127.0.0.1:9/?sig=secret", {}, b"{}")
            await client.send(request, 1.0)

    with pytest.raises(errors.VendorUnavailable) as raised:
        asyncio.run(main())
    assert "secret" not in str(raised.value)


def test_time_spent_waiting_for_the_turn_is_not_the_vendors():
    async def main():
        pacer = Pacer(Quota(1, max_in_flight=2))
        async with raw_server(writing(OK)) as url, Client() as client:
            for _ in range(2):
                async with pacer.place(0) as turn:
                    answer = await client.send(protocol.Request("POST", url, {}, b"{}"), 0.5, turn)
                assert turn.left_at is not None
            return answer

    assert asyncio.run(main()).body == b"ok"


def test_addresses_and_headers_are_sent_as_they_were_signed(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    seen = []

    async def handler(request):
        seen.append((request.raw_path, request.headers))
        return web.Response(headers={"Set-Cookie": "a=b"})

    async def main():
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host = f"127.0.0.1:{runner.addresses[0][1]}"
        async with Client() as client:
            for _ in range(2):
                url = f"http://{host}/a%2Fb/%7e?q=%E5%BC%A0+%26&r=a%2Bb"
                headers = {"Host": "signed.example", "X-Acs-Action": "Scan"}
                await client.send(protocol.Request("PUT", url, headers, b"x"), 5.0)
        await runner.cleanup()

    asyncio.run(main())
    for path, headers in seen:
        assert path == "/a%2Fb/%7e?q=%E5%BC%A0+%26&r=a%2Bb"
        assert headers["Host"] == "signed.example"
        assert headers["X-Acs-Action"] == "Scan"
        assert headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in headers
