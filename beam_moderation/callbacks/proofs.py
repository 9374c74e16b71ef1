"""Whether a post that claims to be a vendor's delivery is one.

A proof turns the body of a post into a `Delivery`, or refuses it. Anybody can post; what was not
proved is never stored.
"""

import hashlib
import hmac
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol
from urllib.parse import parse_qs

from beam_moderation import errors, quota
from beam_moderation.vendors import answers, client, protocol, tencent, tencent_answers

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""What a job's id may be, as it becomes a part of a signed path."""


_FINAL = ("Success", "Failed")
"""States of a job that do not change (document 436/68904)."""

CONFIRMATION_QUOTA = quota.Quota(20, max_in_flight=8)
"""Of the hundred calls that Tencent lets an account have in flight (document 460/63594) few, for
the job that made the tasks has the same account."""

_UNKNOWN_FOR_S = 60.0
_UNKNOWN_IDS = 10_000


class Delivery(NamedTuple):
    """The result of a task, as `Callbacks.read_callback` of its vendor reads it."""

    task_id: str
    content: bytes


class Refused(Exception):
    """A post that is not taken; `status` is the HTTP status, which has the vendor repeat it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Proof(Protocol):
    """Proves posts; an async context manager."""

    costs_calls: ClassVar[bool]
    """Whether `delivery` asks the vendor; if not, `task_id` has proved the post already."""

    async def __aenter__(self) -> "Proof":
        """Opens what the proof needs."""

    async def __aexit__(self, *exception: object) -> None:
        """Closes it."""

    def task_id(self, body: bytes) -> str:
        """The id of the task that a post tells of, proved only where that costs no call.

        Raises:
          Refused: it tells of none, or is not the vendor's.
        """

    async def delivery(self, body: bytes) -> Delivery:
        """What a post delivers, proved.

        Raises:
          Refused: it is not the vendor's, or that cannot be known now.
        """


def checksum(uid: str, seed: str, content: str) -> str:
    """Alibaba's checksum: SHA-256 over account id, seed and content, in lower-case hexadecimal.

    `content` is the form's value as decoded and before it is parsed
    (help.aliyun.com/document_detail/70436.html).
    """
    return hashlib.sha256(f"{uid}{seed}{content}".encode()).hexdigest()


class Checksum:
    """Proves Alibaba's deliveries by the checksum that only those can make who know the seed.

    It is the checksum by SHA-256, which is what Alibaba makes where a scan names no `cryptType`.

    Args:
      uid: the id of the account, of the main one where a RAM user calls.
      seed: that the scans were given.
    """

    costs_calls: ClassVar[bool] = False

    def __init__(self, uid: str, seed: str) -> None:
        if not uid or not re.fullmatch(r"\w{1,64}", seed, re.ASCII):
            raise errors.ConfigurationError(
                "alibaba: callbacks need the account's uid and a seed of up to 64 letters, digits "
                "and underscores"
            )
        self._uid, self._seed = uid, seed

    async def __aenter__(self) -> "Checksum":
        return self

    async def __aexit__(self, *exception: object) -> None:
        return None

    def task_id(self, body: bytes) -> str:
        """The id of the task, in a content whose checksum is right."""
        return self._delivery(body).task_id

    async def delivery(self, body: bytes) -> Delivery:
        """The content of a form whose checksum is right."""
        return self._delivery(body)

    def _delivery(self, body: bytes) -> Delivery:
        sent, content = _form(body)
        expected = checksum(self._uid, self._seed, content)
        if not hmac.compare_digest(expected.encode(), sent.encode()):
            raise Refused(403, "a wrong checksum")
        try:
            task_id = answers.text(answers.json_object(content.encode()), "taskId")
        except errors.VendorAnswerMalformed:
            task_id = None
        if not task_id:
            raise Refused(400, "a content without a taskId")
        return Delivery(task_id, content.encode())


def _form(body: bytes) -> tuple[str, str]:
    """The checksum and the content of a form."""
    try:
        form = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=8,
        )
        ((sent,), (content,)) = form["checksum"], form["content"]
    except (ValueError, KeyError):
        raise Refused(400, "no form with one checksum and one content") from None
    return sent, content


class Confirmation:
    """Proves Tencent's deliveries, which nobody signs, by asking the vendor for the job.

    What is stored is the vendor's own answer, so a forged post can at most cause a query, and one
    of a job that the vendor has just said it does not know causes none.

    Args:
      credentials: looked up for every query.
      within: the part of the account's quota that queries may use.
    """

    costs_calls: ClassVar[bool] = True

    def __init__(
        self,
        vendor: tencent.Tencent,
        credentials: Callable[[], protocol.Credentials],
        within: quota.Quota = CONFIRMATION_QUOTA,
    ) -> None:
        self._vendor, self._credentials, self._quota = vendor, credentials, within
        self._client = client.Client()
        self._unknown = _Unknown()

    async def __aenter__(self) -> "Confirmation":
        self._pacer = quota.Pacer(self._quota)
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.__aexit__(*exception)

    def task_id(self, body: bytes) -> str:
        """The id of the job that a post names."""
        try:
            job_id = tencent_answers.delivered_job(body)
        except errors.VendorAnswerMalformed:
            job_id = ""
        if not _JOB_ID.fullmatch(job_id):
            raise Refused(400, "no job's id")
        return job_id

    async def delivery(self, body: bytes) -> Delivery:
        """The vendor's answer to a query of the job that a post names."""
        job_id = self.task_id(body)
        if job_id in self._unknown:
            raise Refused(403, "a job that the vendor did not know a moment ago")
        try:
            response = await self._query(job_id)
            jobs, _ = tencent_answers.read(response)
        except errors.VendorRefusedInput:
            self._unknown.add(job_id)
            raise Refused(403, "a job that the vendor does not know") from None
        except errors.VendorError as error:
            raise Refused(503, f"no word from the vendor: {error}") from None
        if not any(job.get("JobId") == job_id and job.get("State") in _FINAL for job in jobs):
            raise Refused(503, "a job that is not finished")
        return Delivery(job_id, response.body)

    async def _query(self, job_id: str) -> protocol.Response:
        async with self._pacer.place(0) as turn:
            signing = self._credentials(), time.time(), uuid.uuid4().hex
            request = self._vendor.query([protocol.Task(job_id, [])], *signing)
            return await self._client.send(request, self._vendor.limits.timeout_s, turn)


class _Unknown:
    """The jobs that the vendor did not know a moment ago, of which there are not too many."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, job_id: str) -> bool:
        return self._until.get(job_id, 0.0) > time.monotonic()

    def add(self, job_id: str) -> None:
        self._until[job_id] = time.monotonic() + _UNKNOWN_FOR_S
        if len(self._until) > _UNKNOWN_IDS:
            self._until.popitem(last=False)
