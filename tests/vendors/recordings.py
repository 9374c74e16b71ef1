"""The recorded requests and answers of the vendors' official SDKs, in `tests/vectors`."""

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from beam_moderation.vendors import protocol

_FOLDER = Path(__file__).parent.parent / "vectors"


def of(vendor):
    """The recordings of a vendor by their file's name, without the vendor's and the suffix."""
    files = sorted(_FOLDER.glob(f"{vendor}_*.json"))
    return {file.stem.removeprefix(f"{vendor}_"): json.loads(file.read_text()) for file in files}


def response(recording):
    told = recording["response"]
    headers = {name.lower(): value for name, value in told["headers"].items()}
    return protocol.Response(told["status"], headers, told["body"].encode())


def json_response(fields, status=200):
    """An answer that is not recorded."""
    return protocol.Response(status, {}, json.dumps(fields).encode())


def signed_headers(recording, names):
    """The recorded headers of these names, as lower-case ones."""
    headers = {name.lower(): value for name, value in recording["request"]["headers"].items()}
    return {name: headers[name] for name in names}


def assert_same_place(request, recording):
    """Asserts that a request goes where the recorded one went."""
    recorded, url = recording["request"], urlsplit(request.url)
    assert url.scheme == "https"
    assert (request.method, url.netloc) == (recorded["method"], recorded["host"])
    assert url.path == recorded["path"]
    assert parse_qsl(url.query) == parse_qsl(recorded["query"])
    assert request.headers["Host"] == recorded["host"]
