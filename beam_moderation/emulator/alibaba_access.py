"""Who may call Alibaba: the gateway's checks of signature, date, digest, nonce and version.

Written from page 53413 of Alibaba's help; a gateway's error has names in capitals.
"""

import base64
import binascii
import email.utils
import hashlib
import hmac

from beam_moderation.emulator.exchange import (
    Call,
    Refused,
    Reply,
    is_same,
    json_reply,
    new_request_id,
)
from beam_moderation.emulator.settings import Settings

_ACTIONS = {
    "/green/image/scan": "ImageSyncScan",
    "/green/image/asyncscan": "ImageAsyncScan",
    "/green/image/results": "ImageAsyncScanResults",
    "/green/image/feedback": "ImageScanFeedback",
    "/green/credentials/uploadcredentials": "UploadCredentials",
}
_MESSAGES = {
    "InvalidAccessKeyId.NotFound": (404, "Specified access key is not found."),
    "InvalidAction.NotFound": (
        400,
        "Specified api is not found, please check your url and method.",
    ),
    "InvalidTimeStamp.Format": (400, "Specified time stamp or date value is not well formatted."),
    "InvalidTimeStamp.Expired": (400, "Specified time stamp or date value is expired."),
    "InvalidSecurityToken.Malformed": (400, "Specified SecurityToken is malformed."),
    "IncompleteSignature": (400, "The request signature does not conform to Aliyun standards."),
    "ContentMD5NotMatched": (400, "The Content-MD5 does not match the body."),
    "SignatureNonceUsed": (400, "Specified signature nonce was used already."),
    "Throttling.User": (400, "Request was denied due to user flow control."),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server."),
}

_NOT_MATCHED = "Specified signature is not matched with our calculation. server string to sign is:"


class Access:
    """Checks every call of an account."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nonces: dict[str, float] = {}

    def authenticate(self, call: Call) -> None:
        """Raises `Refused` unless the call is signed, fresh and of an API that there is."""
        headers = call.headers
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        key_id, _, signature = credential.partition(":")
        if scheme != "acs":
            raise Refused(gateway_error("IncompleteSignature"))
        self._check_date(headers.get("date", ""))
        secret = self._secret(key_id, headers.get("x-acs-security-token"))
        _check_digest(call)
        expected = string_to_sign(call)
        digest = hmac.new(secret.encode(), expected.encode(), hashlib.sha1).digest()
        if not is_same(base64.b64encode(digest).decode(), signature):
            raise Refused(gateway_error("SignatureDoesNotMatch", f"{_NOT_MATCHED}{expected}"))
        self._check_nonce(headers.get("x-acs-signature-nonce"))
        self._check_api(call)

    def _check_date(self, text: str) -> None:
        try:
            date = email.utils.parsedate_to_datetime(text).timestamp()
        except ValueError as cause:
            raise Refused(gateway_error("InvalidTimeStamp.Format")) from cause
        if abs(date - self._settings.clock()) > self._settings.clock_skew_s:
            raise Refused(gateway_error("InvalidTimeStamp.Expired"))

    def _secret(self, key_id: str, token: str | None) -> str:
        if token is None and key_id in self._settings.keys:
            return self._settings.keys[key_id]
        if key_id not in self._settings.temporary_keys:
            raise Refused(gateway_error("InvalidAccessKeyId.NotFound"))
        secret, known_token = self._settings.temporary_keys[key_id]
        if token != known_token:
            raise Refused(gateway_error("InvalidSecurityToken.Malformed"))
        return secret

    def _check_nonce(self, nonce: str | None) -> None:
        """The SDK sends none; one that is sent must be new."""
        now = self._settings.clock()
        if nonce is None:
            return
        if now - self._nonces.get(nonce, float("-inf")) <= 2 * self._settings.clock_skew_s:
            raise Refused(gateway_error("SignatureNonceUsed"))
        self._nonces[nonce] = now

    def _check_api(self, call: Call) -> None:
        """The version must still be answered, and the action be that of the path."""
        action = call.headers.get("x-acs-action", _ACTIONS[call.path])
        known = call.headers.get("x-acs-version") in self._settings.versions
        if not known or action != _ACTIONS[call.path]:
            raise Refused(gateway_error("InvalidAction.NotFound"))


def string_to_sign(call: Call) -> str:
    """What an Alibaba signature of version 1.0 is over (page 53413)."""
    headers = call.headers
    first = [headers.get(name, "") for name in ("accept", "content-md5", "content-type", "date")]
    own = sorted((k, v) for k, v in headers.items() if k.startswith("x-acs-"))
    query = "&".join(f"{name}={value}" for name, value in sorted(call.query))
    resource = f"{call.path}?{query}" if query else call.path
    return "\n".join([call.method, *first, *(f"{k}:{v}" for k, v in own), resource])


def _check_digest(call: Call) -> None:
    sent = call.headers.get("content-md5")
    names = ("x-acs-signature-method", "x-acs-signature-version")
    if [call.headers.get(name) for name in names] != ["HMAC-SHA1", "1.0"] or sent is None:
        raise Refused(gateway_error("IncompleteSignature"))
    try:
        digest = base64.b64decode(sent, validate=True)
    except binascii.Error:
        digest = b""
    if digest != hashlib.md5(call.body, usedforsecurity=False).digest():
        raise Refused(gateway_error("ContentMD5NotMatched"))


def gateway_error(code: str, message: str = "", status: int = 0) -> Reply:
    """An error of the gateway before the service: HTTP 4xx or 5xx, names in capitals."""
    default_status, default_message = _MESSAGES.get(code, (400, ""))
    document = {
        "RequestId": new_request_id(),
        "HostId": "green.cn-shanghai.aliyuncs.com",
        "Code": code,
        "Message": message or default_message,
    }
    return json_reply(document, status or default_status, error_code=code)
