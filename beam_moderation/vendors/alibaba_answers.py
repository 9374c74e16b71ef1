"""What Alibaba Green answers: JSON to verdicts, and its codes to our errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from beam_moderation import errors, records
from beam_moderation.vendors import answers, protocol

LABELS: Mapping[str, frozenset[str]] = {
    scene: frozenset(labels.split())
    for scene, labels in {
        "porn": "normal sexy porn",
        "terrorism": "normal bloody explosion outfit logo weapon politics violence crowd parade "
        "carcrash flag location drug gamble others",
        "ad": "normal politics porn abuse terrorism contraband spam npx qrcode programCode ad",
        "qrcode": "normal qrcode programCode",
        "live": "normal meaningless PIP smoking drivelive drug gamble",
        "logo": "normal TV trademark",
    }.items()
}
"""The scenes and their labels, of help page 70292. `normal` is: nothing of this scene."""

_OK, _PROCESSING = 200, 280

_CODES: Mapping[int, answers.Kind] = {
    400: errors.VendorRefusedInput,
    401: errors.VendorRefusedInput,
    403: errors.VendorRefusedInput,
    404: errors.VendorRefusedInput,
    408: errors.VendorRefusedRequest,
    411: errors.VendorRefusedRequest,
    480: errors.VendorFailedInput,
    500: errors.VendorUnavailable,
    503: errors.VendorUnavailable,
    580: errors.VendorUnavailable,
    581: errors.VendorTimeout,
    585: errors.VendorUnavailable,
    586: errors.VendorFailedInput,
    587: errors.VendorUnavailable,
    588: errors.VendorThrottled,
    589: errors.VendorRefusedInput,
    590: errors.VendorRefusedInput,
    591: errors.VendorThrottled,
    592: errors.VendorUnavailable,
    594: errors.VendorTaskGone,
    595: errors.VendorRefusedInput,
    596: errors.VendorRefusedRequest,
}
"""What a code means of one image: help page 53414, and 276036 for 596."""

BAD_REQUEST = frozenset({"400"})
"""The code of a request whose fields are wrong."""

_GATEWAY_CODES: Mapping[str, answers.Kind] = {
    "InvalidAccessKeyId": errors.VendorRefusedLogin,
    "InvalidSecurityToken": errors.VendorRefusedLogin,
    "Throttling": errors.VendorThrottled,
    "ServiceUnavailable": errors.VendorUnavailable,
    "InternalError": errors.VendorUnavailable,
}
"""What the first word of a gateway's code means; any other with HTTP 4xx refuses the request."""


class _Result(answers.Fields):
    """What an answer says of one scene."""

    scene: str
    label: str = pydantic.Field(min_length=1)
    suggestion: answers.Suggestion
    rate: float = pydantic.Field(ge=0, le=100)
    sublabel: str | None = None


class _Task(answers.Fields):
    """What an answer says of one image."""

    code: int
    dataId: str | None = None  # noqa: N815
    taskId: str | None = None  # noqa: N815
    results: list[_Result] | None = None


def read(response: protocol.Response) -> tuple[Any, str | None]:
    """The `data` of an answer that is no error, and the request's id.

    Raises:
      VendorError: it is an error, or no such answer.
    """
    try:
        fields = answers.json_object(response.body)
    except errors.VendorAnswerMalformed:
        if response.status < 300:
            raise
        raise _request_error(response, "") from None
    code, request_id = fields.get("code", fields.get("Code")), fields.get("requestId")
    if response.status >= 300 or code != _OK:
        raise _request_error(response, code)
    return fields.get("data"), request_id if isinstance(request_id, str) else None


def read_tasks(response: protocol.Response) -> tuple[list[dict[str, Any]], str | None]:
    """The images of an answer, and the request's id.

    Raises:
      VendorError: the request as a whole failed.
    """
    data, request_id = read(response)
    if not isinstance(data, list):
        raise errors.VendorAnswerMalformed("the answer has no list of images")
    return [task for task in data if isinstance(task, dict)], request_id


def _request_error(response: protocol.Response, code: object) -> errors.VendorError:
    return answers.failure(
        _request_kind(response.status, code),
        f"alibaba: HTTP {response.status}",
        str(code or ""),
        response.headers,
    )


def _request_kind(status: int, code: object) -> answers.Kind:
    """What the code of a whole request means. A bad request is a wrong option of ours."""
    if isinstance(code, int) and code != _OK:
        return errors.VendorRefusedRequest if code == 400 else _kind(code)
    if isinstance(code, str) and code:
        known = _GATEWAY_CODES.get(code.partition(".")[0])
        if known or 400 <= status < 500:
            return known or errors.VendorRefusedRequest
    return answers.kind_of_status(status)


def _kind(code: int) -> answers.Kind:
    if 500 <= code < 600:
        return _CODES.get(code, errors.VendorUnavailable)
    return _CODES.get(
        code, errors.VendorRefusedInput if 400 <= code < 500 else errors.VendorAnswerMalformed
    )


def answer(
    scenes: Sequence[str], fields: Mapping[str, Any] | None, request_id: str | None, submitted: bool
) -> protocol.Answer:
    """What an answer says of one image, of which `fields` are None where it says nothing.

    Args:
      submitted: whether the answer is that to an asynchronous scan, which judges nothing.
    """
    task_id = None
    try:
        if fields is None:
            raise errors.VendorAnswerMalformed("no answer to the image, or several that differ")
        task = answers.parse(_Task, fields)
        task_id = task.taskId
        if task.code not in (_OK, _PROCESSING):
            raise answers.failure(_kind(task.code), "alibaba has no verdict", str(task.code))
        if submitted or task.code == _PROCESSING:
            return _pending(task_id, request_id)
        return _judged(scenes, task, request_id)
    except errors.VendorError as error:
        return protocol.Failed(error, task_id, request_id)


def _pending(task_id: str | None, request_id: str | None) -> protocol.Pending:
    if not task_id:
        raise errors.VendorAnswerMalformed("a task without a taskId")
    return protocol.Pending(task_id, request_id)


def _judged(
    scenes: Sequence[str], task: _Task, request_id: str | None
) -> protocol.Judged | protocol.Failed:
    """The verdicts on the scenes that were asked for, and on those that a policy added."""
    results = task.results or []
    told = [result.scene for result in results]
    detail = {key: task.others[key] for key in ("extras", "storedUrl") if task.others.get(key)}
    verdicts = []
    for scene in dict.fromkeys([*scenes, *told]):
        try:
            of_scene = [result for result in results if result.scene == scene]
            verdicts.append(_verdict(scene, of_scene, detail))
        except errors.VendorError as error:
            return protocol.Failed(error, task.taskId, request_id, scene)
    return protocol.Judged(verdicts, task.taskId, request_id, billed_units=len(verdicts))


def _verdict(scene: str, results: Sequence[_Result], detail: Mapping[str, Any]) -> protocol.Verdict:
    """What an answer says of one scene; `rate` is the confidence in the label that is given.

    Raises:
      VendorAnswerMalformed: it says nothing of it, or two things, or lets pass what no page names.
    """
    if not results or any(result != results[0] for result in results):
        raise errors.VendorAnswerMalformed(f"no verdict on {scene}, or several that differ")
    result = results[0]
    if result.suggestion == "pass" and result.label not in LABELS.get(scene, ()):
        raise errors.VendorAnswerMalformed(f"a pass for an unknown label of {scene}")
    score = round(result.rate / 100, 6)
    return protocol.Verdict(
        scene,
        result.label,
        score,
        result.suggestion,
        result.sublabel or "",
        [records.Finding(result.label, score)],
        {**detail, **result.others},
    )
