"""The bucket that Alibaba lends for uploads: its credentials, its signature, what was put into it.

Written from the pages on OSS's signature of version 1 and its error responses.
"""

import base64
import dataclasses
import email.utils
import hashlib
import hmac
import re
import secrets

from beam_moderation.emulator.exchange import (
    XML,
    Call,
    Item,
    Refused,
    Reply,
    is_same,
    xml_text,
)
from beam_moderation.emulator.formats import image_format
from beam_moderation.emulator.settings import Settings
from beam_moderation.emulator.verdicts import Seen, see

NAME = "oss-shanghai-green-upload"
_FOLDER = "upload/1234567890"
_MAX_BYTES = 20 * 1024 * 1024
_FORMATS = frozenset({"PNG", "JPEG", "BMP", "GIF", "WEBP"})
_MESSAGES = {
    "AccessDenied": "You have no right to access this object.",
    "InvalidAccessKeyId": "The OSS Access Key Id you provided does not exist in our records.",
    "InvalidDigest": "The Content-MD5 you specified was invalid.",
    "RequestTimeTooSkewed": (
        "The difference between the request time and the current time is too large."
    ),
    "SecurityTokenExpired": "The security token you provided has expired.",
    "SignatureDoesNotMatch": (
        "The request signature we calculated does not match the signature you provided."
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of an uploaded image."""

    size_bytes: int
    format: str
    seen: Seen


@dataclasses.dataclass(frozen=True, slots=True)
class _Loan:
    secret: str = dataclasses.field(repr=False)
    token: str = dataclasses.field(repr=False)
    expires_at: float


class Bucket:
    """A bucket that takes objects with lent credentials only, below the folder lent."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loans: dict[str, _Loan] = {}
        self._stored: dict[str, Stored] = {}

    def lend(self, host: str) -> Item:
        """New credentials, as `uploadcredentials` hands them out.

        Args:
          host: where the caller reached the emulator; the bucket is at the same place.
        """
        key_id = f"STS.{secrets.token_hex(8)}"
        expires_at = self._settings.clock() + self._settings.upload_life_s
        loan = _Loan(secrets.token_hex(16), secrets.token_urlsafe(24), expires_at)
        self._loans[key_id] = loan
        return {
            "accessKeyId": key_id,
            "accessKeySecret": loan.secret,
            "securityToken": loan.token,
            "expiredTime": int(expires_at * 1000),
            "ossEndpoint": f"http://{host}",
            "uploadBucket": NAME,
            "uploadFolder": _FOLDER,
        }

    def find(self, url: str) -> Stored:
        """The object at an `oss://` URL. Raises `KeyError` where there is none."""
        if url.startswith(f"oss://{self._settings.bucket}/"):
            return Stored(0, "JPEG", see(url))
        return self._stored[url]

    def refusal(self, url: str) -> tuple[str, str] | None:
        """Alibaba's code and message where the object cannot be judged."""
        try:
            stored = self.find(url)
        except KeyError:
            return "404", "NOT_FOUND"
        if stored.size_bytes > _MAX_BYTES:
            return "589", "TOO_LARGE"
        return None if stored.format in _FORMATS else ("590", "BAD_FORMAT")

    def authenticate(self, call: Call) -> None:
        """Raises `Refused` unless the call is signed with credentials on loan."""
        header = call.headers.get("authorization", "")
        match = re.fullmatch(r"OSS ([^:]+):(.+)", header)
        if match is None:
            raise Refused(_error("AccessDenied"))
        loan = self._loan(match[1], call.headers.get("x-oss-security-token", ""))
        self._check_date(call.headers.get("date", ""))
        digest = hmac.new(loan.secret.encode(), string_to_sign(call).encode(), hashlib.sha1)
        if not is_same(base64.b64encode(digest.digest()).decode(), match[2]):
            raise Refused(_error("SignatureDoesNotMatch"))

    def put(self, call: Call) -> Reply:
        """Stores the body under the key of the call."""
        key = _key(call)
        if not key.startswith(f"{_FOLDER}/"):
            raise Refused(_error("AccessDenied"))
        digest = hashlib.md5(call.body, usedforsecurity=False).digest()
        sent = call.headers.get("content-md5")
        if sent is not None and sent != base64.b64encode(digest).decode():
            raise Refused(_error("InvalidDigest", 400))
        stored = Stored(len(call.body), image_format(call.body), see(call.body))
        self._stored[f"oss://{NAME}/{key}"] = stored
        headers = {"ETag": f'"{digest.hex().upper()}"', "x-oss-request-id": secrets.token_hex(12)}
        return Reply(200, XML, lambda _: b"", headers=headers)

    def _loan(self, key_id: str, token: str) -> _Loan:
        loan = self._loans.get(key_id)
        if loan is None or not is_same(loan.token, token):
            raise Refused(_error("InvalidAccessKeyId"))
        if self._settings.clock() >= loan.expires_at:
            raise Refused(_error("SecurityTokenExpired"))
        return loan

    def _check_date(self, text: str) -> None:
        try:
            date = email.utils.parsedate_to_datetime(text).timestamp()
        except ValueError as error:
            raise Refused(_error("AccessDenied")) from error
        if abs(date - self._settings.clock()) > self._settings.clock_skew_s:
            raise Refused(_error("RequestTimeTooSkewed"))


def string_to_sign(call: Call) -> str:
    """What an OSS signature of version 1 in a header is over, for a call without a sub-resource."""
    headers = call.headers
    first = [headers.get(name, "") for name in ("content-md5", "content-type", "date")]
    own = sorted((k, v) for k, v in headers.items() if k.startswith("x-oss-"))
    lines = [call.method, *first, *(f"{k}:{v}" for k, v in own), f"/{NAME}/{_key(call)}"]
    return "\n".join(lines)


def _key(call: Call) -> str:
    """The object's key, with the bucket in the host's name or first in the path."""
    path = call.path.removeprefix("/")
    if call.headers.get("host", "").startswith(f"{NAME}."):
        return path
    return path.removeprefix(f"{NAME}/")


def _error(code: str, status: int = 403) -> Reply:
    fields = {"Code": code, "Message": _MESSAGES[code], "RequestId": secrets.token_hex(12).upper()}
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{xml_text("Error", fields)}'.encode()
    return Reply(status, XML, lambda _: body, error_code=code)
