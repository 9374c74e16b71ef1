"""Fetching against bare aiohttp: the same files, the same server, the same run.

A server in a process of its own answers every GET after `--latency-ms` with a body of about 180 kB
and counts the requests. Rounds alternate; the best of each is compared, and the ratios are printed.

    python benchmarks/fetch.py --images 2000 --latency-ms 50 --in-flight 256
"""

import argparse
import asyncio
import multiprocessing
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import aiohttp

from beam_moderation import addresses, fetch, filesystems

BODY = bytes(180_000)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


class Reference(NamedTuple):
    """What `Fetcher.ahead` takes."""

    uri: str
    content: None = None


class Round(NamedTuple):
    """What one round took."""

    images_per_s: float
    cpu_ms_per_image: float
    requests_per_image: float


class Answerer(asyncio.Protocol):
    """Answers each request of a kept connection after a pause; the body is the same for all."""

    def __init__(self, latency_s: float, count: Any) -> None:
        self.latency_s = latency_s
        self.count = count
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Counts a request when its head is complete."""
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            self.head = b""
            self.count.value += 1
            asyncio.get_running_loop().call_later(self.latency_s, self.answer)

    def answer(self) -> None:
        """Sends the one answer there is."""
        self.transport.writelines((HEAD % len(BODY), BODY))


def serve(latency_s: float, port: Any, count: Any) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Answerer(latency_s, count), "127.0.0.1", 0, backlog=1024
        )
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(run())


def bare_aiohttp(uris: list[str], in_flight: int) -> int:
    """Workers around one session, each with one request at a time."""

    async def work(session: aiohttp.ClientSession, left: Iterator[str]) -> int:
        size = 0
        for uri in left:
            async with session.get(uri) as response:
                size += len(await response.read())
        return size

    async def run() -> int:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            left = iter(uris)
            return sum(await asyncio.gather(*(work(session, left) for _ in range(in_flight))))

    return asyncio.run(run())


def fetcher(uris: list[str], in_flight: int, port: int) -> int:
    policy = addresses.AddressPolicy(allow_networks=["127.0.0.0/8"], ports=[port])
    sources = filesystems.Filesystems.of(policy=policy)
    ours = fetch.Fetcher(sources, fetch.FetchLimits(concurrency=in_flight, deadline_s=30))
    return drain(ours, uris)


def drain(ours: fetch.Fetcher, uris: list[str]) -> int:
    size = 0
    for _, outcome in ours.ahead((i, Reference(uri)) for i, uri in enumerate(uris)):
        if not isinstance(outcome, bytes):
            raise outcome
        size += len(outcome)
    return size


def measure(client: Callable[[], int], images: int, count: Any) -> Round:
    requests, wall_s, cpu_s = count.value, time.perf_counter(), time.process_time()
    size = client()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    if size != images * len(BODY):
        raise RuntimeError(f"{size} bytes of {images * len(BODY)}")
    return Round(images / wall_s, 1000 * cpu_s / images, (count.value - requests) / images)


def report(name: str, rounds: list[Round]) -> Round:
    best = max(rounds)
    cpu_ms = min(one.cpu_ms_per_image for one in rounds)
    requests = max(one.requests_per_image for one in rounds)
    print(
        f"{name:14} {best.images_per_s:7.0f} img/s {cpu_ms:6.3f} CPU-ms/img {requests:.3f} req/img"
    )
    return best


def over_http(images: int, latency_ms: float, in_flight: int, rounds: int) -> None:
    port, count = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=serve, args=(latency_ms / 1000, port, count))
    server.start()
    try:
        while not port.value:
            time.sleep(0.01)
        uris = [f"http://127.0.0.1:{port.value}/{i}.jpg" for i in range(images)]
        bare, ours = [], []
        for _ in range(rounds):
            bare.append(measure(lambda: bare_aiohttp(uris, in_flight), images, count))
            ours.append(measure(lambda: fetcher(uris, in_flight, port.value), images, count))
        ratio = report("fetcher", ours).images_per_s / report("bare aiohttp", bare).images_per_s
        print(f"fetcher / bare aiohttp: {ratio:.2f}")
    finally:
        server.terminate()
        server.join()


def over_files(images: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"{i % 100}.jpg") for i in range(images)]
        for path in paths[:100]:
            path.write_bytes(BODY)
        ours = fetch.Fetcher(filesystems.Filesystems.of(roots=[folder]))
        uris = [path.as_uri() for path in paths]
        unused = multiprocessing.Value("i", 0)

        def plain() -> int:
            return sum(len(path.read_bytes()) for path in paths)

        plain_rounds, our_rounds = [], []
        for _ in range(rounds):
            plain_rounds.append(measure(plain, images, unused))
            our_rounds.append(measure(lambda: drain(ours, uris), images, unused))
        read = report("local fetcher", our_rounds)
        report("read_bytes", plain_rounds)
        print(f"local fetcher: {1000 / read.images_per_s:.3f} ms an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    over_http(options.images, options.latency_ms, options.in_flight, options.rounds)
    over_files(options.images, options.rounds)


if __name__ == "__main__":
    main()
