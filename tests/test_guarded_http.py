import asyncio
import socket
import threading
import traceback

import pytest
import trustme
import web

from beam_moderation import addresses, errors, guarded_http

MAX_BYTES = 1_000_000


@pytest.fixture
def site():
    with web.Site() as site:
        yield site


@pytest.fixture
def cat(site):
    """Fetches from `site` alone, which stands on a loopback address that the policy allows."""
    return opened(allow_networks=["127.0.0.0/8"], ports=[site.port])


def opened(max_redirects=5, **policy):
    filesystem = guarded_http.GuardedHTTPFileSystem(
        addresses.AddressPolicy(**policy), max_redirects, skip_instance_cache=True
    )
    return lambda url: filesystem.cat_file(url, max_bytes=MAX_BYTES)


def test_image_is_had_by_one_get_that_tells_nothing(site, cat):
    assert cat(site.url("/a.jpg")) == web.IMAGE
    (request,) = site.requests
    assert (request.method, request.target) == ("GET", "/a.jpg")
    assert set(request.headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert request.headers["accept-encoding"] == "identity"


def test_connection_is_kept_for_the_next_image(site, cat):
    for _ in range(5):
        cat(site.url("/"))
    assert (len(site.requests), site.connections) == (5, 1)


def test_part_of_a_body_is_cut_from_the_whole(site):
    policy = addresses.AddressPolicy((), ["127.0.0.0/8"], [site.port])
    filesystem = guarded_http.GuardedHTTPFileSystem(policy, skip_instance_cache=True)
    assert filesystem.cat_file(site.url("/"), 3, 7) == web.IMAGE[3:7]
    assert "range" not in site.requests[0].headers


def test_target_is_sent_as_it_was_written(site, cat):
    cat(site.url("/a b/%2F/ü::c?sig=x%2By/=&z#fragment"))
    assert site.requests[0].target == "/a%20b/%2F/%C3%BC::c?sig=x%2By/=&z"


def test_cookie_is_not_sent_back(site, cat):
    site.routes["/"] = web.answer(Set_Cookie="a=b")
    cat(site.url("/"))
    cat(site.url("/"))
    assert "cookie" not in site.requests[1].headers


def test_proxy_of_the_environment_is_not_used(site, cat, monkeypatch):
    with web.Site() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url("/"))
        cat(site.url("/"))
        assert (len(site.requests), len(proxy.requests)) == (1, 0)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (201, errors.FetchStatus),
        (204, errors.FetchStatus),
        (206, errors.FetchStatus),
        (304, errors.FetchStatus),
        (400, errors.FetchStatus),
        (401, errors.FetchForbidden),
        (403, errors.FetchForbidden),
        (404, errors.FetchNotFound),
        (410, errors.FetchNotFound),
        (429, errors.FetchUnavailable),
        (500, errors.FetchUnavailable),
        (503, errors.FetchUnavailable),
    ],
)
def test_status_other_than_200_is_an_error_without_the_body(site, cat, status, error):
    site.routes["/"] = web.answer(b"" if status in (204, 304) else b"testsecret", status)
    with pytest.raises(error) as raised:
        cat(site.url("/?signature=testsecret"))
    assert str(status) in str(raised.value)
    assert "testsecret" not in str(raised.value)


def head(*lines):
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


CHUNKED = head("Transfer-Encoding: chunked")
ONE_CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(web.endless(CHUNKED, ONE_CHUNK), errors.FetchTooLarge, id="endless chunks"),
        pytest.param(
            web.endless(head("Connection: close"), bytes(2**16)),
            errors.FetchTooLarge,
            id="endless, no length",
        ),
        pytest.param(
            web.raw(head(f"Content-Length: {MAX_BYTES + 1}"), close=False),
            errors.FetchTooLarge,
            id="says that it is too long",
        ),
        pytest.param(
            web.raw(head("Content-Length: 1000"), b"short"),
            errors.FetchUnavailable,
            id="shorter than it said",
        ),
        pytest.param(
            web.raw(CHUNKED, b"5\r\nhello\r\n"), errors.FetchUnavailable, id="chunks cut off"
        ),
        pytest.param(
            web.raw(CHUNKED + b"xyz\r\nhello\r\n"), errors.FetchStatus, id="chunks broken"
        ),
        pytest.param(
            web.answer(b"\x1f\x8b", Content_Encoding="gzip"), errors.FetchStatus, id="gzip bomb"
        ),
        pytest.param(
            web.answer(b"", Content_Encoding="identity, br"), errors.FetchStatus, id="two encodings"
        ),
        pytest.param(
            web.raw(b"HTTP/1.1 200 OK\r\nX: ", *[b"a" * 2**16] * 160),
            errors.FetchStatus,
            id="10 MB header",
        ),
        pytest.param(
            web.endless(b"HTTP/1.1 200 OK\r\n", b"X: a\r\n" * 1000),
            errors.FetchStatus,
            id="headers",
        ),
        pytest.param(web.answer(b"hello", length=3), errors.FetchStatus, id="longer than it said"),
        pytest.param(web.raw(b"SSH-2.0-OpenSSH_9\r\n"), errors.FetchStatus, id="not HTTP"),
        pytest.param(web.raw(), errors.FetchUnavailable, id="closed"),
        pytest.param(web.reset, errors.FetchUnavailable, id="reset"),
    ],
)
def test_hostile_answer_is_an_error(site, cat, answer, error):
    site.routes["/"] = answer
    with pytest.raises(error) as raised:
        cat(site.url("/"))
    assert "hello" not in "".join(traceback.format_exception(raised.value))


def test_piece_is_told_of_as_it_comes(site):
    policy = addresses.AddressPolicy((), ["127.0.0.0/8"], [site.port])
    filesystem = guarded_http.GuardedHTTPFileSystem(policy, skip_instance_cache=True)
    sizes = []

    async def received(size):
        sizes.append(size)

    assert filesystem.cat_file(site.url("/"), received=received) == web.IMAGE
    assert sum(sizes) == len(web.IMAGE)


def test_redirect_is_followed_without_referer(site, cat):
    site.routes["/1"] = web.redirect("/2?a=b c", 301)
    site.routes["/2"] = web.redirect(f"//127.0.0.1:{site.port}/3#f", 307)
    site.routes["/3"] = web.redirect("4", 308)
    assert cat(site.url("/1")) == web.IMAGE
    assert [r.target for r in site.requests] == ["/1", "/2?a=b%20c", "/3", "/4"]
    assert not any("referer" in request.headers for request in site.requests)


def test_redirects_end_at_the_limit(site):
    cat = opened(3, allow_networks=["127.0.0.0/8"], ports=[site.port])
    site.routes["/loop"] = web.redirect("/loop")
    with pytest.raises(errors.RedirectRefused):
        cat(site.url("/loop"))
    assert len(site.requests) == 4


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "data:image/png;base64,AA==",
        "http://user:testsecret@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://[::1/",
        "https:///a",
        "simplecache::file:///etc/passwd",
        "",
    ],
)
def test_redirect_to_where_none_may_lead_is_refused(site, cat, location):
    site.routes["/"] = web.redirect(location)
    with pytest.raises(errors.RedirectRefused) as raised:
        cat(site.url("/"))
    assert "testsecret" not in str(raised.value)
    assert len(site.requests) == 1


def test_redirect_without_a_target_is_refused(site, cat):
    site.routes["/"] = web.answer(b"", 302)
    with pytest.raises(errors.RedirectRefused):
        cat(site.url("/"))


def test_redirect_to_private_address_is_refused(site):
    cat = opened(allow_hosts=[f"127.0.0.2:{site.port}"])
    site.routes["/"] = web.redirect(site.url("/secret"))
    with pytest.raises(errors.AddressRefused):
        cat(site.url("/"))
    assert site.requests == []


def internet(monkeypatch, site, names, port=80):
    made = web.Internet({port: site}, names)
    made.install(monkeypatch)
    return made


def test_name_with_a_private_address_is_never_dialled(site, monkeypatch):
    made = internet(monkeypatch, site, {"evil.example": [["10.0.0.1"]]})
    with pytest.raises(errors.AddressRefused):
        opened()("http://evil.example/")
    assert made.dialled == []


def test_private_one_of_several_addresses_is_skipped(site, monkeypatch):
    answer = ["127.0.0.1", "10.0.0.1", "::1", "93.184.215.14"]
    made = internet(monkeypatch, site, {"mixed.example": [answer]})
    assert opened()("http://mixed.example/") == web.IMAGE
    assert made.dialled == [("93.184.215.14", 80)]


def test_name_that_is_private_the_second_time_is_refused(site, monkeypatch):
    names = {"rebind.example": [["93.184.215.14"], ["127.0.0.1"]]}
    made = internet(monkeypatch, site, names)
    made.sites[443] = site
    site.routes["/"] = web.redirect("http://rebind.example:443/secret")
    with pytest.raises(errors.AddressRefused):
        opened()("http://rebind.example/")
    assert made.dialled == [("93.184.215.14", 80)]
    assert [request.target for request in site.requests] == ["/"]


def test_host_that_is_allowed_opens_its_address_to_itself_alone(site, monkeypatch):
    names = {"store.internal": [["127.0.0.1"]], "evil.example": [["127.0.0.1"]]}
    internet(monkeypatch, site, names)
    cat = opened(allow_hosts=[f"store.internal:{site.port}"])
    assert cat(f"http://store.internal:{site.port}/") == web.IMAGE
    with pytest.raises(errors.AddressRefused):
        cat(f"http://evil.example:{site.port}/")


def test_name_that_does_not_exist_is_unavailable(monkeypatch, site):
    internet(monkeypatch, site, {})
    with pytest.raises(errors.FetchUnavailable):
        opened()("http://nowhere.example/")


def test_redirect_from_https_to_http_is_refused(monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with web.Site(tls=web.tls(authority, "example.com")) as secure, web.Site() as plain:
        made = internet(monkeypatch, secure, {"example.com": [["93.184.215.14"]]}, 443)
        made.sites[80] = plain
        secure.routes["/down"] = web.redirect("http://example.com/")
        plain.routes["/up"] = web.redirect("https://example.com/")
        filesystem = guarded_http.GuardedHTTPFileSystem(
            ca_file=str(tmp_path / "ca.pem"), skip_instance_cache=True
        )
        assert filesystem.cat_file("http://example.com/up") == web.IMAGE
        with pytest.raises(errors.RedirectRefused):
            filesystem.cat_file("https://example.com/down")
        with pytest.raises(errors.FetchUnavailable):
            opened()("https://example.com/untrusted")


@pytest.mark.parametrize(
    ("silent", "good"),
    [
        ("silent.example", "good.example2"),
        ("silent.com.cn", "good.com.cn"),
        ("silent.co.uk.", "good.co.uk."),
        ("silent.github.test", "good.com."),
    ],
)
def test_a_domain_whose_servers_do_not_answer_leaves_threads_for_others(monkeypatch, silent, good):
    answered = threading.Event()
    asked = []

    def getaddrinfo(host, port, *_, **__):
        asked.append(host)
        if "silent" in host:
            answered.wait(60)
            raise OSError
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def look_up():
        resolver = guarded_http.ThreadedResolver()
        names = [f"{n}.{silent}" for n in range(200)]
        looking = [asyncio.ensure_future(resolver.resolve(name)) for name in names]
        found = await asyncio.wait_for(resolver.resolve(good), 30)
        before = len(asked)
        for waiting in looking:
            waiting.cancel()
        again = [asyncio.ensure_future(resolver.resolve(name)) for name in names[:20]]
        await asyncio.wait_for(resolver.resolve(good), 30)
        held = len([name for name in asked if "silent" in name])
        answered.set()
        await asyncio.wait_for(asyncio.gather(*again, return_exceptions=True), 30)
        await resolver.close()
        return found[0]["host"], before, held

    assert asyncio.run(look_up()) == ("93.184.215.14", 9, 8)
    assert len(asked) == 2 + 8 + 20
