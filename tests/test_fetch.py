import asyncio
import collections
import csv
import importlib.util
import itertools
import pathlib
import pickle
import threading
import time
from typing import NamedTuple

import fsspec
import pytest
import trustme
import web

from beam_moderation import addresses, errors, fetch, filesystems


class Reference(NamedTuple):
    uri: str | None
    content: bytes | None = None


def fetcher(site, *, policy=None, **limits):
    """Fetches from a site on loopback, with limits that keep a test short."""
    policy = policy or addresses.AddressPolicy((), ["127.0.0.0/8"], [site.port])
    limits = fetch.FetchLimits(**{"attempts": 1, "deadline_s": 5, "backoff_s": 0.001} | limits)
    return fetch.Fetcher(filesystems.Filesystems.of(policy=policy), limits)


def outcome(fetcher, uri):
    """The code of the error, or the bytes."""
    try:
        return asyncio.run(fetcher.fetch(uri))
    except errors.FetchError as error:
        return error.code


@pytest.fixture
def site():
    with web.Site() as site:
        yield site


CODES = {
    "fetched": {web.IMAGE},
    "address-refused": {"address-refused"},
    "port-refused": {"address-refused"},
    "scheme-refused": {"scheme-refused", "uri-invalid"},
    "refused": {"scheme-refused", "uri-invalid", "address-refused"},
    "refused-at-hop": {"redirect-refused", "address-refused"},
}
"""The outcomes that each expectation of `ssrf_cases.csv` stands for."""

NAMES = {
    "localhost": [["127.0.0.1", "::1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "kubernetes.default.svc": [["10.96.0.1"]],
    "example.com": [["93.184.215.14"]],
    "xn--bcher-kva.example": [["2606:2800:21f::1", "93.184.215.14"]],
}


def cases():
    with open(pathlib.Path(__file__).with_name("ssrf_cases.csv"), newline="") as file:
        return [pytest.param(row, id=ascii(row["reference"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An internet of one plain and one secure site at every address, and a fetcher in it."""
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    secure = web.tls(authority, "example.com", "xn--bcher-kva.example")
    with web.Site() as plain, web.Site(tls=secure) as tls, pytest.MonkeyPatch.context() as patch:
        internet = web.Internet({80: plain, 443: tls}, NAMES)
        internet.install(patch)
        source = filesystems.Web(ca_file=str(ca_file))
        sources = {"http": source, "https": source}
        if importlib.util.find_spec("s3fs"):
            options = {"anon": True, "client_kwargs": {"endpoint_url": plain.url("")}}
            sources["s3"] = filesystems.Buckets(["allowed-bucket"], options)
        limits = fetch.FetchLimits(attempts=1)
        yield internet, fetch.Fetcher(filesystems.Filesystems(sources), limits)


@pytest.mark.parametrize("case", cases())
def test_reference_of_a_stranger_ends_as_expected(world, case):
    internet, fetcher = world
    reference = case["reference"]
    internet.dialled.clear()
    for site in internet.sites.values():
        site.requests.clear()
    if reference.startswith("s3://allowed") and "s3" not in fetcher.filesystems.sources:
        pytest.skip("needs the extra s3")
    if case["category"] == "redirect-to":
        internet.sites[443].routes["/redirect"] = web.redirect(reference)
        reference = "https://example.com/redirect"
    assert outcome(fetcher, reference) in CODES[case["expect"]]
    expected_requests = case["expect"] in ("fetched", "refused-at-hop")
    assert sum(len(site.requests) for site in internet.sites.values()) == expected_requests
    dialled = {address for address, _ in internet.dialled if not address.startswith("127.")}
    assert all(map(addresses.is_public, dialled))


def test_fetcher_survives_pickling_after_its_use(site):
    ours = fetcher(site)
    assert outcome(ours, site.url("/")) == web.IMAGE
    assert outcome(pickle.loads(pickle.dumps(ours)), site.url("/")) == web.IMAGE


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(web.silence, id="silence"),
        pytest.param(
            web.endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x", 0.02), id="drip"
        ),
        pytest.param(web.endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.02), id="dripping header"),
        pytest.param(web.redirect("/"), id="redirects that take time"),
    ],
)
def test_source_that_takes_too_long_is_given_up(site, answer):
    async def slowly(request, writer):
        await asyncio.sleep(0.05)
        await answer(request, writer)

    site.routes["/"] = slowly
    policy = addresses.AddressPolicy((), ["127.0.0.0/8"], [site.port])
    patient = filesystems.Web(policy, max_redirects=10**6)
    limits = fetch.FetchLimits(deadline_s=0.3, attempts=1)
    ours = fetch.Fetcher(filesystems.Filesystems({"http": patient}), limits)
    assert outcome(ours, site.url("/")) == "fetch-timeout"


def test_name_server_that_takes_too_long_is_given_up(site, monkeypatch):
    looked_up = threading.Event()

    def getaddrinfo(*_, **__):
        looked_up.wait(10)
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    assert outcome(fetcher(site, deadline_s=0.1), "http://slow.example/") == "fetch-timeout"
    looked_up.set()


def test_body_is_bounded(site):
    site.routes["/"] = web.answer(bytes(1001))
    assert outcome(fetcher(site, max_bytes=1001), site.url("/")) == bytes(1001)
    assert outcome(fetcher(site, max_bytes=1000), site.url("/")) == "fetch-too-large"


@pytest.mark.parametrize(("scheme", "root"), [("file", "/"), ("memory", "/images")])
def test_body_of_every_filesystem_is_bounded(tmp_path, scheme, root):
    folder = tmp_path if scheme == "file" else pathlib.Path("/images")
    (tmp_path / "a").write_bytes(bytes(1001))
    fsspec.filesystem("memory").pipe("/images/a", bytes(1001))
    sources = filesystems.Filesystems.of(roots=[str(tmp_path)], buckets=["memory://images"])
    uri = f"file://{folder}/a" if scheme == "file" else "memory://images/a"
    for max_bytes, expected in ((1001, bytes(1001)), (1000, "fetch-too-large")):
        ours = fetch.Fetcher(sources, fetch.FetchLimits(max_bytes=max_bytes))
        assert outcome(ours, uri) == expected


def flaky(*answers):
    """One answer after the other."""
    left = iter(answers)

    async def send(request, writer):
        await next(left)(request, writer)

    return send


@pytest.mark.parametrize("first", [web.answer(b"", 503), web.answer(b"", 429), web.reset])
def test_what_may_pass_is_tried_again(site, first):
    site.routes["/"] = flaky(first, web.answer())
    assert outcome(fetcher(site, attempts=2), site.url("/")) == web.IMAGE
    assert len(site.requests) == 2


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (400, 1), (500, 3)])
def test_error_says_how_often_it_was_tried(site, status, attempts):
    site.routes["/"] = web.answer(b"", status)
    with pytest.raises(errors.FetchError) as raised:
        asyncio.run(fetcher(site, attempts=3).fetch(site.url("/")))
    assert (raised.value.attempts, len(site.requests)) == (attempts, attempts)


def test_message_is_one_line_without_secrets(site):
    site.routes["/a"] = web.answer(b"testsecret", 500)
    for uri in (
        site.url("/a?X-Amz-Signature=testsecret"),
        site.url("/a\n?testsecret"),
        "http://id:testsecret@127.0.0.1/",
        "data:text/plain,testsecret",
    ):
        with pytest.raises(errors.FetchError) as raised:
            asyncio.run(fetcher(site).fetch(uri))
        assert "testsecret" not in str(raised.value)
        assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (FileNotFoundError("testsecret"), "fetch-not-found"),
        (PermissionError("testsecret"), "fetch-forbidden"),
        (TimeoutError("testsecret"), "fetch-timeout"),
        (OSError("testsecret"), "fetch-unavailable"),
        (RuntimeError("testsecret"), "fetch-unavailable"),
    ],
)
def test_error_of_a_filesystem_becomes_one_of_ours(raised, code):
    class Broken:
        def open(self, scheme):
            async def read(uri, max_bytes, received):
                raise raised

            return read

    ours = fetch.Fetcher(filesystems.Filesystems({"x": Broken()}), fetch.FetchLimits(attempts=1))
    with pytest.raises(errors.FetchError) as caught:
        asyncio.run(ours.fetch("x://a/b"))
    assert caught.value.code == code
    assert "testsecret" not in str(caught.value)


@pytest.mark.parametrize("name", fetch.FetchLimits.__slots__)
def test_limit_that_allows_nothing_is_the_operators_mistake(name):
    with pytest.raises(errors.ConfigurationError, match=name):
        fetch.FetchLimits(**{name: 0})


def test_every_reference_has_one_outcome(site):
    site.routes["/missing"] = web.answer(b"", 404)
    references = [
        Reference(site.url("/a")),
        Reference(site.url("/missing")),
        Reference(None, b"inline"),
        Reference(site.url("/b"), b"inline"),
        Reference(None, bytes(100_001)),
        Reference(None, b""),
        Reference(None),
        Reference("file:///etc/passwd"),
    ] * 50
    ours = fetcher(site, max_bytes=100_000, concurrency=8)
    outcomes = dict(ours.ahead(enumerate(references)))
    assert len(outcomes) == len(references)
    found = [x if isinstance(x, bytes) else x.code for _, x in sorted(outcomes.items())]
    one = [web.IMAGE, "fetch-not-found", b"inline", b"inline", "fetch-too-large", b""]
    assert found == [*one, "uri-invalid", "scheme-refused"] * 50
    assert len(site.requests) == 100


def test_no_references_have_no_outcomes(site):
    assert list(fetcher(site).ahead([])) == []


def test_window_is_shared_by_threads(site):
    window = fetcher(site, concurrency=8).ahead((i, Reference(site.url("/"))) for i in range(300))
    taken = collections.deque()

    def consume():
        taken.extend(key for key, _ in window)

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == list(range(300))


def test_stuck_source_holds_nobody_up(site):
    site.routes["/stuck"] = web.silence
    references = [Reference(site.url("/stuck")), *[Reference(site.url("/"))] * 200]
    window = fetcher(site, concurrency=2, deadline_s=10).ahead(enumerate(references))
    assert {key for key, _ in itertools.islice(window, 200)} == set(range(1, 201))
    window.close()


def counted(site):
    """References without end, and how many were taken."""
    taken = itertools.count()
    return taken, ((next(taken), Reference(site.url("/"))) for _ in itertools.count())


def settled(read):
    """The value at which something comes to rest."""
    deadline = time.monotonic() + 20
    last, since = read(), time.monotonic()
    while time.monotonic() - since < 0.3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        if read() != last:
            last, since = read(), time.monotonic()
    return last


def test_slow_consumer_stops_new_fetches(site):
    _, references = counted(site)
    window = fetcher(site, concurrency=4, buffer_bytes=len(web.IMAGE)).ahead(references)
    next(window)
    assert settled(lambda: len(site.requests)) <= 1 + 1 + 4
    window.close()


def test_window_takes_no_more_references_than_it_can_soon_use(site):
    taken, references = counted(site)
    window = fetcher(site, concurrency=4).ahead(references)
    next(window)
    assert settled(lambda: len(site.requests)) == 12
    assert next(taken) == 12
    window.close()


def test_bodies_that_come_together_are_held_back_without_loss(site):
    big = bytes(1_000_000)
    site.routes["/"] = web.answer(big)
    ours = fetcher(site, concurrency=16, buffer_bytes=300_000, deadline_s=60)
    window = ours.ahead((i, Reference(site.url("/"))) for i in range(48))
    contents = [next(window)[1]]
    assert settled(window._held_bytes) <= 2 * 300_000 + len(big) + 16 * 2**18
    contents += [content for _, content in window]
    assert contents == [big] * 48
    assert len(site.requests) == 48


def test_time_spent_waiting_for_the_consumer_is_not_the_sources(site):
    site.routes["/"] = web.answer(bytes(1_000_000))
    ours = fetcher(site, concurrency=4, buffer_bytes=300_000, deadline_s=0.5)
    window = ours.ahead((i, Reference(site.url("/"))) for i in range(4))
    taken = [next(window)]
    threading.Event().wait(0.7)
    taken += window
    assert [len(content) for _, content in taken] == [1_000_000] * 4


def test_closed_window_ends_and_leaves_nothing_running(site):
    site.routes["/"] = web.silence
    window = fetcher(site, concurrency=4).ahead((i, Reference(site.url("/"))) for i in range(100))
    ended = []
    threads = [threading.Thread(target=lambda: ended.append(list(window))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(site.requests) < 4:
        time.sleep(0.01)
    window.close()
    for thread in threads:
        thread.join(10)
    assert ended == [[], [], []]
    assert list(window) == []
    assert settled(lambda: len(window._workers)) == 0


def test_fetching_begins_before_the_first_outcome_is_asked_for(site):
    arrived = threading.Event()

    async def note(request, writer):
        arrived.set()
        await web.answer()(request, writer)

    site.routes["/noted"] = note
    window = fetcher(site).ahead([(0, Reference(site.url("/noted")))])
    assert arrived.wait(30)
    assert next(window) == (0, web.IMAGE)


def test_failing_iterable_fails_its_consumer(site):
    def references():
        yield 0, Reference(site.url("/"))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        next(fetcher(site).ahead(references()))
