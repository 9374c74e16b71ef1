"""What Huawei Moderation answers, v1.0 and v3: JSON to verdicts, and its error codes to our errors.

Codes and their meanings: the error page of the API reference (moderation_03_0010) and the list in
the older AIS SDK; 0402 as in the page on one image (moderation_03_0019).
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

import pydantic

from beam_moderation import errors, records
from beam_moderation.vendors import answers, protocol

_REFUSED, _INPUT = errors.VendorRefusedRequest, errors.VendorRefusedInput

_CODES: Mapping[str, tuple[answers.Kind, str]] = {
    "AIS.0002": (errors.VendorRefusedLogin, "the token is not valid"),
    "AIS.0003": (errors.VendorUnavailable, "internal error"),
    "AIS.0004": (_REFUSED, "the account has no rights"),
    "AIS.0005": (_REFUSED, "no such service"),
    "AIS.0007": (_REFUSED, "the service is not opened"),
    "AIS.0010": (_REFUSED, "the request is malformed"),
    "AIS.0011": (_REFUSED, "a parameter is missing or empty"),
    "AIS.0012": (_REFUSED, "the request is malformed"),
    "AIS.0013": (_REFUSED, "the request is malformed"),
    "AIS.0014": (_REFUSED, "the request is malformed"),
    "AIS.0015": (_INPUT, "the base64 is not valid"),
    "AIS.0020": (_INPUT, "the image is too large"),
    "AIS.0021": (_INPUT, "the type of file is not supported"),
    "AIS.0022": (_INPUT, "the URL is not valid"),
    "AIS.0023": (_INPUT, "the OBS file is too large"),
    "AIS.0024": (_INPUT, "the OBS file cannot be read"),
    "AIS.0025": (_INPUT, "the OBS file is empty"),
    "AIS.0026": (_REFUSED, "the token is of another project"),
    "AIS.0027": (_REFUSED, "the account is frozen"),
    "AIS.0028": (_REFUSED, "the job is another user's"),
    "AIS.0029": (errors.VendorFailedInput, "the image could not be downloaded"),
    "AIS.0030": (errors.VendorTaskGone, "no such job, or not any more"),
    "AIS.0031": (errors.VendorThrottled, "too many unfinished jobs"),
    "AIS.0032": (_REFUSED, "the free calls are used up"),
    "AIS.0039": (_INPUT, "repeated"),
    "AIS.0401": (errors.VendorUnavailable, "processing failed"),
    "AIS.0402": (_INPUT, "the image format is not supported"),
    "AIS.0405": (errors.VendorUnavailable, "processing failed"),
    "AIS.0501": (_REFUSED, "a parameter is not valid"),
    "AIS.0502": (_INPUT, "the image format is not supported"),
    "AIS.0503": (_INPUT, "the image is damaged"),
    "AIS.0504": (_INPUT, "the size of the image is not supported"),
    "AIS.0505": (errors.VendorFailedInput, "the algorithm failed"),
    "AIS.0506": (errors.VendorUnavailable, "internal error"),
    "APIG.0301": (errors.VendorRefusedLogin, "the authentication is not valid"),
    "APIG.0308": (errors.VendorThrottled, "throttled by the gateway"),
}
"""What an error code means of a request."""

BAD_REQUEST = frozenset({"AIS.0011", "AIS.0012", "AIS.0501"})
"""The codes of a request whose fields are wrong."""

_OF_THE_ACCOUNT = frozenset(
    {"AIS.0002", "AIS.0004", "AIS.0007", "AIS.0026", "AIS.0027", "AIS.0032"}
)
"""Codes that refuse the request though they stand beside one image."""

_BELOW_THRESHOLD = "normal"
"""The label where the vendor passes a scene and lists nothing; it is its own word in porn."""

_UNNAMED = "unknown"
"""The label where the vendor does not pass a scene and lists nothing."""


class Entry(answers.Fields):
    """v1.0: a label and the confidence in it."""

    label: str
    confidence: float = pydantic.Field(ge=0, le=1, strict=True)


class Item(answers.Fields):
    """v1.0: what an answer says of one image. Below the threshold a category's list is empty."""

    suggestion: answers.Suggestion | None = None
    detail: dict[str, list[Entry] | None] | None = None
    category_suggestions: dict[str, answers.Suggestion] | None = None
    error_code: str | None = None

    def verdict(self, scene: str) -> protocol.Verdict:
        """What is said of one scene.

        The category's own suggestion, else the image's. A label other than `normal` stands for a
        category that is not passed of itself.

        Raises:
          VendorAnswerMalformed: nothing is said of it.
        """
        details, categories = self.detail or {}, self.category_suggestions or {}
        if details.get(scene) is None and scene not in categories:
            raise errors.VendorAnswerMalformed(f"nothing on {scene}")
        overall = _suggestion(self.suggestion)
        own = categories.get(scene, overall)
        floor = answers.unexplained(overall, [*categories.values(), own])
        entries = details.get(scene) or []
        findings = [records.Finding(entry.label, entry.confidence) for entry in entries]
        hits = [finding for finding in findings if finding.label != "normal"]
        best = hits if scene in categories and own != "pass" else findings
        return _verdict(
            scene,
            records.worst([own, floor]),
            max(best or findings, key=lambda finding: finding.score, default=None),
            findings,
            {"detail": _plain(entries), "suggestion": overall, "category_suggestions": categories},
            floor,
        )


class Job(answers.Fields):
    """v1.0: a job; one that has just been submitted has no status yet."""

    job_id: str = pydantic.Field(min_length=1)
    status: Literal["created", "running", "finish", "failed"] | None = None


class Detail(answers.Fields):
    """v3: one thing that was found."""

    category: str
    suggestion: answers.Suggestion
    label: str | None = None
    confidence: float = pydantic.Field(ge=0, le=1, strict=True)


class ItemV3(answers.Fields):
    """v3: what an answer says of one image. A category in which nothing was found has no detail."""

    suggestion: answers.Suggestion | None = None
    category: str | None = None
    details: list[Detail] | None = None
    ocr_text: str | None = None
    error_code: str | None = None

    def verdict(self, scene: str) -> protocol.Verdict:
        """What is said of one scene: the worst that was found, else what the image got."""
        overall = _suggestion(self.suggestion)
        everything = self.details or []
        details = [detail for detail in everything if detail.category == scene]
        floor = answers.unexplained(overall, [detail.suggestion for detail in everything])
        details.sort(key=_severity, reverse=True)
        findings = [records.Finding(found.label or scene, found.confidence) for found in details]
        extra = {"suggestion": overall, "category": self.category, "ocr_text": self.ocr_text}
        return _verdict(
            scene,
            records.worst([floor, *(detail.suggestion for detail in details)]),
            findings[0] if findings else None,
            findings,
            {"details": _plain(details), **extra},
            floor,
        )


def _severity(detail: Detail) -> tuple[int, float]:
    return records.SUGGESTIONS.index(detail.suggestion), detail.confidence


def _suggestion(word: str | None) -> str:
    if word is None:
        raise errors.VendorAnswerMalformed("neither a suggestion nor an error")
    return word


def _plain(fields: Sequence[answers.Fields]) -> list[dict[str, Any]]:
    return [field.model_dump() for field in fields]


def _verdict(
    scene: str,
    suggestion: str,
    best: records.Finding | None,
    findings: Sequence[records.Finding],
    detail: Mapping[str, Any],
    floor: str,
) -> protocol.Verdict:
    """A verdict. Where the vendor lists no label its score is 0 and it has no findings.

    For then the confidence is not known, only that it is below the threshold: as nothing is sure
    of such a score, no policy can take it for a sign that the image is clean.
    """
    nothing = _BELOW_THRESHOLD if suggestion == "pass" else _UNNAMED
    label, score = best or (nothing, 0.0)
    told = {name: value for name, value in detail.items() if value}
    return protocol.Verdict(scene, label, score, suggestion, "", findings, told, floor)


def read(response: protocol.Response) -> dict[str, Any]:
    """The object that an answer is, where it is no error as a whole.

    Raises:
      VendorError: it is an error, or no such answer.
    """
    try:
        body = answers.json_object(response.body)
    except errors.VendorAnswerMalformed:
        if response.status < 300:
            raise
        body = {}
    code = body.get("error_code") or ""
    if response.status >= 300 or code:
        raise _request_error(str(code), response)
    return body


def job(body: Mapping[str, Any]) -> Job:
    """The job that an answer tells of.

    Raises:
      VendorAnswerMalformed: it tells of none.
    """
    return answers.parse(Job, body.get("result"))


def request_id(body: Mapping[str, Any], response: protocol.Response) -> str | None:
    """The id that the vendor knows the request by."""
    told = body.get("request_id")
    return told if isinstance(told, str) else response.headers.get("x-request-id")


def _request_error(code: str, response: protocol.Response) -> errors.VendorError:
    by_status = answers.kind_of_status(response.status), f"HTTP {response.status}"
    kind, meaning = _CODES.get(code, by_status)
    return answers.failure(kind, f"huawei: {meaning}", code, response.headers)


def _item_error(code: str) -> errors.VendorError:
    unknown = errors.VendorAnswerMalformed, "an error that is not documented"
    kind, meaning = _CODES.get(code, unknown)
    if issubclass(kind, errors.VendorRefusedRequest) and code not in _OF_THE_ACCOUNT:
        kind = errors.VendorRefusedInput
    return answers.failure(kind, f"huawei did not judge the image: {meaning}", code)


def answer(
    model: type[Item] | type[ItemV3],
    scenes: Sequence[str],
    fields: object,
    task_id: str | None,
    request: str | None,
) -> protocol.Answer:
    """What an answer says of one image, of which `fields` are None where it says nothing."""
    scene = None
    try:
        if fields is None:
            raise errors.VendorAnswerMalformed("no answer to the image, or several that differ")
        item = answers.parse(model, fields)
        if item.error_code:
            raise _item_error(item.error_code)
        _suggestion(item.suggestion)
        verdicts = []
        for scene in scenes:
            verdicts.append(item.verdict(scene))
    except errors.VendorError as error:
        return protocol.Failed(error, task_id, request, scene)
    return protocol.Judged(verdicts, task_id, request, billed_units=len(scenes))


def by_url(urls: Sequence[str], results: object) -> list[dict[str, Any] | None]:
    """What an answer says of each URL that was asked for."""
    return answers.match(urls, named(results, "url", _as_asked(urls)))


def _as_asked(urls: Sequence[str]) -> Callable[[str], str]:
    """Finds the URL that was asked for: as it is, else the only one that is spelt differently."""
    exact = {*urls}
    places = collections.defaultdict(set)
    for url in exact:
        places[_same_place(url)].add(url)

    def spelt(told: str) -> str:
        alike = places[_same_place(told)]
        return told if told in exact or len(alike) != 1 else next(iter(alike))

    return spelt


def _same_place(url: str) -> str:
    """A URL as it can be compared: a vendor may give it back with its host or escapes respelt."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return unquote(f"{scheme.lower()}://{host.lower()}{slash}{path}")


def named(
    value: object, name: str, spell: Callable[[str], str] = str
) -> list[tuple[str | None, Any]]:
    """The entries of a list that an answer must have, each with its name."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise errors.VendorAnswerMalformed("the answer has no list of results")
    names = [entry.get(name) for entry in value]
    spelt = [spell(told) if isinstance(told, str) else None for told in names]
    return list(zip(spelt, value, strict=True))
