"""Alibaba Green as an emulated vendor: scans, tasks, feedback, credentials for uploads.

Written from the pages 53414 (codes), 70292 and 70430 (scans), 70432 (feedback) and 130313
(callback) of Alibaba's help, not from the client in this package.
"""

import hashlib
import json
import re
import secrets
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from beam_moderation.emulator import oss
from beam_moderation.emulator.alibaba_access import Access, gateway_error
from beam_moderation.emulator.callbacks import Callbacks, Delivery
from beam_moderation.emulator.exchange import (
    JSON,
    Call,
    Item,
    Operation,
    Refused,
    Reply,
    Vendor,
    json_bytes,
    json_reply,
    new_request_id,
    pick,
)
from beam_moderation.emulator.ledger import Ledger
from beam_moderation.emulator.settings import Settings
from beam_moderation.emulator.tasks import Task, Tasks
from beam_moderation.emulator.verdicts import FAILURES, Seen, Truth, see, verdict

_SCENES = frozenset({"porn", "terrorism", "ad", "qrcode", "live", "logo"})
_MAX_TASKS = 100
_MAX_URL_CHARS = 2048
_MAX_DATA_ID_CHARS = 128
_RESULT_LIFE_S = 3600.0
_SEED = re.compile(r"[A-Za-z0-9_]{1,64}")


class Alibaba(Vendor):
    """The account's side of `green.<region>.aliyuncs.com`, and the bucket that it lends."""

    name = "alibaba"

    def __init__(self, settings: Settings, ledger: Ledger, callbacks: Callbacks) -> None:
        super().__init__(settings, ledger, callbacks)
        life_s = _RESULT_LIFE_S if settings.result_life_s is None else settings.result_life_s
        self._tasks = Tasks(_name_task, settings.task_s, life_s, settings.clock)
        self._bucket = oss.Bucket(settings)
        self._access = Access(settings)

    @property
    def operations(self) -> Sequence[Operation]:
        """Path and action of each, as the SDK of 2018-05-09 has them."""
        sign = self._access.authenticate
        image = "/green/image"
        return (
            Operation("scan", "POST", f"{image}/scan", self._scan, sign),
            Operation("asyncscan", "POST", f"{image}/asyncscan", self._submit, sign),
            Operation("results", "POST", f"{image}/results", self._results, sign),
            Operation("feedback", "POST", f"{image}/feedback", self._feedback, sign, "feedback"),
            Operation(
                "uploadcredentials",
                "POST",
                "/green/credentials/uploadcredentials",
                self._lend,
                sign,
                "",
            ),
            Operation("put", "PUT", "/{key:path}", self._bucket.put, self._bucket.authenticate, ""),
        )

    def throttled(self) -> Reply:
        """The gateway's refusal of a call."""
        return gateway_error("Throttling.User")

    def images_throttled(self) -> Reply:
        """The service's refusal of images: HTTP 200 with code 588."""
        return _service_error(588, "EXCEED_QUOTA")

    def unavailable(self, status: int) -> Reply:
        """The gateway's own failure."""
        return gateway_error("ServiceUnavailable", status=status)

    def failed(self, item: Item) -> Item:
        """The item with the code for which Alibaba asks to try again."""
        kept = pick(item, "dataId", "taskId", "url")
        return {"code": 500, "msg": "GENERAL_ERROR", **kept}

    def without_scene(self, item: Item) -> Item:
        """The item without its last result."""
        return {**item, "results": item["results"][:-1]} if item.get("results") else item

    def _scan(self, call: Call) -> Reply:
        body = _read_json(call.body, dict)
        tasks, scenes = self._tasks_of(body), self._scenes_of(body)
        self.admit_images(call, len(tasks))
        return _items_reply([self._judged(task, scenes, _new_task_id()) for task in tasks])

    def _submit(self, call: Call) -> Reply:
        body = _read_json(call.body, dict)
        tasks, scenes = self._tasks_of(body), self._scenes_of(body)
        seed, address = body.get("seed"), body.get("callback")
        if address and not (isinstance(seed, str) and _SEED.fullmatch(seed)):
            raise Refused(_service_error(400, "BAD_REQUEST: seed"))
        self.admit_images(call, len(tasks))
        return _items_reply([self._accepted(task, scenes, address, seed) for task in tasks])

    def _tasks_of(self, body: Mapping[str, Any]) -> list[Item]:
        tasks = body.get("tasks")
        limit = self.settings.max_items or _MAX_TASKS
        if not isinstance(tasks, list) or not 0 < len(tasks) <= limit:
            raise Refused(_service_error(400, f"BAD_REQUEST: 1 to {limit} tasks"))
        if not all(isinstance(task, dict) for task in tasks):
            raise Refused(_service_error(400, "BAD_REQUEST: tasks"))
        data_ids = [task["dataId"] for task in tasks if "dataId" in task]
        if not all(isinstance(data_id, str) for data_id in data_ids):
            raise Refused(_service_error(400, "BAD_REQUEST: dataId"))
        if len(set(data_ids)) != len(data_ids):
            raise Refused(_service_error(400, "BAD_REQUEST: duplicate dataId"))
        return tasks

    def _scenes_of(self, body: Mapping[str, Any]) -> list[str]:
        if body.get("bizType") in self.settings.biz_types:
            return list(self.settings.biz_types[body["bizType"]])
        scenes = body.get("scenes")
        if not scenes or not _are_scenes(scenes):
            raise Refused(_service_error(400, "BAD_REQUEST: scenes"))
        return scenes

    def _judged(self, task: Item, scenes: Sequence[str], task_id: str) -> Item:
        """The item of a finished scan; one that was judged is billed."""
        item = _item(task, task_id)
        refusal = _refusal(task) or self._failure(task["url"])
        if refusal:
            return {**item, "code": int(refusal[0]), "msg": refusal[1]}
        self.ledger.judge(_data_id(task), len(scenes))
        return self._with_results(item, task, scenes)

    def _accepted(
        self, task: Item, scenes: Sequence[str], address: str | None, seed: str | None
    ) -> Item:
        """The item of a submission; an accepted task is billed at once."""
        if refusal := _refusal(task):
            return {**_item(task, None), "code": int(refusal[0]), "msg": refusal[1]}
        made = self._tasks.add((task, list(scenes)))
        self.ledger.judge(_data_id(task), len(scenes))
        self.ledger.count("tasks_per_data_id", _data_id(task))
        if address:
            delivery = self._delivery(made, address, seed or "")
            self.callbacks.schedule(delivery, made.ready_at - made.created_at)
        return _item(task, made.task_id)

    def _results(self, call: Call) -> Reply:
        task_ids = _read_json(call.body, list)
        if not 0 < len(task_ids) <= _MAX_TASKS or not all(isinstance(i, str) for i in task_ids):
            raise Refused(_service_error(400, f"BAD_REQUEST: 1 to {_MAX_TASKS} task ids"))
        return _items_reply([self._result(task_id) for task_id in task_ids])

    def _result(self, task_id: str) -> Item:
        made = self._tasks.find(task_id)
        if made is None:
            return {"code": 404, "msg": "NOT_FOUND", "taskId": task_id}
        if self._tasks.is_expired(made):
            return {"code": 594, "msg": "EXPIRED", "taskId": task_id}
        if not self._tasks.is_ready(made):
            return {**_item(made.work[0], task_id), "code": 280, "msg": "PROCESSING"}
        return self._finished(made)

    def _finished(self, made: Task) -> Item:
        task, scenes = made.work
        item = _item(task, made.task_id)
        if failure := self._failure(task["url"]):
            return {**item, "code": int(failure[0]), "msg": failure[1]}
        return self._with_results(item, task, scenes)

    def _with_results(self, item: Item, task: Item, scenes: Sequence[str]) -> Item:
        seen = self._seen(task["url"])
        results = [_result(seen, scene, task) for scene in scenes]
        return {**item, "extras": {}, "results": results}

    def _seen(self, url: str) -> Seen:
        return self._bucket.find(url).seen if url.startswith("oss://") else see(url)

    def _failure(self, url: str) -> tuple[str, str] | None:
        """Code and message where the image cannot be had or judged."""
        if url.startswith("oss://") and (refusal := self._bucket.refusal(url)):
            return refusal
        mark = self._seen(url).failure
        return FAILURES[self.name][mark] if mark else None

    def _delivery(self, made: Task, address: str, seed: str) -> Delivery:
        """The callback of a task: a form with the checksum over account id, seed and content."""
        item = self._finished(made)
        item.pop("url", None)
        content = json_bytes(item).decode()
        checksum = hashlib.sha256(f"{self.settings.uid}{seed}{content}".encode()).hexdigest()
        body = urllib.parse.urlencode({"checksum": checksum, "content": content}).encode()
        media_type = "application/x-www-form-urlencoded; charset=utf-8"
        return Delivery(address, body, {"Content-Type": media_type})

    def _feedback(self, call: Call) -> Reply:
        body = _read_json(call.body, dict)
        image = body.get("url") or body.get("taskId")
        scenes = body.get("scenes", [])
        blocks = body.get("suggestion") == "block"
        if body.get("suggestion") not in {"pass", "block"} or not image or (blocks and not scenes):
            raise Refused(_service_error(400, "BAD_REQUEST"))
        if not _are_scenes(scenes):
            raise Refused(_service_error(400, "BAD_REQUEST: scenes"))
        texts = [body.get(name, "") for name in ("taskId", "label", "note")]
        if not all(isinstance(text, str) for text in texts) or not _is_place(body.get("url", "")):
            raise Refused(_service_error(400, "BAD_REQUEST"))
        self.ledger.count("feedback_per_image", image)
        return json_reply({"code": 200, "msg": "OK", "requestId": new_request_id()})

    def _lend(self, call: Call) -> Reply:
        data = self._bucket.lend(call.headers.get("host", ""))
        return json_reply({"code": 200, "msg": "OK", "requestId": new_request_id(), "data": data})


def _are_scenes(scenes: Any) -> bool:
    return isinstance(scenes, list) and all(scene in _SCENES for scene in map(str, scenes))


def _is_place(url: Any) -> bool:
    """Whether it is an address of the length and the schemes that are taken, or empty."""
    if not isinstance(url, str) or len(url) > _MAX_URL_CHARS:
        return False
    return not url or url.startswith(("http://", "https://", "oss://"))


def _refusal(task: Item) -> tuple[str, str] | None:
    """Code and message where a task is wrong in itself."""
    url, data_id = task.get("url"), task.get("dataId", "")
    if not isinstance(url, str) or not url.startswith(("http://", "https://", "oss://")):
        return "400", "BAD_REQUEST: url"
    if len(url) > _MAX_URL_CHARS or len(data_id) > _MAX_DATA_ID_CHARS:
        return "400", "BAD_REQUEST: url or dataId too long"
    counts = [task.get(name, 1) for name in ("interval", "maxFrames")]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        return "400", "BAD_REQUEST: interval or maxFrames"
    return None


def _result(seen: Seen, scene: str, task: Item) -> Item:
    true = verdict("alibaba", seen, scene)
    rate = round(true.score * 100, 2)
    result: Item = {"scene": scene, "label": true.label, "suggestion": true.suggestion}
    result["rate"] = rate
    if "interval" in task:
        frame = f"http://green-frames.example.com/{seen.digest.hex()[:16]}"
        result["frames"] = [{"rate": rate, "url": f"{frame}-{i}.jpg"} for i in range(2)]
    return {**result, **_details(scene, true)}


def _details(scene: str, true: Truth) -> Item:
    """The further fields that the documents give to a hit."""
    if true.suggestion == "pass":
        return {}
    box = {"x": 11, "y": 22, "w": 33, "h": 44}
    details: Mapping[str, Item] = {
        "ad": {"hintWordsInfo": [{"context": "加微信"}], "ocrData": ["加微信 now"]},
        "qrcode": {
            "qrcodeData": ["https://qr.example.com/1"],
            "qrcodeLocations": [{**box, "qrcode": "https://qr.example.com/1"}],
        },
        "logo": {"logoData": [{"type": true.label, "name": "example", **box}]},
        "terrorism": {
            "sfaceData": [{**box, "faces": [{"id": "f1", "name": "example", "rate": 91.5}]}]
        },
    }
    return details.get(scene, {})


def _data_id(task: Item) -> str:
    return str(task.get("dataId", task["url"]))


def _item(task: Item, task_id: str | None) -> Item:
    item: Item = {"code": 200, "msg": "OK", **pick(task, "dataId", "url")}
    return {**item, "taskId": task_id} if task_id else item


def _name_task(name: str) -> str:
    """In the manner of the documents' ids, `$` and `@` included."""
    return f"img{name[:4]}${name[4:12]}@{name[12:24]}-1{name[24:30]}"


def _new_task_id() -> str:
    return _name_task(secrets.token_hex(16))


def _read_json(body: bytes, kind: type) -> Any:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Refused(_service_error(400, "BAD_REQUEST: body")) from error
    if not isinstance(document, kind):
        raise Refused(_service_error(400, "BAD_REQUEST: body"))
    return document


def _items_reply(items: list[Item]) -> Reply:
    request_id = new_request_id()

    def render(items: Sequence[Item]) -> bytes:
        top = {"code": 200, "msg": "OK", "requestId": request_id}
        return json_bytes({**top, "data": list(items)})

    return Reply(200, JSON, render, items)


def _service_error(code: int, message: str) -> Reply:
    """An error of the service: HTTP 200, the code is in the body."""
    document = {"code": code, "msg": message, "requestId": new_request_id()}
    return json_reply(document, error_code=str(code))
