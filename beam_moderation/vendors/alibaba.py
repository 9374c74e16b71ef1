"""Alibaba Cloud Content Moderation (Green): image scans, their tasks, feedback and uploads.

The facts are those of help pages 70292 (synchronous scan), 70430 (asynchronous), 92001 (newer
limits), 53413 (signature), 53414 (codes), 70432 (feedback) and 50191 (upload), and of
aliyun-python-sdk-green 3.6.6; the pages of 2017 and 2019 have smaller limits, which are options.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlencode

from beam_moderation import errors
from beam_moderation.vendors import (
    alibaba_answers,
    alibaba_signatures,
    alibaba_store,
    answers,
    options,
    protocol,
)

_OWN = "cn-shanghai cn-beijing cn-shenzhen cn-hangzhou ap-southeast-1 us-west-1"
_IN_CHINA = (
    "cn-hongkong cn-chengdu cn-qingdao cn-zhangjiakou cn-huhehaote "
    "cn-hangzhou-finance cn-shanghai-finance-1 cn-shenzhen-finance-1 cn-north-2-gov-1"
)
_ABROAD = (
    "us-east-1 eu-central-1 eu-west-1 ap-south-1 ap-southeast-2 ap-southeast-3 ap-southeast-5 "
    "ap-northeast-1 me-east-1"
)
_HOSTS: Mapping[str, str] = {
    **{region: f"green.{region}.aliyuncs.com" for region in _OWN.split()},
    **dict.fromkeys(_IN_CHINA.split(), "green.aliyuncs.com"),
    **dict.fromkeys(_ABROAD.split(), "green.ap-southeast-1.aliyuncs.com"),
}
"""The regions, and where the SDK sends what is for them."""


class _Operation(NamedTuple):
    path: str
    action: str


_SCAN = _Operation("/green/image/scan", "ImageSyncScan")
_ASYNC_SCAN = _Operation("/green/image/asyncscan", "ImageAsyncScan")
_RESULTS = _Operation("/green/image/results", "ImageAsyncScanResults")
_FEEDBACK = _Operation("/green/image/feedback", "ImageScanFeedback")
_UPLOAD = _Operation("/green/credentials/uploadcredentials", "UploadCredentials")

_VERSIONS = ("2018-05-09", "2017-01-12")
_FORMATS = frozenset({"PNG", "JPEG", "BMP", "GIF", "WEBP"})
_FEEDBACK_SCENES = frozenset({"porn", "terrorism", "ad"})
_MAX_URL_CHARS = 2048
_URL = re.compile(r"(https?|oss)://[^/\s].*", re.IGNORECASE)
_MAX_DATA_ID_CHARS = 128


@dataclasses.dataclass(frozen=True)
class Alibaba:
    """Alibaba Green image moderation, synchronous or asynchronous.

    A scene's `score` is the vendor's rate, its confidence in the label that it gives. An image
    that comes as bytes is uploaded to the store that the vendor lends for it. Every scene of every
    image is billed.

    Args:
      scenes: of porn, terrorism, ad, qrcode, live, logo.
      region: as `cn-shanghai`.
      version: of the API; since 2018-05-09 is out, the vendor refuses 2017-01-12.
      asynchronous: whether images are taken at once and judged later, within two minutes.
      biz_type: a policy of the account; its scenes take the place of `scenes`, and an image whose
        answer lacks one of `scenes` fails.
      callback: an address to post results to; only with `asynchronous`, and with a `seed`.
      seed: of the callback's checksum: up to 64 letters, digits and underscores.
      crypt_type: of the callback's checksum: SHA256, also where none is named.
      interval: of an animation or a long image judge every n-th frame; None: only the first.
      max_frames: judge at most so many frames; None: the vendor's default, 1 on the newer pages
        and 100 on the older.
      client_info: of who sends the images, by the vendor's names, as `userId`.
      extras: further parameters of every image, for features that the account was given.
      bucket: of the account's own OSS in the same region, which Green was given leave to read: what
        is at `oss://bucket/key` goes as that.
      max_items: images a request: 100 on the newer pages, which need an account that may have as
        many at once, and 50 on the older.
      max_bytes: of one image: 20 MB on the newer pages; 5 MB for synchronous scans on the older.
      formats: of images that are sent with their bytes; the oldest page lacks WEBP.
      first_look_s: how long to wait before a task is asked for; the vendor advises 30 or more.
      look_every_s: and then how often.
      endpoint: instead of the vendor's own, as `http://127.0.0.1:8080`.

    Raises:
      ConfigurationError: an option is none that the vendor takes.
    """

    name: ClassVar[str] = "alibaba"

    scenes: Sequence[str] = ("porn",)
    region: str = "cn-shanghai"
    version: str = "2018-05-09"
    asynchronous: bool = False
    biz_type: str | None = None
    callback: str | None = dataclasses.field(default=None, compare=False)
    seed: str | None = dataclasses.field(default=None, repr=False, compare=False)
    crypt_type: str | None = dataclasses.field(default=None, compare=False)
    interval: int | None = None
    max_frames: int | None = None
    client_info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bucket: str | None = dataclasses.field(default=None, compare=False)
    max_items: int = dataclasses.field(default=100, compare=False)
    max_bytes: int = dataclasses.field(default=20_000_000, compare=False)
    formats: Sequence[str] = dataclasses.field(default=tuple(sorted(_FORMATS)), compare=False)
    first_look_s: float = dataclasses.field(default=30.0, compare=False)
    look_every_s: float = dataclasses.field(default=5.0, compare=False)
    endpoint: str | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        options.check(self.name, self._problems())

    def _problems(self) -> Iterator[str]:
        yield from options.of_scenes(self.scenes, alibaba_answers.LABELS)
        if self.region not in _HOSTS and not self.endpoint:
            yield options.unknown("region", self.region, _HOSTS)
        if self.version not in _VERSIONS:
            yield f"the versions are {', '.join(_VERSIONS)}"
        yield from options.of_addresses(endpoint=self.endpoint, callback=self.callback)
        yield from self._problems_of_callbacks()
        yield from options.of_counts(
            interval=self.interval,
            max_frames=self.max_frames,
            max_items=self.max_items,
            max_bytes=self.max_bytes,
        )
        if self.max_items > 100:
            yield "max_items is at most 100"
        if not {*self.formats} <= _FORMATS:
            yield f"the formats are {', '.join(sorted(_FORMATS))}"
        if min(self.first_look_s, self.look_every_s) < 0:
            yield "first_look_s and look_every_s are not negative"

    def _problems_of_callbacks(self) -> Iterator[str]:
        if self.callback and not self.asynchronous:
            yield "callback needs asynchronous"
        if self.callback and not re.fullmatch(r"\w{1,64}", self.seed or "", re.ASCII):
            yield "callback needs a seed of up to 64 letters, digits and underscores"
        if self.crypt_type not in (None, "SHA256"):
            yield "crypt_type is SHA256; no callback is proved by SM3"

    @property
    def provider(self) -> str:
        """The name and the API's version."""
        return f"{self.name}/{self.version}"

    @property
    def limits(self) -> protocol.Limits:
        """A synchronous scan may take 6 s on the vendor's side; results are kept for an hour.

        A GIF may have 4,194,304 pixels (help.aliyun.com/document_detail/70292.html). No page says
        for how many tasks' results one may ask at once: it is as many as one may submit.
        """
        return protocol.Limits(
            max_items=self.max_items,
            max_bytes=self.max_bytes,
            formats=frozenset(self.formats),
            max_pixels=250_000_000,
            max_side=30_000,
            max_gif_pixels=4_194_304,
            timeout_s=8.0,
            first_look_s=self.first_look_s,
            look_every_s=self.look_every_s,
            results_kept_s=3600.0,
            max_tasks=100,
        )

    def scan(
        self,
        items: Sequence[protocol.Item],
        credentials: protocol.Credentials,
        now: float,
        nonce: str,
    ) -> protocol.Request:
        """The request that has images judged, or taken as tasks.

        A `data_id` of more than 128 characters, with one that cannot be printed, or a second time
        in the request goes out as a hash of itself.

        Raises:
          VendorRefusedInput: an item has no URL that the vendor takes.
        """
        ids = answers.wire_ids(items, _is_data_id, 32)
        callback = {"callback": self.callback, "seed": self.seed, "cryptType": self.crypt_type}
        body = {
            "bizType": self.biz_type,
            "scenes": [*self.scenes],
            "tasks": [self._task(item, id_) for item, id_ in zip(items, ids, strict=True)],
            **(callback if self.callback else {}),
        }
        operation = _ASYNC_SCAN if self.asynchronous else _SCAN
        return self._signed(operation, options.given(body), credentials, now, nonce)

    def _task(self, item: protocol.Item, data_id: str) -> dict[str, Any]:
        task = {
            "dataId": data_id,
            "url": self._url(item),
            "time": None if item.created_at is None else round(item.created_at * 1000),
            "clientInfo": dict(item.client_info) or None,
            "interval": self.interval,
            "maxFrames": self.max_frames,
            "extras": dict(self.extras) or None,
        }
        return options.given(task)

    def object_key(self, uri: str) -> str | None:
        """The key of an image in the account's own bucket; None for any other URI."""
        return answers.key_in("oss", self.bucket, uri)

    def _url(self, item: protocol.Item) -> str:
        """The address that the vendor is given."""
        own = self.bucket and item.object_key and f"oss://{self.bucket}/{item.object_key}"
        url = item.stored or own or item.url or ""
        if len(url) > _MAX_URL_CHARS:
            raise errors.VendorRefusedInput(
                f"alibaba takes URLs of up to {_MAX_URL_CHARS} characters"
            )
        if not _URL.fullmatch(url) or not url.isprintable():
            raise errors.VendorRefusedInput("alibaba takes http, https and oss addresses")
        return url

    def _signed(
        self,
        operation: _Operation,
        content: object,
        credentials: protocol.Credentials,
        now: float,
        nonce: str,
    ) -> protocol.Request:
        parameters = {"RegionId": self.region}
        if self.client_info:
            parameters["ClientInfo"] = json.dumps(dict(self.client_info), ensure_ascii=False)
        body = json.dumps(content).encode()
        headers = {
            "Accept": "application/json",
            "Content-MD5": alibaba_signatures.content_md5(body),
            "Content-Type": "application/json",
            "Date": alibaba_signatures.http_date(now),
            "x-acs-action": operation.action,
            "x-acs-region-id": self.region,
            "x-acs-signature-method": "HMAC-SHA1",
            "x-acs-signature-nonce": nonce,
            "x-acs-signature-version": "1.0",
            "x-acs-version": self.version,
        }
        if credentials.security_token:
            headers["x-acs-security-token"] = credentials.security_token
        headers["Authorization"] = alibaba_signatures.acs(
            "POST", operation.path, parameters, headers, credentials
        )
        base = (self.endpoint or f"https://{_HOSTS[self.region]}").rstrip("/")
        url = f"{base}{operation.path}?{urlencode(parameters)}"
        return protocol.Request("POST", url, headers, body)

    def read_scan(
        self, items: Sequence[protocol.Item], response: protocol.Response
    ) -> Sequence[protocol.Answer]:
        """The answer to each image: its verdicts, its task's id, or why it has none.

        Raises:
          VendorError: the request as a whole failed.
        """
        tasks, request_id = alibaba_answers.read_tasks(response)
        ids = answers.wire_ids(items, _is_data_id, 32)
        found = answers.match(ids, [(answers.text(task, "dataId"), task) for task in tasks])
        return [
            alibaba_answers.answer(self.scenes, task, request_id, self.asynchronous)
            for task in found
        ]

    def query(
        self,
        tasks: Sequence[protocol.Task],
        credentials: protocol.Credentials,
        now: float,
        nonce: str,
    ) -> protocol.Request:
        """The request for the results of tasks."""
        ids = [task.task_id for task in tasks]
        return self._signed(_RESULTS, ids, credentials, now, nonce)

    def read_query(
        self, tasks: Sequence[protocol.Task], response: protocol.Response
    ) -> Sequence[tuple[protocol.Item, protocol.Answer]]:
        """The answers to the tasks' images; none to a task that the answer leaves out.

        Raises:
          VendorError: the request as a whole failed.
        """
        results, request_id = alibaba_answers.read_tasks(response)
        ids = [task.task_id for task in tasks]
        found = answers.match(ids, [(answers.text(result, "taskId"), result) for result in results])
        return [
            (item, alibaba_answers.answer(self.scenes, result, request_id, submitted=False))
            for task, result in zip(tasks, found, strict=True)
            if result is not None
            for item in task.items
        ]

    def read_callback(
        self, task: protocol.Task, content: bytes
    ) -> Sequence[tuple[protocol.Item, protocol.Answer]]:
        """The answer in the `content` of a callback whose checksum is right."""
        result = answers.json_object(content)
        answer = alibaba_answers.answer(self.scenes, result, None, submitted=False)
        return [(item, answer) for item in task.items]

    def feedback(
        self,
        human: protocol.Human,
        credentials: protocol.Credentials,
        now: float,
        nonce: str,
    ) -> protocol.Request:
        """The request that puts an image into the account's library of similar images.

        Raises:
          VendorRefusedInput: the vendor takes pass, and block with a scene of porn, terrorism, ad,
            of an address that it takes.
        """
        scenes = [scene for scene in human.scenes if scene in _FEEDBACK_SCENES]
        if human.suggestion not in ("pass", "block") or (
            human.suggestion == "block" and not scenes
        ):
            raise errors.VendorRefusedInput(
                "alibaba takes pass, or block in porn, terrorism or ad, as feedback"
            )
        content = {
            "taskId": human.task_id,
            "suggestion": human.suggestion,
            "scenes": scenes or None,
            "label": human.label or None,
            "note": human.note or None,
            "url": self._url(protocol.Item("", human.url)),
        }
        return self._signed(_FEEDBACK, options.given(content), credentials, now, nonce)

    def read_feedback(self, response: protocol.Response) -> None:
        """Raises a `VendorError` unless the vendor took the decision."""
        with answers.of_one_decision(alibaba_answers.BAD_REQUEST):
            alibaba_answers.read(response)

    def upload_grant(
        self, credentials: protocol.Credentials, now: float, nonce: str
    ) -> protocol.Request:
        """The request for credentials to upload with."""
        return self._signed(_UPLOAD, {}, credentials, now, nonce)

    def read_upload_grant(self, response: protocol.Response) -> protocol.Grant:
        """The credentials, and the store's endpoint, bucket and folder.

        Raises:
          VendorAnswerMalformed: it lends none, or leads to another store than the vendor's.
        """
        data, _ = alibaba_answers.read(response)
        return alibaba_store.grant(data, any_host=self.endpoint is not None)

    def upload(
        self, item: protocol.Item, grant: protocol.Grant, now: float
    ) -> tuple[protocol.Request, protocol.Item]:
        """The request that stores an image's bytes, and the item with the address it stores at."""
        return alibaba_store.put(item, grant, now)

    def read_upload(self, response: protocol.Response) -> None:
        """Raises a `VendorError` unless the store took the bytes."""
        alibaba_store.check(response)


def _is_data_id(data_id: str) -> bool:
    return 0 < len(data_id) <= _MAX_DATA_ID_CHARS and data_id.isprintable()
