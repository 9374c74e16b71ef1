"""What Tencent COS CI answers: XML to verdicts, and its error codes to our errors."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import defusedxml.ElementTree
import pydantic
from pydantic.alias_generators import to_pascal

from beam_moderation import errors, records
from beam_moderation.vendors import answers, protocol

SCENES: Mapping[str, tuple[str, str]] = {
    "porn": ("PornInfo", "Porn"),
    "ad": ("AdsInfo", "Ads"),
    "terrorism": ("TerrorismInfo", "Terrorism"),
    "politics": ("PoliticsInfo", "Politics"),
    "quality": ("QualityInfo", "Quality"),
}
"""The scenes, each with the element of an answer that tells of it, and with the vendor's word."""

_HITS = {"0": "pass", "1": "block", "2": "review"}
"""`HitFlag` and `Result`: normal, violation, suspected. Not in the order of severity."""

_CODES: Mapping[str, answers.Kind] = {
    "InvalidArgument": errors.VendorRefusedRequest,
    "MissingContent": errors.VendorRefusedRequest,
    "InvalidContent": errors.VendorRefusedRequest,
    "MalformedXML": errors.VendorRefusedRequest,
    "InvalidHost": errors.VendorRefusedRequest,
    "CIRoleNotExist": errors.VendorRefusedRequest,
    "ResourceAccessDenied": errors.VendorRefusedRequest,
    "ResourceNotFound": errors.VendorRefusedInput,
    "ResourceDownloadFailed": errors.VendorFailedInput,
    # From here on the usual codes of COS; those above are of the page on errors of CI.
    "AccessDenied": errors.VendorRefusedLogin,
    "ExpiredToken": errors.VendorRefusedLogin,
    "InvalidAccessKeyId": errors.VendorRefusedLogin,
    "SignatureDoesNotMatch": errors.VendorRefusedRequest,
    "RequestTimeTooSkewed": errors.VendorRefusedRequest,
    "NoSuchBucket": errors.VendorRefusedRequest,
    "SlowDown": errors.VendorThrottled,
    "RequestLimitExceeded": errors.VendorThrottled,
    "InternalError": errors.VendorUnavailable,
    "ServiceUnavailable": errors.VendorUnavailable,
}
"""What an error code means of a request. Of one image, a refused request is a refused input."""

BAD_REQUEST = frozenset({"InvalidArgument", "InvalidContent"})
"""The codes of a request whose fields are wrong."""

_LISTS = frozenset(
    {"JobsDetail", "OcrResults", "Keywords", "LibResults", "ObjectResults", "ListResults"}
)
"""The elements that may repeat: they are lists even where there is one."""

_NUMBERS = frozenset({"X", "Y", "Height", "Width", "Rotate", "Score"})


class _Answer(answers.Fields):
    model_config = pydantic.ConfigDict(alias_generator=to_pascal)


class _Info(_Answer):
    """What an answer says of one scene."""

    code: str | None = None
    msg: str | None = None
    hit_flag: Literal["0", "1", "2"] | None = None
    score: float | None = pydantic.Field(default=None, ge=0, le=100)
    label: str | None = None
    category: str | None = None
    sub_label: str | None = None

    @property
    def told_label(self) -> str | None:
        """The label as the vendor spells it, None where it says `Normal` or nothing."""
        words = [self.label, self.category, self.sub_label]
        return next((word for word in words if word and word.casefold() != "normal"), None)


class _Job(_Answer):
    """What an answer says of one image."""

    code: str | None = None
    message: str | None = None
    data_id: str | None = None
    job_id: str | None = None
    state: str | None = None
    result: Literal["0", "1", "2"] | None = None

    def infos(self) -> dict[str, _Info]:
        """What is said of each scene, also of those that nobody asked for, by element."""
        return {
            name: answers.parse(_Info, value)
            for name, value in self.others.items()
            if name.endswith("Info") and isinstance(value, dict) and {"HitFlag", "Code"} & {*value}
        }


def read(response: protocol.Response) -> tuple[list[dict[str, Any]], str | None]:
    """The images of an answer that is no error, as JSON would have them, and the request's id.

    Raises:
      VendorError: it is an error, or no such answer.
    """
    try:
        root = defusedxml.ElementTree.fromstring(response.body, forbid_dtd=True)
        fields = _value(root)
    except (ET.ParseError, ValueError, LookupError, RecursionError):
        raise _request_error("", response) from None
    if not isinstance(fields, dict) or response.status >= 300 or root.tag != "Response":
        is_error = isinstance(fields, dict) and root.tag == "Error"
        raise _request_error(answers.text(fields, "Code") or "" if is_error else "", response)
    jobs = [job for job in fields.get("JobsDetail", []) if isinstance(job, dict)]
    return jobs, answers.text(fields, "RequestId")


def delivered_job(body: bytes) -> str:
    """The id of the job that a callback tells of, in the form Simple or Detail.

    It may be anybody's word: the vendor signs no callback.

    Raises:
      VendorAnswerMalformed: it names no job.
    """
    delivery = answers.json_object(body)
    simple, detail = delivery.get("data"), delivery.get("JobsDetail")
    detail = detail[0] if isinstance(detail, list) and len(detail) == 1 else detail
    for fields, name in ((simple, "trace_id"), (detail, "JobId")):
        if isinstance(fields, dict) and (job_id := answers.text(fields, name)):
            return job_id
    raise errors.VendorAnswerMalformed("tencent: a callback that names no job")


def _value(element: ET.Element) -> Any:
    """An element as JSON has it: text, a number, its children by name; None where it is empty."""
    if not len(element):
        return _leaf(element.tag, (element.text or "").strip())
    fields: dict[str, Any] = {}
    for child in element:
        value = _value(child)
        if value is None:
            continue
        if child.tag in _LISTS:
            fields.setdefault(child.tag, []).append(value)
        elif child.tag in fields:
            raise ValueError("an element that cannot repeat does")
        else:
            fields[child.tag] = value
    return fields


def _leaf(name: str, content: str) -> str | float | None:
    if name in _NUMBERS and re.fullmatch(r"-?\d{1,15}(\.\d*)?", content):
        return float(content)
    return content or None


def _request_error(code: str, response: protocol.Response) -> errors.VendorError:
    kind = _CODES.get(code) or answers.kind_of_status(response.status)
    return answers.failure(kind, f"tencent: HTTP {response.status}", code, response.headers)


def _item_error(code: str) -> errors.VendorError:
    kind = _CODES.get(code, errors.VendorAnswerMalformed)
    if issubclass(kind, errors.VendorRefusedRequest):
        kind = errors.VendorRefusedInput
    return answers.failure(kind, "tencent did not judge the image", code)


def answer(
    scenes: Sequence[str],
    fields: dict[str, Any] | None,
    request_id: str | None,
    task_id: str | None = None,
) -> protocol.Answer:
    """What an answer says of one image, of which `fields` are None where it says nothing."""
    try:
        if fields is None:
            raise errors.VendorAnswerMalformed("no answer to the image, or several that differ")
        job = answers.parse(_Job, fields)
        task_id = job.job_id or task_id
        if job.code or job.state == "Failed":
            raise _item_error(job.code or "")
        if job.state in (None, "Success"):
            return _judged(scenes, job, task_id, request_id)
        if task_id is None:
            raise errors.VendorAnswerMalformed("neither a result nor a JobId")
        # Submitted or Auditing; a state that the pages lack is no result either.
        return protocol.Pending(task_id, request_id)
    except errors.VendorError as error:
        return protocol.Failed(error, task_id, request_id)


def _judged(
    scenes: Sequence[str], job: _Job, task_id: str | None, request_id: str | None
) -> protocol.Judged | protocol.Failed:
    infos = job.infos()
    hits = [_HITS[info.hit_flag] for info in infos.values() if info.hit_flag]
    floor = answers.unexplained(_HITS[job.result], hits) if job.result else "pass"
    of_image = {name: value for name, value in job.others.items() if name not in infos}
    detail = {"JobsDetail": {**of_image, **({"Result": job.result} if job.result else {})}}
    verdicts = []
    for scene in scenes:
        try:
            verdicts.append(_verdict(scene, infos.get(SCENES[scene][0]), floor, detail))
        except errors.VendorError as error:
            return protocol.Failed(error, task_id, request_id, scene)
    return protocol.Judged(verdicts, task_id, request_id, billed_units=len(infos))


def _verdict(
    scene: str, info: _Info | None, floor: str, detail: Mapping[str, Any]
) -> protocol.Verdict:
    """What an answer says of one scene.

    Raises:
      VendorUnavailable: the vendor failed on the scene.
      VendorAnswerMalformed: it says nothing of it, or not enough.
    """
    if info is None:
        raise errors.VendorAnswerMalformed(f"nothing on {scene}: is it in the policy (biz_type)?")
    if info.code not in (None, "0"):
        raise answers.failure(errors.VendorUnavailable, f"tencent failed on {scene}", info.code)
    if info.hit_flag is None or info.score is None:
        raise errors.VendorAnswerMalformed(f"no HitFlag or no Score on {scene}")
    word = SCENES[scene][1]
    scores = {word: info.score / 100}
    label = info.told_label or (word if info.hit_flag != "0" else "Normal")
    scores[label] = (100 - info.score if label == "Normal" else info.score) / 100
    return protocol.Verdict(
        scene,
        label,
        scores[label],
        records.worst([_HITS[info.hit_flag], floor]),
        info.sub_label or "",
        [records.Finding(*finding) for finding in scores.items()],
        {**info.others, **({"Category": info.category} if info.category else {}), **detail},
        floor,
    )
