"""Huawei's image moderation as an emulated vendor: v1.0, v2 and v3.

Written from the page Image Moderation (Batch), the pages moderation_03_0010 (errors), _0038 to
_0040 (jobs), _0019 (one image), _0086 (v3) and en-us_topic_0198849123 (feedback), not from the
client in this package.
"""

import base64
import binascii
import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beam_moderation.emulator.callbacks import Callbacks
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
from beam_moderation.emulator.formats import image_format
from beam_moderation.emulator.huawei_access import Access, error
from beam_moderation.emulator.ledger import Ledger
from beam_moderation.emulator.settings import Settings
from beam_moderation.emulator.tasks import Task, Tasks
from beam_moderation.emulator.verdicts import FAILURES, Seen, see, verdict

_SEVERITY = ("pass", "review", "block")
_CATEGORIES = ("politics", "terrorism", "porn")
_CATEGORIES_V3 = frozenset({"terrorism", "porn", "politics", "image_text"})
_THRESHOLDS = {"politics": 0.95, "terrorism": 0.0, "ad": 0.0}
_EVENT_TYPES = frozenset(
    {"head_image", "album", "dynamic", "article", "comment", "room_cover"}
    | {"group_message", "message", "product"}
)
_MAX_URLS = 10
_MAX_JOB_URLS = 500
_MAX_IMAGE_CHARS = 10 * 1024 * 1024
_FORMATS = frozenset({"JPEG", "PNG", "BMP"})
_FORMATS_LATER = frozenset({"JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "HEIF"})
_RESULT_LIFE_S = 1800.0
_DATA_ID = re.compile(r"[A-Za-z0-9_-]{1,30}")
_STATES = frozenset({"created", "running", "finish", "failed"})


class Huawei(Vendor):
    """The account's side of `moderation.<region>.myhuaweicloud.com` and of `iam`."""

    name = "huawei"

    def __init__(self, settings: Settings, ledger: Ledger, callbacks: Callbacks) -> None:
        super().__init__(settings, ledger, callbacks)
        life_s = _RESULT_LIFE_S if settings.result_life_s is None else settings.result_life_s
        self._jobs = Tasks("job-{}".format, settings.task_s, life_s, settings.clock)
        self._access = Access(settings)

    @property
    def operations(self) -> Sequence[Operation]:
        """Each of v1.0, the same of v2 in a project, those of v3, and IAM's."""
        access = self._access
        v1, v2 = "/v1.0/moderation/image", "/v2/{project_id}/moderation/image"
        v3, v1_1 = "/v3/{project_id}/moderation/image", "/v1.1/moderation/image"
        sign = access.authenticate
        return (
            Operation("token", "POST", "/v3/auth/tokens", access.token, access.anyone, ""),
            Operation("projects", "GET", "/v3/projects", access.projects, sign, ""),
            *(op for path in (v1, v2) for op in self._versions_1_and_2(path)),
            Operation("feedback", "POST", f"{v1_1}/feedback", self._feedback, sign, "feedback"),
            Operation("batch", "POST", f"{v3}/batch", self._batch_v3, sign),
            Operation("image", "POST", v3, self._image_v3, sign),
        )

    def throttled(self) -> Reply:
        """The gateway's refusal."""
        return error("APIG.0308", "The throttling threshold has been reached: policy user", 429)

    def unavailable(self, status: int) -> Reply:
        """A failure behind the gateway."""
        return error("APIG.0203", "Backend timeout", status)

    def failed(self, item: Item) -> Item:
        """The item with Huawei's internal error."""
        kept = pick(item, "url", "data_id")
        return {**kept, "error_code": "AIS.0401", "error_msg": "Internal error."}

    def without_scene(self, item: Item) -> Item:
        """The item without its last category."""
        if "detail" in item:
            last = list(item["detail"])[-1:]
            return {
                **item,
                **{name: _without(item[name], last) for name in ("detail", "category_suggestions")},
            }
        return {**item, "details": item.get("details", [])[:-1]}

    def _versions_1_and_2(self, path: str) -> Sequence[Operation]:
        sign = self._access.authenticate
        return (
            Operation("submit", "POST", f"{path}/batch/jobs", self._submit, sign),
            Operation("jobs", "GET", f"{path}/batch/jobs", self._list_jobs, sign),
            Operation("batch", "POST", f"{path}/batch", self._batch, sign),
            Operation("result", "GET", f"{path}/batch", self._result, sign),
            Operation("image", "POST", path, self._image, sign),
        )

    def _batch(self, call: Call) -> Reply:
        body = _read_json(call.body)
        urls = self._urls(body, self.settings.max_items or _MAX_URLS)
        categories = _categories(body, (*_CATEGORIES, "ad"))
        threshold = _threshold(body)
        self.admit_images(call, len(urls))
        items = [self._judged({"url": url}, see(url), categories, threshold) for url in urls]
        return _reply(items, lambda items: {"result": items})

    def _image(self, call: Call) -> Reply:
        body = _read_json(call.body)
        categories, threshold = _categories(body, (*_CATEGORIES, "ad")), _threshold(body)
        formats = _FORMATS if call.path.startswith("/v1.0/") else _FORMATS_LATER
        image = _one_image(body, formats)
        self.admit_images(call, 1)
        item = self._judged({"url": _name(image)}, see(image), categories, threshold)
        del item["url"]
        if "error_code" in item:
            raise Refused(error(item["error_code"], item["error_msg"]))
        return _reply([item], lambda items: {"result": items[0] if items else None})

    def _submit(self, call: Call) -> Reply:
        body = _read_json(call.body)
        urls = self._urls(body, self.settings.max_items or _MAX_JOB_URLS)
        categories, threshold = _categories(body, _CATEGORIES), _threshold(body)
        if self._jobs.count_unfinished() >= self.settings.max_jobs:
            raise Refused(error("AIS.0031", "The number of unfinished jobs reached the limit."))
        self.admit_images(call, len(urls))
        job = self._jobs.add((urls, categories, threshold))
        for url in urls:
            self.ledger.judge(url, len(categories))
            self.ledger.count("tasks_per_data_id", url)
        return json_reply({"result": {"job_id": job.task_id}})

    def _result(self, call: Call) -> Reply:
        job = self._jobs.find(call.parameter("job_id") or "")
        if job is None or self._jobs.is_expired(job):
            raise Refused(error("AIS.0030", "The job is not found."))
        state = self._state(job)
        if state["status"] != "finish":
            return json_reply({"result": state})
        urls, categories, threshold = job.work
        items = [self._item({"url": url}, see(url), categories, threshold) for url in urls]
        return _reply(items, lambda items: {"result": {**state, "items": items}})

    def _list_jobs(self, call: Call) -> Reply:
        wanted = call.parameter("status")
        if wanted is not None and wanted not in _STATES:
            raise Refused(error("AIS.0012", "The parameter status is not supported."))
        states = [self._state(job) for job in self._jobs.all()]
        return json_reply({"result": [s for s in states if wanted in {None, s["status"]}]})

    def _state(self, job: Task) -> Item:
        ready = self._jobs.is_ready(job)
        update = job.ready_at if ready else job.created_at
        times = {"create_time": _utc(job.created_at), "update_time": _utc(update)}
        return {"job_id": job.task_id, "status": "finish" if ready else "running", **times}

    def _urls(self, body: Mapping[str, Any], limit: int) -> list[str]:
        urls = body.get("urls")
        if not isinstance(urls, list) or not urls:
            raise Refused(error("AIS.0011", "The request parameter urls is missing or empty."))
        if len(urls) > limit:
            raise Refused(error("AIS.0012", f"At most {limit} urls are supported."))
        for url in urls:
            _check_url(url)
        return urls

    def _judged(
        self, start: Item, seen: Seen, categories: Sequence[str], threshold: float | None
    ) -> Item:
        """The item of an image that is judged at once; a failed one is not billed."""
        item = self._item(start, seen, categories, threshold)
        if "error_code" not in item:
            self.ledger.judge(start["url"], len(categories))
        return item

    def _item(
        self, start: Item, seen: Seen, categories: Sequence[str], threshold: float | None
    ) -> Item:
        if seen.failure:
            return {**start, **self._error_of(seen)}
        detail = {c: _entries(seen, c, threshold) for c in categories}
        suggestions = {c: verdict(self.name, seen, c).suggestion for c in categories}
        return {
            **start,
            "suggestion": _worst(suggestions.values()),
            "detail": detail,
            "category_suggestions": suggestions,
        }

    def _error_of(self, seen: Seen) -> Item:
        code, message = FAILURES[self.name][seen.failure]
        return {"error_code": code, "error_msg": message}

    def _batch_v3(self, call: Call) -> Reply:
        body = _read_json(call.body)
        images, limit = body.get("urls"), self.settings.max_items or _MAX_URLS
        if not isinstance(images, list) or not 0 < len(images) <= limit:
            raise Refused(error("AIS.0011", f"1 to {limit} urls are required."))
        _check_images_v3(images)
        categories, glossaries = self._categories_v3(body), _glossaries(body)
        self.admit_images(call, len(images))
        items = [
            self._judged_v3(image, see(image["url"]), categories, glossaries) for image in images
        ]
        request_id = new_request_id()
        return _reply(items, lambda items: {"request_id": request_id, "results": items})

    def _image_v3(self, call: Call) -> Reply:
        body = _read_json(call.body)
        image = _one_image(body, _FORMATS_LATER)
        categories, glossaries = self._categories_v3(body), _glossaries(body)
        self.admit_images(call, 1)
        item = self._judged_v3({"data_id": _name(image)}, see(image), categories, glossaries)
        del item["data_id"]
        if "error_code" in item:
            raise Refused(error(item["error_code"], item["error_msg"]))
        request_id = new_request_id()
        return _reply(
            [item], lambda items: {"request_id": request_id, "result": items[0] if items else None}
        )

    def _categories_v3(self, body: Mapping[str, Any]) -> list[str]:
        if biz_type := body.get("biz_type"):
            return list(self.settings.biz_types.get(biz_type, sorted(_CATEGORIES_V3)))
        categories = body.get("categories") or []
        if body.get("event_type") not in _EVENT_TYPES or not categories:
            raise Refused(error("AIS.0011", "event_type and categories are required."))
        if not _CATEGORIES_V3.issuperset(map(str, categories)):
            raise Refused(error("AIS.0012", "The parameter categories is not supported."))
        return list(categories)

    def _judged_v3(
        self, image: Item, seen: Seen, categories: Sequence[str], glossaries: Sequence[str]
    ) -> Item:
        start = {"data_id": image["data_id"]}
        if seen.failure:
            return {**start, **self._error_of(seen)}
        self.ledger.judge(image["data_id"], len(categories))
        details = [detail for c in categories if (detail := _detail_v3(seen, c, glossaries))]
        worst = _worst(detail["suggestion"] for detail in details)
        first = next((d["category"] for d in details if d["suggestion"] == worst), "")
        return {**start, "suggestion": worst, "category": first, "details": details}

    def _feedback(self, call: Call) -> Reply:
        body = _read_json(call.body)
        if body.get("suggestion") not in {"pass", "block"}:
            raise Refused(error("AIS.0011", "The request parameter suggestion is missing."))
        image = _one_image(body, _FORMATS)
        _categories(body, (*_CATEGORIES, "ad"))
        self.ledger.count("feedback_per_image", _name(image))
        return json_reply({"result": "Thank you for your feedback."})


def _without(mapping: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in names}


def _name(image: str | bytes) -> str:
    """How the statistics call an image: its URL, or the hash of its bytes."""
    return image if isinstance(image, str) else see(image).digest.hex()


def _check_url(url: Any) -> None:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise Refused(error("AIS.0022", "The URL is invalid."))


def _check_images_v3(images: Sequence[Any]) -> None:
    if not all(isinstance(image, dict) for image in images):
        raise Refused(error("AIS.0012", "The parameter urls is not supported."))
    for image in images:
        _check_url(image.get("url"))
    data_ids = [image.get("data_id") for image in images]
    if not all(isinstance(d, str) and _DATA_ID.fullmatch(d) for d in data_ids):
        raise Refused(error("AIS.0012", "The parameter data_id is not supported."))
    if len(set(data_ids)) != len(data_ids):
        raise Refused(error("AIS.0012", "The parameter data_id is not unique."))


def _one_image(body: Mapping[str, Any], formats: frozenset[str]) -> str | bytes:
    """The URL, or the bytes, of a call on one image."""
    if "url" in body and "image" not in body:
        _check_url(body["url"])
        return str(body["url"])
    text = body.get("image")
    if not isinstance(text, str) or not text:
        raise Refused(error("AIS.0011", "One of image and url is required."))
    if len(text) > _MAX_IMAGE_CHARS:
        raise Refused(error("AIS.0020", "The size of the request body exceeds the limit."))
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as cause:
        raise Refused(error("AIS.0015", "Failed to decode the Base64 text.")) from cause
    if image_format(data) not in formats:
        raise Refused(error("AIS.0021", "The file type is not supported."))
    return data


def _categories(body: Mapping[str, Any], allowed: Sequence[str]) -> list[str]:
    """The categories of v1.0: none means politics and terrorism, `all` leaves out ad."""
    categories = body.get("categories") or ["politics", "terrorism"]
    if not isinstance(categories, list) or not {*allowed, "all"}.issuperset(map(str, categories)):
        raise Refused(error("AIS.0012", "The parameter categories is not supported."))
    return list(_CATEGORIES) if "all" in categories else list(dict.fromkeys(categories))


def _threshold(body: Mapping[str, Any]) -> float | None:
    """The threshold; the example of the batch's page sends an empty text for none."""
    threshold = body.get("threshold", "")
    if threshold is None or threshold == "":
        return None
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise Refused(error("AIS.0012", "The parameter threshold is not supported."))
    return float(threshold)


def _entries(seen: Seen, category: str, threshold: float | None) -> list[Item]:
    """The list of one category in `detail`; all but porn leaves out what is below the threshold."""
    true = verdict("huawei", seen, category)
    if category == "porn":
        others = [label for label in ("normal", "porn", "sexy") if label != true.label]
        rest = round((1 - true.score) / 2, 6)
        confidences = {true.label: true.score, **dict.fromkeys(others, rest)}
        return [{"confidence": c, "label": label} for label, c in confidences.items()]
    limit = _THRESHOLDS[category] if threshold is None else threshold
    if true.score < limit:
        return []
    entry: Item = {"confidence": true.score, "label": true.label}
    if category == "politics":
        entry["face_detail"] = {"h": 131, "w": 203, "x": 423, "y": 109}
    return [entry]


def _glossaries(body: Mapping[str, Any]) -> list[str]:
    """The lists of words that are looked for in texts, in addition to the vendor's own."""
    config = body.get("image_text_config", {})
    if not isinstance(config, dict) or not isinstance(body.get("language", "zh"), str):
        raise Refused(error("AIS.0012", "image_text_config or language is not supported."))
    black, white = (config.get(f"{kind}_glossary_names", []) for kind in ("black", "white"))
    if not all(isinstance(names, list) for names in (black, white)):
        raise Refused(error("AIS.0012", "The parameter image_text_config is not supported."))
    return [str(name) for name in black]


def _detail_v3(seen: Seen, category: str, glossaries: Sequence[str]) -> Item | None:
    true = verdict("huawei", seen, category)
    if true.suggestion == "pass":
        return None
    detail: Item = {"category": category, "label": true.label, "suggestion": true.suggestion}
    detail["confidence"] = true.score
    if category == "image_text":
        named = {"glossary_name": glossaries[0]} if glossaries else {}
        detail["segments"] = [{"segment": "加微信", **named}]
    return detail


def _worst(suggestions: Any) -> str:
    return max(suggestions, key=_SEVERITY.index, default="pass")


def _utc(seconds: float) -> str:
    time = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_json(body: bytes) -> dict[str, Any]:
    if not body:
        raise Refused(error("AIS.0011", "The request body is missing or empty."))
    try:
        document = json.loads(body)
    except ValueError as cause:
        raise Refused(error("AIS.0014", "The JSON format of the input is incorrect.")) from cause
    if not isinstance(document, dict):
        raise Refused(error("AIS.0014", "The JSON format of the input is incorrect."))
    return document


def _reply(items: list[Item], document: Callable[[list[Item]], Any]) -> Reply:
    return Reply(200, JSON, lambda items: json_bytes(document(list(items))), items)
