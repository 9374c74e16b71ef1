"""The callbacks service on a port of its own, and posts to it."""

import contextlib
import http.client
import json
import socket
import threading
import urllib.parse

import uvicorn

from beam_moderation.callbacks.proofs import checksum

UID, SEED = "1234567890123456", "seed_1"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@contextlib.contextmanager
def serving(app):
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def post(url, body, method="POST"):
    """The status of the answer to a body, or to chunks that come without a length."""
    address = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(address.netloc, timeout=30)) as connection:
        connection.request(method, address.path, body, {"Content-Type": FORM})
        return connection.getresponse().status


def form(content, uid=UID, seed=SEED, **changes):
    fields = {"checksum": checksum(uid, seed, content), "content": content, **changes}
    return urllib.parse.urlencode(fields).encode()


def result(task_id="img$1@2", **more):
    return json.dumps({"code": 200, "taskId": task_id, "results": [], **more})


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())
