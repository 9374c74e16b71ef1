"""Huawei Cloud Moderation: images one by one, in batches and as jobs, v1.0 and v3.

The facts are those of the vendor's page on batches of v1.0, of its pages on jobs
(moderation_03_0038, moderation_03_0039), on one image (moderation_03_0019) and on feedback
(en-us_topic_0198849123), and of huaweicloudsdkmoderation 3.0.45 (v1) and 3.1.219 (v3).
"""

import base64
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from beam_moderation import errors
from beam_moderation.vendors import (
    answers,
    huawei_answers,
    huawei_login,
    huawei_signatures,
    huawei_v3,
    options,
    protocol,
)

_SCENES = {
    ("v1.0", False): ("politics", "terrorism", "porn", "ad"),
    ("v1.0", True): ("politics", "terrorism", "porn"),
    ("v3", False): ("politics", "terrorism", "porn", "image_text"),
}
"""The scenes of each version, synchronous or as jobs."""

_MAX_URLS = 10
_MAX_URLS_OF_A_JOB = 500
_MAX_INLINE_BYTES = 7_500_000
"""What is 10 MB in base64."""
_MAX_UNFINISHED_JOBS = 20
"""Of an account (moderation_03_0038)."""
_MAX_REQUEST_BYTES = 12_000_000
"""Of a request signed with a key pair."""


@dataclasses.dataclass(frozen=True)
class Huawei:
    """Huawei Cloud image moderation, synchronous or, in v1.0, as jobs.

    The scenes are the vendor's categories and are always sent. Left to itself the vendor would
    judge politics and terrorism, and `all` would leave out ad: so no scene goes unjudged unsaid.

    A scene with nothing above the vendor's threshold has a suggestion, score 0 and no findings.

    In v1.0 an image is known by its URL alone, so that equal URLs in a request have their answers
    in the order of the request.

    Args:
      region: as `cn-north-4`.
      scenes: v1.0: of politics, terrorism, porn, ad (no ad in jobs); v3: of politics, terrorism,
        porn, image_text. Politics, terrorism and porn where none are named.
      api_version: `v1.0` or `v3`.
      asynchronous: v1.0: URLs go in jobs of up to 500, at most 20 of them unfinished. Bytes are
        judged at once all the same.
      threshold: v1.0: in [0, 1], which findings are told; None: the vendor's own (politics 0.95,
        others 0). It changes no suggestion.
      moderation_rule: v1.0: a rule's name. It exists only for one image at a time, so that each
        image, by URL too, is a request.
      ad_glossaries: v1.0: names of word lists for ad; one image at a time too.
      biz_type: v3: a policy's name; it beats the scenes, so those that it judges must be named.
        Of a scene in which nothing was found the vendor says nothing: `detail` has `unstated`.
      event_type: v3: what the images are, as `head_image`; required without `biz_type`.
      black_glossary_names: v3: names of lists of words that image_text finds in addition.
      white_glossary_names: v3: of words that image_text does not mind.
      language: v3: of the text in the images, as `zh`, which is the only one in China.
      project_id: required in v3.
      bucket: of the account's own OBS in the same region, which Moderation was given leave to read:
        what is at `obs://bucket/key` goes as its address there.
      endpoint: instead of the vendor's own, as `http://127.0.0.1:8080`.
      iam_endpoint: likewise of the login.

    Raises:
      ConfigurationError: an option is none that the vendor takes.
    """

    name: ClassVar[str] = "huawei"

    region: str
    scenes: Sequence[str] = None  # type: ignore[assignment] # what stands for it hangs on biz_type
    api_version: str = "v1.0"
    asynchronous: bool = False
    threshold: float | None = None
    moderation_rule: str | None = None
    ad_glossaries: Sequence[str] = ()
    biz_type: str | None = None
    event_type: str | None = None
    black_glossary_names: Sequence[str] = ()
    white_glossary_names: Sequence[str] = ()
    language: str | None = None
    project_id: str | None = None
    bucket: str | None = dataclasses.field(default=None, compare=False)
    endpoint: str | None = dataclasses.field(default=None, compare=False)
    iam_endpoint: str | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.scenes is None:
            named = () if self.biz_type else ("politics", "terrorism", "porn")
            object.__setattr__(self, "scenes", named)
        options.check(self.name, self._problems())

    def _problems(self) -> Iterator[str]:
        scenes = _SCENES.get((self.api_version, self.asynchronous))
        if scenes is None:
            yield "api_version is v1.0 or v3; v3 has no jobs"
        if "all" in self.scenes:
            yield "name scenes; the vendor's `all` lacks ad"
        yield from options.of_scenes(self.scenes, scenes or ())
        yield from options.of_addresses(endpoint=self.endpoint, iam_endpoint=self.iam_endpoint)
        yield from self._problems_of_v3() if self._is_v3 else self._problems_of_v1()

    def _problems_of_v1(self) -> Iterator[str]:
        if not 0 <= (self.threshold or 0) <= 1:
            yield "threshold is from 0 to 1"
        if self.asynchronous and self._one_by_one:
            yield "moderation_rule and ad_glossaries take no jobs"
        for name in options.given(self._of_v3):
            yield f"{name} needs v3"

    def _problems_of_v3(self) -> Iterator[str]:
        if self.threshold is not None or self._one_by_one:
            yield "threshold, moderation_rule and ad_glossaries need v1.0"
        yield from huawei_v3.problems(self.project_id, self._of_v3)

    @property
    def _is_v3(self) -> bool:
        return self.api_version == "v3"

    @property
    def _of_v3(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in huawei_v3.OPTIONS}

    @property
    def provider(self) -> str:
        """The name with the API's version."""
        return f"huawei/{self.api_version}"

    @property
    def limits(self) -> protocol.Limits:
        """10 URLs a request, 500 a job, or one image inline; a job's results are kept 30 minutes.

        The answer waits for the vendor's downloads: the SDK waits for it up to 120 seconds.
        """
        v1_formats = {"JPEG", "PNG", "BMP"}
        v3_formats = {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "HEIF"}
        urls = _MAX_URLS_OF_A_JOB if self.asynchronous else _MAX_URLS
        return protocol.Limits(
            max_items=1 if self._one_by_one else urls,
            max_bytes=_MAX_INLINE_BYTES,
            formats=frozenset(v3_formats if self._is_v3 else v1_formats),
            max_inline_bytes=_MAX_INLINE_BYTES,
            max_request_bytes=_MAX_REQUEST_BYTES,
            inline_alone=True,
            timeout_s=120.0,
            first_look_s=30.0,
            look_every_s=30.0,
            results_kept_s=1800.0,
            max_unfinished=_MAX_UNFINISHED_JOBS,
        )

    @property
    def _one_by_one(self) -> dict[str, Any]:
        """The options that exist only for one image at a time."""
        return options.given(
            {"moderation_rule": self.moderation_rule, "ad_glossaries": [*self.ad_glossaries]}
        )

    def _is_single(self, items: Sequence[protocol.Item]) -> bool:
        inline = any(item.content is not None for item in items)
        if inline and len(items) > 1:
            raise ValueError("huawei: an image sent inline needs a request of its own")
        return inline or bool(self._one_by_one)

    def scan(
        self,
        items: Sequence[protocol.Item],
        credentials: protocol.Credentials,
        now: float,
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request:
        """The request that has images judged, or taken as a job.

        In v3 a `data_id` that is not of up to 30 letters, digits, `_` and `-`, or that comes a
        second time in the request, goes out as a hash of itself.

        Raises:
          VendorRefusedInput: an item has neither bytes nor a URL.
          ValueError: more items than the vendor takes, or bytes beside other items.
        """
        if len(items) > self.limits.max_items:
            raise ValueError(f"huawei: {len(items)} images, at most {self.limits.max_items}")
        images = [self._image(item) for item in items]
        if self._is_single(items):
            return self._post("/moderation/image", self._body(images[0]), credentials, now)
        urls: list[Any] = [image["url"] for image in images]
        if self._is_v3:
            ids = huawei_v3.data_ids(items)
            urls = [{"url": url, "data_id": id_} for url, id_ in zip(urls, ids, strict=True)]
        path = "/moderation/image/batch/jobs" if self.asynchronous else "/moderation/image/batch"
        return self._post(path, self._body({"urls": urls}), credentials, now)

    def object_key(self, uri: str) -> str | None:
        """The key of an image in the account's own bucket; None for any other URI."""
        return answers.key_in("obs", self.bucket, uri)

    def _url(self, item: protocol.Item) -> str:
        """The address that the vendor is given; empty where there is none."""
        if item.object_key is None or self.bucket is None:
            return item.url or ""
        host = f"https://{self.bucket}.obs.{self.region}.myhuaweicloud.com"
        return f"{host}/{quote(item.object_key)}"

    def _image(self, item: protocol.Item) -> dict[str, str]:
        if item.content is not None:
            return {"image": base64.b64encode(item.content).decode()}
        if not (url := self._url(item)):
            raise errors.VendorRefusedInput("huawei: the image has neither bytes nor a URL")
        return {"url": url}

    def _body(self, images: Mapping[str, Any]) -> dict[str, Any]:
        """The images and the options, in the order in which the SDK has them."""
        if self._is_v3:
            return huawei_v3.body(images, self.scenes, self._of_v3)
        body = {
            **images,
            "categories": [*self.scenes],
            **({} if "urls" in images else self._one_by_one),
        }
        return body if self.threshold is None else {**body, "threshold": self.threshold}

    def _post(
        self, tail: str, body: Any, credentials: protocol.Credentials, now: float
    ) -> protocol.Request:
        encoded = json.dumps(body).encode()
        return self._signed("POST", self._path(tail), {}, encoded, credentials, now)

    def _path(self, tail: str) -> str:
        project = f"/{self.project_id}" if self._is_v3 else ""
        return f"/{self.api_version}{project}{tail}"

    def _signed(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        body: bytes,
        credentials: protocol.Credentials,
        now: float,
    ) -> protocol.Request:
        base = self.endpoint or f"https://moderation.{self.region}.myhuaweicloud.com"
        headers = {"X-Project-Id": self.project_id} if self.project_id else {}
        return huawei_signatures.signed(
            method, base, path, parameters, headers, body, credentials, now
        )

    def read_scan(
        self, items: Sequence[protocol.Item], response: protocol.Response
    ) -> Sequence[protocol.Answer]:
        """The answer to each image: its verdicts, its job's id, or why it has none.

        Raises:
          VendorError: the request as a whole failed.
        """
        body = huawei_answers.read(response)
        request_id = huawei_answers.request_id(body, response)
        if self._is_single(items):
            return [self._answer(body.get("result"), None, request_id)]
        if self.asynchronous:
            task_id = huawei_answers.job(body).job_id
            return [protocol.Pending(task_id, request_id) for _ in items]
        if self._is_v3:
            found = answers.match(
                huawei_v3.data_ids(items), huawei_answers.named(body.get("results"), "data_id")
            )
        else:
            found = self._by_url(items, body.get("result"))
        return [self._answer(fields, None, request_id) for fields in found]

    def _answer(
        self, fields: object, task_id: str | None, request_id: str | None
    ) -> protocol.Answer:
        model = huawei_answers.ItemV3 if self._is_v3 else huawei_answers.Item
        answer = huawei_answers.answer(model, self.scenes, fields, task_id, request_id)
        if self.biz_type and isinstance(answer, protocol.Judged):
            return huawei_v3.with_unstated(answer)
        return answer

    def _by_url(
        self, items: Sequence[protocol.Item], results: object
    ) -> list[dict[str, Any] | None]:
        return huawei_answers.by_url([self._url(item) for item in items], results)

    def query(
        self,
        tasks: Sequence[protocol.Task],
        credentials: protocol.Credentials,
        now: float,
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request:
        """The request for the result of a job."""
        (task,) = tasks
        path = self._path("/moderation/image/batch")
        return self._signed("GET", path, {"job_id": task.task_id}, b"", credentials, now)

    def read_query(
        self, tasks: Sequence[protocol.Task], response: protocol.Response
    ) -> Sequence[tuple[protocol.Item, protocol.Answer]]:
        """The answer to each image of a job.

        Raises:
          VendorTaskGone: the vendor knows no such job, or not any more (it keeps one 30 minutes).
          VendorError: the request as a whole failed.
        """
        (task,) = tasks
        body = huawei_answers.read(response)
        request_id = huawei_answers.request_id(body, response)
        job = huawei_answers.job(body)
        if job.job_id != task.task_id:
            raise errors.VendorAnswerMalformed("huawei: the answer is on another job")
        found = self._results(task, job, request_id)
        return list(zip(task.items, found, strict=True))

    def _results(
        self, task: protocol.Task, job: huawei_answers.Job, request_id: str | None
    ) -> Sequence[protocol.Answer]:
        if job.status in ("created", "running"):
            return [protocol.Pending(task.task_id, request_id) for _ in task.items]
        if job.status == "failed":
            failed = errors.VendorUnavailable("huawei: the job failed")
            return [protocol.Failed(failed, task.task_id, request_id) for _ in task.items]
        found = self._by_url(task.items, job.others.get("items"))
        return [self._answer(fields, task.task_id, request_id) for fields in found]

    def feedback(
        self,
        human: protocol.Human,
        credentials: protocol.Credentials,
        now: float,
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request:
        """The request that reports a verdict as wrong. It is of v1.1 whatever the version.

        Raises:
          VendorRefusedInput: the vendor takes pass and block, of a web address, in a scene of
            politics, terrorism, porn, ad.
        """
        scenes = human.scenes or self.scenes
        categories = [scene for scene in scenes if scene in _SCENES["v1.0", False]]
        is_told = human.suggestion in ("pass", "block") and categories
        if not is_told or not answers.is_web_address(human.url):
            raise errors.VendorRefusedInput(
                "huawei takes pass or block of a web address, in politics, terrorism, porn or ad, "
                "as feedback"
            )
        report = {"suggestion": human.suggestion, "url": human.url, "categories": categories}
        body = json.dumps(report).encode()
        return self._signed("POST", "/v1.1/moderation/image/feedback", {}, body, credentials, now)

    def read_feedback(self, response: protocol.Response) -> None:
        """Raises a `VendorError` unless the vendor took the report."""
        with answers.of_one_decision(huawei_answers.BAD_REQUEST):
            huawei_answers.read(response)

    def login(
        self,
        credentials: protocol.Credentials,
        now: float,  # noqa: ARG002
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request | None:
        """The request for a token in exchange for a user's name and password; None for a key pair.

        The token is of the project that is named as the region is.
        """
        if credentials.domain is None:
            return None
        base = self.iam_endpoint or f"https://iam.{self.region}.myhuaweicloud.com"
        return huawei_login.request(base, self.region, credentials)

    def read_login(
        self, credentials: protocol.Credentials, response: protocol.Response
    ) -> protocol.Grant:
        """The credentials with the token, and when it ends.

        Raises:
          VendorError: there is none.
        """
        token, ends_at = huawei_login.read_token(response)
        return protocol.Grant(dataclasses.replace(credentials, login_token=token), ends_at)
