"""Tencent Cloud COS CI: batch image auditing, its jobs and its feedback, XML both ways.

The facts are those of the vendor's pages on batch auditing (product 1045, document 49321), on the
query of a job (436/48539) and on errors (436/53983), and of cos-python-sdk-v5 1.9.44.
"""

import base64
import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from beam_moderation import errors
from beam_moderation.vendors import answers, options, protocol, tencent_answers, tencent_signatures

_USER_INFO = (
    *("TokenId", "Nickname", "DeviceId", "AppId", "Room", "IP", "Type", "ReceiveTokenId"),
    *("Gender", "Level", "Role"),
)

_NO_XML_TEXT = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 section 2.2 cannot hold, and the carriage return, which parsers replace."""


@dataclasses.dataclass(frozen=True)
class Freeze:
    """Scores in [0, 100] from which on the vendor makes an object in the bucket unreadable."""

    porn_score: int | None = None
    ads_score: int | None = None

    def __post_init__(self) -> None:
        for score in (self.porn_score, self.ads_score):
            if score is not None and not 0 <= score <= 100:
                raise errors.ConfigurationError(f"freeze: need a score from 0 to 100: {score}")


@dataclasses.dataclass(frozen=True)
class Tencent:
    """Tencent COS CI image auditing, synchronous or asynchronous.

    Which scenes are judged is what the policy of `biz_type` says; `scenes` are those whose verdict
    is wanted. An image whose answer lacks one of them fails.

    A scene's `score` is the vendor's Score of the scene; for the label `Normal` it is the rest to
    100. `findings` have, beside the label, the vendor's word for the scene with its Score.

    Args:
      bucket: with the account's APPID, as `examplebucket-1250000000`; it must be bound to CI.
      region: as `ap-guangzhou`.
      scenes: of porn, ad, terrorism, politics, quality.
      biz_type: a policy's id; None: the account's default policy.
      detect_type: whether to name the scenes in the request, the older way without a policy.
      asynchronous: whether images are taken at once and judged later.
      callback: an address to post results to, not shown by `repr`, for all that keeps it from
        strangers is that they cannot guess it; only with `asynchronous`.
      interval: of an animation judge every n-th frame; None: the vendor's 5.
      max_frames: of an animation judge so many frames; None: the vendor's 5.
      large_image_detect: have images over 5 MB (up to 32 MB) shrunk, at a price.
      user_info: of whom the images are, by the vendor's names, each at most 128 bytes.
      freeze: makes objects unreadable that score high; None: never.
      sign_host: whether the signature covers the host; not so behind a proxy that changes it.
      signature_lifetime_s: how long a signed request may be used, in seconds.
      endpoint: instead of the vendor's own, as `http://127.0.0.1:8080`.

    Raises:
      ConfigurationError: an option is none that the vendor takes.
    """

    name: ClassVar[str] = "tencent"
    provider: ClassVar[str] = "tencent/cos-ci"

    bucket: str
    region: str
    scenes: Sequence[str] = ("porn", "ad")
    biz_type: str | None = None
    detect_type: bool = False
    asynchronous: bool = False
    callback: str | None = dataclasses.field(default=None, repr=False, compare=False)
    interval: int | None = None
    max_frames: int | None = None
    large_image_detect: bool = False
    user_info: Mapping[str, str] = dataclasses.field(default_factory=dict)
    freeze: Freeze | None = dataclasses.field(default=None, compare=False)
    sign_host: bool = dataclasses.field(default=True, compare=False)
    signature_lifetime_s: int = dataclasses.field(default=600, compare=False)
    endpoint: str | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        options.check(self.name, self._problems())

    def _problems(self) -> Iterator[str]:
        yield from options.of_scenes(self.scenes, tencent_answers.SCENES)
        if self.detect_type and "quality" in self.scenes:
            yield "quality needs biz_type"
        if self.callback and not self.asynchronous:
            yield "callback needs asynchronous"
        yield from options.of_addresses(endpoint=self.endpoint, callback=self.callback)
        yield from options.of_counts(interval=self.interval, max_frames=self.max_frames)
        for name, value in self.user_info.items():
            if name not in _USER_INFO:
                yield f"user_info has {', '.join(_USER_INFO)}"
            if not isinstance(value, str) or len(value.encode()) > 128:
                yield f"user_info takes 128 bytes of text a value: {name}"

    @property
    def limits(self) -> protocol.Limits:
        """100 images a request, each of less than 32 MB, or up to 5 MB where none is shrunk.

        The vendor states no size of a request: it is bounded so that the largest image fits. It
        states no time to look for a result either.
        """
        max_bytes = 31_999_999 if self.large_image_detect else 5_000_000
        return protocol.Limits(
            max_items=100,
            max_bytes=max_bytes,
            formats=frozenset({"PNG", "JPEG", "BMP", "GIF", "WEBP"}),
            max_inline_bytes=max_bytes,
            max_request_bytes=max_bytes * 4 // 3 + 65_536,
            timeout_s=30.0,
            first_look_s=5.0,
            look_every_s=5.0,
            results_kept_s=30 * 86_400.0,
        )

    def scan(
        self,
        items: Sequence[protocol.Item],
        credentials: protocol.Credentials,
        now: float,
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request:
        """The request that has images audited.

        Of an item's content, object key and URL the first that is there is sent. A `data_id` of
        more than 512 bytes, with characters that XML does not keep, or a second time in the
        request goes out as a hash of itself.

        Raises:
          VendorRefusedInput: an item has nothing that can be sent.
        """
        ids = answers.wire_ids(items, _is_data_id, 32)
        inputs = [self._input(item, id_) for item, id_ in zip(items, ids, strict=True)]
        body = request_xml([*(("Input", input_) for input_ in inputs), ("Conf", self._conf())])
        return self._signed("POST", "/image/auditing", body, credentials, now)

    def object_key(self, uri: str) -> str | None:
        """The key of an image at `cos://bucket/key` in the bucket; None for any other URI."""
        return answers.key_in("cos", self.bucket, uri)

    def _input(self, item: protocol.Item, data_id: str) -> dict[str, Any]:
        return options.given(
            {
                "DataId": data_id,
                **_image(item),
                "Interval": self.interval,
                "MaxFrames": self.max_frames,
                "LargeImageDetect": 1 if self.large_image_detect else None,
                "UserInfo": self.user_info,
            }
        )

    def _conf(self) -> dict[str, Any]:
        words = [tencent_answers.SCENES[scene][1] for scene in self.scenes]
        freeze = self.freeze or Freeze()
        scores = {"PornScore": freeze.porn_score, "AdsScore": freeze.ads_score}
        return options.given(
            {
                "BizType": self.biz_type,
                "DetectType": ",".join(words) if self.detect_type else None,
                "Async": int(self.asynchronous),
                "Callback": self.callback,
                "Freeze": options.given(scores),
            }
        )

    def _signed(
        self, method: str, path: str, body: bytes, credentials: protocol.Credentials, now: float
    ) -> protocol.Request:
        base = self.endpoint or f"https://{self.bucket}.ci.{self.region}.myqcloud.com"
        headers = {"Host": urlsplit(base).netloc}
        if body:
            headers |= {"Content-Type": "application/xml", "Content-Length": str(len(body))}
        if credentials.security_token:
            headers["x-ci-security-token"] = credentials.security_token
        signed = {k: v for k, v in headers.items() if k != "Host" or self.sign_host}
        # A minute early, as the SDK does, for the vendor's clock may be behind ours.
        window = int(now) - 60, int(now) + self.signature_lifetime_s
        headers["Authorization"] = tencent_signatures.cos(
            method, path, {}, signed, credentials, window
        )
        return protocol.Request(method, base.rstrip("/") + quote(path), headers, body)

    def read_scan(
        self, items: Sequence[protocol.Item], response: protocol.Response
    ) -> Sequence[protocol.Answer]:
        """The answer to each image: its verdicts, its job's id, or why it has none.

        Raises:
          VendorError: the request as a whole failed.
        """
        jobs, request_id = tencent_answers.read(response)
        ids = answers.wire_ids(items, _is_data_id, 32)
        found = answers.match(ids, [(answers.text(job, "DataId"), job) for job in jobs])
        return [tencent_answers.answer(self.scenes, job, request_id) for job in found]

    def query(
        self,
        tasks: Sequence[protocol.Task],
        credentials: protocol.Credentials,
        now: float,
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request:
        """The request for the result of a job."""
        (task,) = tasks
        return self._signed("GET", f"/image/auditing/{task.task_id}", b"", credentials, now)

    def read_query(
        self, tasks: Sequence[protocol.Task], response: protocol.Response
    ) -> Sequence[tuple[protocol.Item, protocol.Answer]]:
        """The answers to the job's images.

        Raises:
          VendorTaskGone: the vendor knows no such job, or not any more (it keeps them a month).
          VendorError: the request as a whole failed.
        """
        try:
            jobs, request_id = tencent_answers.read(response)
        except errors.VendorRefusedInput as error:
            raise errors.VendorTaskGone(str(error), vendor_code=error.vendor_code) from None
        ids = [task.task_id for task in tasks]
        found = answers.match(ids, [(answers.text(job, "JobId"), job) for job in jobs])
        return [
            (item, tencent_answers.answer(self.scenes, job, request_id, task.task_id))
            for task, job in zip(tasks, found, strict=True)
            for item in task.items
        ]

    def read_callback(
        self, task: protocol.Task, content: bytes
    ) -> Sequence[tuple[protocol.Item, protocol.Answer]]:
        """The answers to a job's images in what proved that a delivery came from the vendor.

        That is the answer to a query of the job that the delivery names: Tencent signs none.
        """
        return self.read_query([task], protocol.Response(200, {}, content))

    def feedback(
        self,
        human: protocol.Human,
        credentials: protocol.Credentials,
        now: float,
        nonce: str,  # noqa: ARG002
    ) -> protocol.Request:
        """The request that reports a verdict as wrong: `vendor_label` ought to be `label`.

        Without a label an image that passes is `Normal`, and one that does not is what the first
        of its scenes is called.

        Raises:
          VendorRefusedInput: one of the labels is not known, or the image has no web address.
        """
        _, word = tencent_answers.SCENES.get("".join(human.scenes[:1]), ("", ""))
        label = human.label or ("Normal" if human.suggestion == "pass" else word)
        if not (human.vendor_label and label and answers.is_web_address(human.url)):
            raise errors.VendorRefusedInput(
                "tencent: feedback needs a web address, the vendor's label and the right one"
            )
        report = {
            "ContentType": 2,
            "Label": human.vendor_label,
            "SuggestedLabel": label,
            "Url": human.url,
            "JobId": human.task_id,
            "ModerationTime": human.moderated_at and human.moderated_at.isoformat("T", "seconds"),
        }
        body = request_xml([*options.given(report).items()])
        return self._signed("POST", "/report/badcase", body, credentials, now)

    def read_feedback(self, response: protocol.Response) -> None:
        """Raises a `VendorError` unless the vendor took the report."""
        with answers.of_one_decision(tencent_answers.BAD_REQUEST):
            tencent_answers.read(response)


def _is_data_id(data_id: str) -> bool:
    """Whether the vendor gives a DataId back as it was sent: at most 512 bytes of plain text."""
    plain = data_id.isprintable() and data_id == data_id.strip()
    return plain and 0 < len(data_id.encode()) <= 512


def _image(item: protocol.Item) -> dict[str, str]:
    if item.content is not None:
        return {"Content": base64.b64encode(item.content).decode()}
    name, place = ("Object", item.object_key) if item.object_key else ("Url", item.url)
    if not place:
        raise errors.VendorRefusedInput("tencent: the image has neither bytes nor a place")
    return {name: place}


def request_xml(fields: Sequence[tuple[str, Any]]) -> bytes:
    """The body of a request: elements in their order, of text or of the fields of a mapping.

    Raises:
      VendorRefusedInput: a text has a character that XML cannot hold; the vendor would refuse the
        request, and all that is in it.
    """
    root = _element("Request", fields)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}'.encode()


def _element(name: str, content: Any) -> ET.Element:
    element = ET.Element(name)
    if isinstance(content, Mapping):
        content = [*content.items()]
    if isinstance(content, list):
        element.extend([_element(*field) for field in content])
    elif _NO_XML_TEXT.search(text := str(content)):
        raise errors.VendorRefusedInput(f"tencent: {name} has a character that XML cannot hold")
    else:
        element.text = text
    return element
