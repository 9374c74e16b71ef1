"""Who may call Tencent's CI: the signature of COS, and the errors in XML.

Written from the pages 436/7778 (signature) and 436/7730 (errors).
"""

import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping

from beam_moderation.emulator.exchange import (
    XML,
    Call,
    Refused,
    Reply,
    is_same,
    new_request_id,
    xml_text,
)
from beam_moderation.emulator.settings import Settings

_MESSAGES = {
    "AccessDenied": (403, "Access Denied."),
    "InvalidAccessKeyId": (403, "The access key Id you provided does not exist in our records."),
    "RequestTimeTooSkewed": (403, "The difference between the request time and now is too large."),
    "SignatureDoesNotMatch": (403, "The Signature you specified is invalid."),
    "InvalidArgument": (400, "The request has an invalid argument."),
    "MalformedXML": (400, "The XML you provided was not well-formed."),
    "MissingContent": (400, "The request body is empty."),
    "ResourceNotFound": (404, "The job does not exist."),
    "SlowDown": (503, "Reduce your request rate."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
}
_OF_THE_STORE = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
"""Errors of COS, which name the resource; those of CI do not."""


class Access:
    """Checks every call of an account."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def authenticate(self, call: Call) -> None:
        """Raises `Refused` unless the call is signed, and the signature valid now."""
        fields = _authorization(call)
        secret = self._secret(fields["q-ak"], call.headers)
        self._check_times(call, fields)
        key = _hmac_hex(secret, fields["q-key-time"])
        expected = _hmac_hex(key, string_to_sign(call, fields))
        if not is_same(expected, fields["q-signature"]):
            raise Refused(error("SignatureDoesNotMatch", call=call))

    def _secret(self, key_id: str, headers: Mapping[str, str]) -> str:
        if key_id in self._settings.keys:
            return self._settings.keys[key_id]
        if key_id not in self._settings.temporary_keys:
            raise Refused(error("InvalidAccessKeyId"))
        secret, token = self._settings.temporary_keys[key_id]
        if headers.get("x-ci-security-token") != token:
            raise Refused(error("AccessDenied", "The security token is invalid."))
        return secret

    def _check_times(self, call: Call, fields: Mapping[str, str]) -> None:
        now = self._settings.clock()
        for name in ("q-sign-time", "q-key-time"):
            try:
                start, end = map(int, fields[name].split(";"))
            except ValueError as cause:
                raise Refused(error("AccessDenied", f"{name} is malformed", call)) from cause
            if now < start:
                raise Refused(error("RequestTimeTooSkewed", call=call))
            if now > end:
                raise Refused(error("AccessDenied", "Request has expired", call))


def string_to_sign(call: Call, fields: Mapping[str, str]) -> str:
    """What a COS signature is over, of the headers and parameters that the fields list."""
    query = {name.lower(): value for name, value in call.query}
    parameters = _listed(fields["q-url-param-list"], query, call)
    headers = _listed(fields["q-header-list"], call.headers, call)
    http_string = f"{call.method.lower()}\n{call.path}\n{parameters}\n{headers}\n"
    digest = hashlib.sha1(http_string.encode(), usedforsecurity=False).hexdigest()
    return f"sha1\n{fields['q-sign-time']}\n{digest}\n"


def _authorization(call: Call) -> dict[str, str]:
    fields = dict(
        part.partition("=")[::2] for part in call.headers.get("authorization", "").split("&")
    )
    names = {"q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list"}
    complete = names | {"q-sign-algorithm", "q-signature"} <= fields.keys()
    if not complete or fields["q-sign-algorithm"] != "sha1":
        raise Refused(error("AccessDenied", call=call))
    return fields


def _listed(names: str, values: Mapping[str, str], call: Call) -> str:
    """`name=value` of the listed names, which come sorted and encoded."""
    listed = names.split(";") if names else []
    if listed != sorted(listed) or not {urllib.parse.unquote(n) for n in listed} <= values.keys():
        raise Refused(error("SignatureDoesNotMatch", call=call))
    return "&".join(
        f"{name}={urllib.parse.quote(values[urllib.parse.unquote(name)], safe='')}"
        for name in listed
    )


def _hmac_hex(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha1).hexdigest()


def error(code: str, message: str = "", call: Call | None = None, status: int = 0) -> Reply:
    """An error of CI, or of COS before it."""
    default_status, default_message = _MESSAGES[code]
    fields = {"Code": code, "Message": message or default_message}
    if code in _OF_THE_STORE:
        fields["Resource"] = call.path if call else "/image/auditing"
    fields |= {"RequestId": new_request_id(), "TraceId": new_request_id()}
    body = f'<?xml version="1.0" encoding="utf-8"?>\n{xml_text("Error", fields)}'.encode()
    return Reply(status or default_status, XML, lambda _: body, error_code=code)
