"""A schema registry on loopback: the part of Confluent's REST API that clients of Avro use.

The official serializer registers its schemas here, so that it vouches for the answers.
"""

import base64
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UNKNOWN_SUBJECT, UNKNOWN_VERSION, UNKNOWN_SCHEMA = 40401, 40402, 40403


class SchemaRegistry:
    """The server, and what it has; `answer` stands in for all of its answers where it is set.

    Args:
      login: the user and the password that it wants; None: it lets everybody in.
      tls: the server's side of TLS.
    """

    def __init__(self, login=None, tls=None) -> None:
        self.login = login
        self.schemas: list[Mapping[str, Any]] = []
        """A schema's id is its place, beginning with 1."""
        self.subjects: dict[str, list[int]] = {}
        self.requests: list[str] = []
        self.answer = None
        self.closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "SchemaRegistry":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Keeps a schema as clients post it; returns its id."""
        if schema not in self.schemas:
            self.schemas.append(schema)
        number = self.schemas.index(schema) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the body for a GET."""
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            number = int(found[1])
            if 0 < number <= len(self.schemas):
                return 200, self.schemas[number - 1]
            return _missing(UNKNOWN_SCHEMA)
        if found := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", path):
            versions = self.subjects.get(found[1])
            if versions is None:
                return _missing(UNKNOWN_SUBJECT)
            version = int(found[2])
            if not 0 < version <= len(versions):
                return _missing(UNKNOWN_VERSION)
            number = versions[version - 1]
            place = {"subject": found[1], "version": version, "id": number}
            return 200, place | self.schemas[number - 1]
        return _missing(404)

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """The status and the body for a POST."""
        if found := re.fullmatch(r"/subjects/([^/]+)/versions", path):
            return 200, {"id": self.register(found[1], body)}
        return _missing(404)


def _missing(code: int) -> tuple[int, Any]:
    return 404, {"error_code": code, "message": "not found"}


def silence(handler: Any, registry: SchemaRegistry) -> None:
    """Never answers."""
    registry.closed.wait()


def plain(status: int, body: bytes):
    """Always the same answer."""

    def answer(handler, registry):
        handler.send(status, body)

    return answer


def _handler(registry: SchemaRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._serve(registry.get)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._serve(lambda path: registry.post(path, body))

        def _serve(self, answer):
            path = self.path.partition("?")[0]
            registry.requests.append(f"{self.command} {path}")
            if registry.answer is not None:
                registry.answer(self, registry)
            elif not self._may_enter():
                self.send(401, b'{"error_code": 401, "message": "Unauthorized"}')
            else:
                status, found = answer(path)
                self.send(status, json.dumps(found).encode())

        def _may_enter(self):
            wanted = base64.b64encode(":".join(registry.login or ()).encode()).decode()
            return not registry.login or self.headers["Authorization"] == f"Basic {wanted}"

        def send(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler
