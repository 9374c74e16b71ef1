import pytest

from beam_moderation import errors, uris


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.COM/A.jpg", "https://example.com/A.jpg"),
        ("https://example.com:8443/a?b=c#d", "https://example.com:8443/a?b=c"),
        ("https://example.com?u=a::b", "https://example.com/?u=a::b"),
        ("https://example.com./a", "https://example.com/a"),
        ("https://bücher.example/ü b", "https://xn--bcher-kva.example/%C3%BC%20b"),
        ("https://Bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://[2001:4860::0:1]:80/", "http://[2001:4860::1]/"),
        ("https://h.example/a%2Fb?sig=x%2By%7E", "https://h.example/a%2Fb?sig=x%2By%7E"),
        ("https://a_b.example/", "https://a_b.example/"),
    ],
)
def test_url_is_sent_as_it_was_parsed(uri, url):
    assert str(uris.parse_web_address(uri).url) == url


@pytest.mark.parametrize(
    "uri",
    [
        "http://",
        "http:///a",
        "http:a",
        "http:/a/b",
        "http://:80/",
        "http://h:/x:y",
        "http://h:port/",
        "http://h:65536/",
        "http://user@h/",
        "http://user:secret@h/",
        "http://h\\@127.0.0.1/",
        "http://h/a\tb",
        "http://h/a\nHost: x",
        "http://h/\x00",
        "http://h/\u2028",
        "http://h/\ud800",
        " http://h/",
        "http://h ",
        "http://h .example/",
        "http://h%00.example/",
        "http://%31/",
        "http://-h/",
        "http://a..b/",
        "http://[127.0.0.1]/",
        "http://[::1/",
        "http://①.example/",
        "http://127。0。0。1/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://h/" + "a" * 8192,
        "",
    ],
)
def test_url_that_could_be_read_in_two_ways_is_invalid(uri):
    with pytest.raises(errors.UriInvalid):
        uris.parse_web_address(uri)


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "a.0x10", "1.2.3.4.5"]
)
def test_number_that_is_no_address_in_four_parts_is_refused(host):
    with pytest.raises(errors.AddressRefused):
        uris.parse_web_address(f"http://{host}/")


def test_chain_of_filesystems_is_refused_and_colons_are_not():
    with pytest.raises(errors.SchemeRefused):
        uris.parse_web_address("https://example.com/a.zip::file:///etc/passwd")
    assert uris.parse_web_address("https://example.com/a::b").target == "/a::b"


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket/a/b.jpg", ("bucket", "a/b.jpg")),
        ("s3://bucket/a::b [1]*#2.jpg", ("bucket", "a::b [1]*#2.jpg")),
        ("s3://bucket//a", ("bucket", "/a")),
        ("abfss://c@lake.dfs.core.windows.net/a", ("c@lake.dfs.core.windows.net", "a")),
    ],
)
def test_key_of_an_object_is_literal(uri, parts):
    assert uris.parse_object(uri) == parts


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3:///a",
        "s3://b",
        "s3://b/",
        "s3:b/a",
        "s3://k:s@b/a",
        "abfss://c@lake.evil.example/a",
        "s3://b/../a",
        "s3://b/a?v=1",
    ],
)
def test_object_without_bucket_and_key_is_invalid(uri):
    with pytest.raises(errors.UriInvalid):
        uris.parse_object(uri)


def test_file_path_is_decoded_once():
    assert uris.parse_file_path("file:///a%20b/c%2525?#.jpg") == "/a b/c%25?#.jpg"


@pytest.mark.parametrize("uri", ["file://host/a", "file:a", "file:/a", "file:///a%00b"])
def test_file_uri_without_an_absolute_path_is_invalid(uri):
    with pytest.raises(errors.UriInvalid):
        uris.parse_file_path(uri)


@pytest.mark.parametrize(
    ("base", "reference", "path"),
    [
        ("file:///data/", "a b%20c?#.jpg", "/data/a b%20c?#.jpg"),
        ("file:///data/", "/data/é.jpg", "/data/é.jpg"),
    ],
)
def test_reference_below_a_folder_is_a_path_as_the_disk_has_it(base, reference, path):
    assert uris.parse_file_path(uris.below(base, reference)) == path


def test_reference_below_a_bucket_is_a_key():
    assert uris.below("s3://bucket/in/", "a b.jpg") == "s3://bucket/in/a b.jpg"


@pytest.mark.parametrize(
    ("base", "reference"),
    [
        ("file:///data/", "../a"),
        ("file:///data/", "a/../../b"),
        ("s3://bucket/in/", "../a"),
        ("s3://bucket/in/", "/a"),
        ("https://h/in/", "..%2fa"),
        ("https://h/in/", "%2e%2e/a"),
        ("https://h/in/", "//evil.example/a"),
    ],
)
def test_reference_cannot_climb_out_of_its_base(base, reference):
    with pytest.raises(errors.UriInvalid):
        uris.below(base, reference)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://example.com/a@2x.png", "https://example.com/a@2x.png"),
        ("https://example.com/a?X-Amz-Signature=secret", "https://example.com/a..."),
        ("https://example.com/a#secret", "https://example.com/a..."),
        ("https://user:secret@example.com/a", "https://example.com/a..."),
        ("https://user:se/cret@example.com/a", "https://..."),
        ("https://example.com/a;jsessionid=secret", "https://example.com/..."),
        ("https://example.com:81/https://user:secret@o/a", "https://example.com:81/..."),
        ("//secret@example.com/a", "..."),
        ("//user:secret@example.com/a", "..."),
        ("secret@example.com/a", "..."),
        ("secret:x-oauth-basic@example.com/a", "..."),
        ("data:image/png;base64,secret", "data:..."),
        ("/data/a.jpg", "/data/a.jpg"),
        ("https://h/a\nb\x1b[31m\u202e", "https://h/a\\nb\\x1b[31m\\u202e"),
        ("https://h/\ud800", "https://h/\\ud800"),
        ("", ""),
    ],
)
def test_redacted_uri_is_one_line_without_secrets(uri, shown):
    assert uris.redact_uri(uri) == shown


def test_redacted_uri_is_bounded():
    assert len(uris.redact_uri("https://h/" + "\n" * 10**6)) < 1000
