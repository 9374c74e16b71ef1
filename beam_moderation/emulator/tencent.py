"""Tencent COS CI's image auditing as an emulated vendor: batches, jobs, feedback.

Written from the page on batch image moderation and the pages 436/53983 (errors), 436/68904 (query)
and 436/116575 (callback), not from the client in this package.
"""

import base64
import binascii
import datetime
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml
import defusedxml.ElementTree

from beam_moderation.emulator.callbacks import Callbacks, Delivery
from beam_moderation.emulator.exchange import (
    JSON,
    XML,
    Call,
    Item,
    Operation,
    Refused,
    Reply,
    Vendor,
    json_bytes,
    new_request_id,
    pick,
    xml_text,
)
from beam_moderation.emulator.formats import image_format
from beam_moderation.emulator.ledger import Ledger
from beam_moderation.emulator.settings import Settings
from beam_moderation.emulator.tasks import Task, Tasks
from beam_moderation.emulator.tencent_access import Access, error
from beam_moderation.emulator.verdicts import FAILURES, Seen, Truth, see, verdict

ELEMENTS = {
    "porn": "PornInfo",
    "ad": "AdsInfo",
    "terrorism": "TerrorismInfo",
    "politics": "PoliticsInfo",
    "quality": "QualityInfo",
}
"""The element of an answer that holds the verdict on a scene."""
_DETECT_TYPES = {"Porn": "porn", "Ads": "ad", "Terrorism": "terrorism", "Politics": "politics"}
_HITS = {"pass": 0, "block": 1, "review": 2}
_SEVERITY = {"pass": 0, "review": 1, "block": 2}
_MAX_INPUTS = 100
_MAX_DATA_ID_BYTES = 512
_MAX_USER_INFO_BYTES = 128
_MAX_BYTES = 5 * 1024 * 1024
_MAX_COMPRESSIBLE_BYTES = 32 * 1024 * 1024
_FORMATS = frozenset({"PNG", "JPEG", "BMP", "GIF", "WEBP", "HEIF"})
_RESULT_LIFE_S = 30 * 86_400.0


class Tencent(Vendor):
    """The account's side of `<bucket>.ci.<region>.myqcloud.com`."""

    name = "tencent"

    def __init__(self, settings: Settings, ledger: Ledger, callbacks: Callbacks) -> None:
        super().__init__(settings, ledger, callbacks)
        life_s = _RESULT_LIFE_S if settings.result_life_s is None else settings.result_life_s
        self._jobs = Tasks("si{}".format, settings.task_s, life_s, settings.clock)
        self._access = Access(settings)

    @property
    def operations(self) -> Sequence[Operation]:
        """Batch, query and feedback."""
        sign, path = self._access.authenticate, "/image/auditing"
        return (
            Operation("batch", "POST", path, self._batch, sign),
            Operation("query", "GET", f"{path}/{{job_id}}", self._query, sign),
            Operation("feedback", "POST", "/report/badcase", self._feedback, sign, "feedback"),
        )

    def throttled(self) -> Reply:
        """COS's own word for too many calls."""
        return error("SlowDown")

    def unavailable(self, status: int) -> Reply:
        """A failure of CI's."""
        return error("InternalError", status=status)

    def failed(self, item: Item) -> Item:
        """The item as a failed job."""
        kept = pick(item, "DataId", "JobId", "Object", "Url")
        return {"Code": "InternalError", "Message": "try again", "State": "Failed", **kept}

    def without_scene(self, item: Item) -> Item:
        """The item without the element of its last scene."""
        scenes = [element for element in ELEMENTS.values() if element in item]
        return {key: value for key, value in item.items() if key not in scenes[-1:]}

    def _batch(self, call: Call) -> Reply:
        request = _read_xml(call.body)
        inputs = [_read_input(element) for element in request.findall("Input")]
        conf = request.find("Conf")
        limit = self.settings.max_items or _MAX_INPUTS
        if not 0 < len(inputs) <= limit:
            raise Refused(error("InvalidArgument", f"1 to {limit} Inputs are allowed"))
        scenes = self._scenes(conf)
        asynchronous = _text(conf, "Async", "0")
        if asynchronous not in {"", "0", "1"}:
            raise Refused(error("InvalidArgument", "Param Async is illegal"))
        self.admit_images(call, len(inputs))
        if asynchronous == "1":
            address = _text(conf, "Callback")
            return _items_reply([self._accepted(one, conf, scenes, address) for one in inputs])
        return _items_reply([self._judged(one, conf, scenes) for one in inputs])

    def _scenes(self, conf: Element | None) -> list[str]:
        if biz_type := self.settings.biz_types.get(_text(conf, "BizType")):
            return list(biz_type)
        if detect_types := _text(conf, "DetectType"):
            return _detected(detect_types)
        return list(self.settings.policy_scenes)

    def _judged(self, one: Item, conf: Element | None, scenes: Sequence[str]) -> Item:
        if refusal := _refusal(one) or self._failure(one):
            return _failed_input(one, refusal)
        self.ledger.judge(_data_id(one), len(scenes))
        return _verdicts(one, conf, scenes, f"si{secrets.token_hex(16)}")

    def _accepted(
        self, one: Item, conf: Element | None, scenes: Sequence[str], address: str
    ) -> Item:
        if refusal := _refusal(one):
            return {**_failed_input(one, refusal), "State": "Failed"}
        job = self._jobs.add((one, conf, list(scenes)))
        self.ledger.judge(_data_id(one), len(scenes))
        self.ledger.count("tasks_per_data_id", _data_id(one))
        if address:
            delivery = self._delivery(job, address)
            self.callbacks.schedule(delivery, job.ready_at - job.created_at)
        return {**_echo(one), "JobId": job.task_id, "State": "Submitted"}

    def _failure(self, one: Item) -> tuple[str, str] | None:
        mark = _seen(one).failure
        return FAILURES[self.name][mark] if mark else None

    def _query(self, call: Call) -> Reply:
        job = self._jobs.find(call.path.rpartition("/")[2])
        if job is None or self._jobs.is_expired(job):
            raise Refused(error("ResourceNotFound"))
        if not self._jobs.is_ready(job):
            item = {**_echo(job.work[0]), "JobId": job.task_id, "State": "Auditing"}
            return _items_reply([{**item, "CreationTime": _local_time(job.created_at)}])
        return _items_reply([self._finished(job)])

    def _finished(self, job: Task) -> Item:
        one, conf, scenes = job.work
        times = {"CreationTime": _local_time(job.created_at)}
        if failure := self._failure(one):
            return {
                **_failed_input(one, failure),
                "JobId": job.task_id,
                "State": "Failed",
                **times,
            }
        return {**_verdicts(one, conf, scenes, job.task_id), **times}

    def _delivery(self, job: Task, address: str) -> Delivery:
        item = self._finished(job)
        version = self.settings.callback_version
        if version == "Simple":
            body = _simple_callback(item)
        else:
            body = {"EventName": "ReviewImage", "JobsDetail": item, "RequestId": new_request_id()}
        headers = {"Content-Type": JSON, "X-Ci-Content-Version": version}
        return Delivery(address, json_bytes(body), headers)

    def _feedback(self, call: Call) -> Reply:
        request = _read_xml(call.body)
        required = [_text(request, name) for name in ("Label", "SuggestedLabel")]
        url = _text(request, "Url")
        image = url or _text(request, "JobId")
        if url and not url.startswith(("http://", "https://")):
            raise Refused(error("InvalidArgument", "Param Url is illegal"))
        if _text(request, "ContentType") != "2" or not all(required) or not image:
            raise Refused(error("InvalidArgument"))
        self.ledger.count("feedback_per_image", image)
        return Reply(200, XML, lambda _: _response(RequestId=new_request_id()))


def _read_xml(body: bytes) -> Element:
    if not body:
        raise Refused(error("MissingContent"))
    try:
        request: Element = defusedxml.ElementTree.fromstring(body)
    except (ParseError, defusedxml.DefusedXmlException) as cause:
        raise Refused(error("MalformedXML")) from cause
    if request.tag != "Request":
        raise Refused(error("MalformedXML"))
    return request


def _read_input(element: Element) -> Item:
    """An Input as a mapping of texts; UserInfo is a mapping in it."""
    return {child.tag: _read_input(child) if len(child) else child.text or "" for child in element}


def _text(element: Element | None, name: str, default: str = "") -> str:
    return default if element is None else element.findtext(name) or default


def _detected(detect_types: str) -> list[str]:
    """The scenes of the older parameter DetectType."""
    words = detect_types.split(",")
    if not _DETECT_TYPES.keys() >= set(words):
        raise Refused(error("InvalidArgument", "Param DetectType is illegal"))
    return [_DETECT_TYPES[word] for word in words]


def _data_id(one: Item) -> str:
    return str(one.get("DataId") or one.get("Object") or one.get("Url") or "")


def _refusal(one: Item) -> tuple[str, str] | None:
    """Code and message where an Input is wrong in itself."""
    for name in ("Interval", "MaxFrames"):
        if not re.fullmatch("[1-9][0-9]*", one.get(name) or "1"):
            return "InvalidArgument", f"Param {name} is illegal"
    if len(one.get("DataId", "").encode()) > _MAX_DATA_ID_BYTES:
        return "InvalidArgument", "Param DataId is illegal"
    user_info = one.get("UserInfo") or {}
    if any(len(text.encode()) > _MAX_USER_INFO_BYTES for text in user_info.values()):
        return "InvalidArgument", "Param UserInfo is illegal"
    if one.get("Content"):
        return _content_refusal(one)
    url = one.get("Url", "")
    if not one.get("Object") and not url.startswith(("http://", "https://")):
        return "InvalidArgument", "Param Url is illegal"
    return None


def _content_refusal(one: Item) -> tuple[str, str] | None:
    try:
        data = base64.b64decode(one["Content"], validate=True)
    except binascii.Error:
        return "InvalidContent", "Param Content is not base64"
    shrinks = one.get("LargeImageDetect") == "1"
    if len(data) > (_MAX_COMPRESSIBLE_BYTES if shrinks else _MAX_BYTES):
        return "InvalidArgument", "the image exceeds the size limit"
    return None if image_format(data) in _FORMATS else ("InvalidContent", "not an image")


def _seen(one: Item) -> Seen:
    """The image that counts: Content before Object before Url."""
    if one.get("Content"):
        return see(base64.b64decode(one["Content"]))
    return see(one.get("Object") or one["Url"])


def _echo(one: Item) -> Item:
    """What an answer repeats of an Input."""
    item = {"DataId": one["DataId"]} if "DataId" in one else {}
    if one.get("Content"):
        return item
    name = "Object" if one.get("Object") else "Url"
    return {**item, name: one[name]} if name in one else item


def _failed_input(one: Item, refusal: tuple[str, str]) -> Item:
    return {"Code": refusal[0], "Message": refusal[1], **_echo(one)}


def _verdicts(one: Item, conf: Element | None, scenes: Sequence[str], job_id: str) -> Item:
    seen = _seen(one)
    truths = {scene: verdict("tencent", seen, scene) for scene in scenes}
    worst = max(truths.values(), key=lambda true: (_SEVERITY[true.suggestion], true.score))
    item: Item = {**_echo(one), "JobId": job_id, "State": "Success"}
    item["CompressionResult"] = one.get("LargeImageDetect", "0")
    item |= {"Label": worst.label, "Result": _HITS[worst.suggestion], "Score": _score(worst)}
    item |= {"Category": worst.sub_label and worst.label, "SubLabel": worst.sub_label}
    item |= {ELEMENTS[scene]: _scene_info(scene, true) for scene, true in truths.items()}
    if one.get("UserInfo"):
        item["UserInfo"] = one["UserInfo"]
    if conf is not None and conf.find("Freeze") is not None and "Object" in item:
        item["ForbidState"] = int(_freezes(conf, truths))
    return item


def _freezes(conf: Element, truths: Mapping[str, Truth]) -> bool:
    limits = {"porn": _text(conf, "Freeze/PornScore"), "ad": _text(conf, "Freeze/AdsScore")}
    return any(
        scene in truths and limit != "" and _score(truths[scene]) >= int(limit)
        for scene, limit in limits.items()
    )


def _scene_info(scene: str, true: Truth) -> Item:
    info: Item = {"Code": 0, "Msg": "OK", "HitFlag": _HITS[true.suggestion]}
    info |= {"Score": _score(true), "Label": true.sub_label}
    info |= {"Category": true.sub_label and true.label, "SubLabel": true.sub_label}
    location = {"X": 1.5, "Y": 2.0, "Height": 30.0, "Width": 40.0, "Rotate": 0.1}
    if scene == "ad" and true.suggestion != "pass":
        text = {"Text": "加微信", "Keywords": ["微信"], "Location": location}
        second = {"Text": "call now", "Keywords": ["call", "now"], "Location": location}
        info["OcrResults"] = [text, second] if true.suggestion == "block" else [text]
    if scene == "porn" and true.suggestion == "block":
        info["LibResults"] = [{"ImageId": "sample-1", "Score": 99}]
    if scene == "terrorism" and true.suggestion != "pass":
        info["ObjectResults"] = [{"Name": true.sub_label, "Location": location}]
    return info


def _score(true: Truth) -> int:
    return round(true.score * 100)


def _simple_callback(item: Item) -> Item:
    """The callback in the form Simple (page 436/116575)."""
    data: Item = {"trace_id": item["JobId"], "event": "ReviewImage"}
    data |= {"url": item.get("Url") or item.get("Object", ""), "data_id": item.get("DataId", "")}
    data |= {"result": item.get("Result", 0), "forbidden_status": item.get("ForbidState", 0)}
    for element, name in (("PornInfo", "porn_info"), ("AdsInfo", "ads_info")):
        if info := item.get(element):
            keys = {"hit_flag": "HitFlag", "score": "Score", "label": "SubLabel"}
            data[name] = {key: info[source] for key, source in keys.items()}
    failed = "Code" in item
    return {"code": int(failed), "message": item.get("Message", "OK"), "data": data}


def _local_time(seconds: float) -> str:
    """A time as CI writes it: to the second, in the time of China."""
    china = datetime.timezone(datetime.timedelta(hours=8))
    return datetime.datetime.fromtimestamp(int(seconds), china).isoformat()


def _items_reply(items: list[Item]) -> Reply:
    request_id = new_request_id()
    return Reply(
        200, XML, lambda items: _response(JobsDetail=list(items), RequestId=request_id), items
    )


def _response(**fields: Any) -> bytes:
    return xml_text("Response", fields).encode()
