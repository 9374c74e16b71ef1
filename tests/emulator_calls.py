"""Signed calls to an emulator, over a real connection, and what they ask for.

The strings to sign are the emulator's own: that they are right is shown by the recorded requests
and by the official SDKs.
"""

import asyncio
import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.types import ASGIApp

from beam_moderation import emulator
from beam_moderation.emulator import alibaba_access, huawei_access, tencent_access
from beam_moderation.emulator.exchange import Call

Emulate = Callable[..., emulator.Running]
Urls = dict[str, str]
Faulty = Callable[..., str]

URLS = [f"https://img.example.com/{i}.jpg" for i in range(20)]
BLOCKED = "https://img.example.com/porn-block.jpg"
MISSING = "https://img.example.com/image-missing.jpg"
JPEG = b"\xff\xd8\xff\xe0 small"

HOST = "host.example.com"
KEY = ("testid", "testsecret")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def send(
    url: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Answer:
    """One call on a connection of its own; raises what `http.client` raises."""
    host = urllib.parse.urlsplit(url).netloc
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        connection.request(method, path, body or None, headers or {})
        response = connection.getresponse()
        head = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, head, response.read())


def pass_on(app: ASGIApp, request: dict[str, Any]) -> Answer:
    """Hands a recorded request to an application, with no server between."""
    data = request["body"]
    body = base64.b64decode(data) if request["body_encoding"] == "base64" else data.encode()
    scope = {
        "type": "http",
        "method": request["method"],
        "path": urllib.parse.unquote(request["path"]),
        "query_string": request["query"].encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in request["headers"].items()],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send_on(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send_on))
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], {}, answer)


def alibaba(
    url: str, operation: str, document: Any, key: tuple[str, str] = KEY, **changes: str
) -> Answer:
    """A call of `/green/image/<operation>`; `changes` are further headers, with `_` for `-`."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "content-md5": base64.b64encode(hashlib.md5(body).digest()).decode(),
        "date": email.utils.formatdate(time.time(), usegmt=True),
        "x-acs-version": "2018-05-09",
        "x-acs-signature-method": "HMAC-SHA1",
        "x-acs-signature-version": "1.0",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    path = f"/green/image/{operation}"
    text = alibaba_access.string_to_sign(Call("POST", path, (), headers, body))
    digest = hmac.new(key[1].encode(), text.encode(), hashlib.sha1).digest()
    headers["authorization"] = f"acs {key[0]}:{base64.b64encode(digest).decode()}"
    return send(url, "POST", path, headers, body)


def scan(url: str, *images: str, operation: str = "scan", **more: Any) -> Answer:
    """A scan by Alibaba for porn, the images named d0, d1, …"""
    tasks = [{"dataId": f"d{i}", "url": image} for i, image in enumerate(images)]
    return alibaba(url, operation, {"tasks": tasks, "scenes": ["porn"], **more})


def tencent(
    url: str,
    method: str,
    path: str,
    body: str = "",
    key: tuple[str, str] = KEY,
    window: tuple[int, int] | None = None,
    **headers: str,
) -> Answer:
    """A call of CI with the host signed."""
    start, end = window or (int(time.time()) - 60, int(time.time()) + 600)
    signed = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    fields = {
        "q-sign-algorithm": "sha1",
        "q-ak": key[0],
        "q-sign-time": f"{start};{end}",
        "q-key-time": f"{start};{end}",
        "q-header-list": ";".join(sorted(signed)),
        "q-url-param-list": "",
    }
    call = Call(method, path, (), signed, body.encode())
    sign_key = hmac.new(key[1].encode(), fields["q-key-time"].encode(), hashlib.sha1).hexdigest()
    text = tencent_access.string_to_sign(call, fields)
    fields["q-signature"] = hmac.new(sign_key.encode(), text.encode(), hashlib.sha1).hexdigest()
    authorization = "&".join(f"{name}={value}" for name, value in fields.items())
    return send(url, method, path, {**signed, "authorization": authorization}, body.encode())


def batch(url: str, *inputs: str, conf: str = "") -> Answer:
    """A batch of Tencent's: each input is the inside of an `Input`."""
    elements = "".join(f"<Input>{one}</Input>" for one in inputs)
    body = f"<Request>{elements}<Conf>{conf}</Conf></Request>"
    return tencent(url, "POST", "/image/auditing", body)


def huawei(
    url: str,
    method: str,
    path: str,
    document: Any = None,
    key: tuple[str, str] = KEY,
    date: str | None = None,
    **headers: str,
) -> Answer:
    """A call of Huawei's, signed by AK and SK."""
    path, _, query = path.partition("?")
    body = b"" if document is None else json.dumps(document).encode()
    sent = {"host": HOST, "x-sdk-date": date or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    signed = sorted(sent)
    call = Call(method, path, urllib.parse.parse_qsl(query), sent, body)
    text = huawei_access.string_to_sign(call, signed)
    signature = hmac.new(key[1].encode(), text.encode(), hashlib.sha256).hexdigest()
    sent["authorization"] = (
        f"SDK-HMAC-SHA256 Access={key[0]}, SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return send(url, method, f"{path}?{query}" if query else path, sent, body)


def judge(url: str, *images: str, path: str = "batch", **more: Any) -> Answer:
    """A batch of Huawei's v1.0 for porn."""
    document = {"urls": list(images), "categories": ["porn"], **more}
    return huawei(url, "POST", f"/v1.0/moderation/image/{path}", document)


def token(url: str, password: str = KEY[1], scope: dict[str, Any] | None = None) -> Answer:
    """A token of Huawei's IAM."""
    user = {"name": KEY[0], "password": password, "domain": {"name": "domain1"}}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = scope if scope is not None else {"project": {"name": "cn-north-4"}}
    document = {"auth": {"identity": identity, "scope": scope}}
    return send(url, "POST", "/v3/auth/tokens", {}, json.dumps(document).encode())


def one_fault(kind: str, **fields: Any) -> emulator.FaultSpec:
    return emulator.FaultSpec(faults=(emulator.Fault(kind=kind, **fields),))  # type: ignore[arg-type]


def url_input(url: str, more: str = "") -> str:
    return f"<Url>{url}</Url>{more}"
