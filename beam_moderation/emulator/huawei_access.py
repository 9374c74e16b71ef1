"""Who may call Huawei: signatures by AK and SK, tokens of IAM, and IAM's own two operations.

Written from Huawei's API signing guide (SDK-HMAC-SHA256) and the page on obtaining a user token.
"""

import dataclasses
import datetime
import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from typing import Any

from beam_moderation.emulator.exchange import (
    Call,
    Refused,
    Reply,
    is_same,
    json_reply,
    new_request_id,
)
from beam_moderation.emulator.settings import Settings

_AUTHORIZATION = re.compile(
    r"SDK-HMAC-SHA256 Access=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)
_MAX_SIGNED_BYTES = 12 * 1024 * 1024
_UNAUTHORIZED = "Incorrect IAM authentication information: "


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    expires_at: float
    of_project: bool


class Access:
    """Checks every call of an account, and gives out its tokens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens: dict[str, _Token] = {}

    def anyone(self, call: Call) -> None:
        """Lets every call pass: who asks for a token has a password in the body."""

    def authenticate(self, call: Call) -> None:
        """Raises `Refused` unless the call has a token of a project, or is signed."""
        token = call.headers.get("x-auth-token")
        if token is not None:
            self._check_token(token)
        else:
            self._check_signature(call)
        project_id = re.match(r"/v[23]/([0-9a-f]{32})/", call.path)
        if project_id and project_id[1] != self._settings.project_id:
            raise Refused(error("APIG.0301", f"{_UNAUTHORIZED}project not found", 403))

    def token(self, call: Call) -> Reply:
        """A token for a name and a password: the text is in the header `X-Subject-Token`."""
        user, scope = _read_token_request(call.body)
        secret = self._settings.keys.get(user.get("name", ""))
        if secret is None or user.get("password") != secret:
            raise Refused(_iam_error(401, "The username or password is wrong."))
        now = self._settings.clock()
        text = f"MII{secrets.token_urlsafe(48)}"
        token = _Token(now + self._settings.token_life_s, "project" in scope)
        self._tokens[text] = token
        reply = json_reply({"token": self._describe(token, user, now)}, 201)
        return dataclasses.replace(reply, headers={"X-Subject-Token": text})

    def projects(self, call: Call) -> Reply:
        """The project of a region, as the SDK looks it up."""
        name = call.parameter("name") or "cn-north-4"
        project = {"id": self._settings.project_id, "name": name, "enabled": True}
        return json_reply({"projects": [{**project, "domain_id": "domain0"}], "links": {}})

    def _describe(self, token: _Token, user: dict[str, Any], now: float) -> dict[str, Any]:
        described: dict[str, Any] = {
            "methods": ["password"],
            "issued_at": _iam_time(now),
            "expires_at": _iam_time(token.expires_at),
            "user": {"name": user["name"], "id": "user0", "domain": user.get("domain", {})},
            "roles": [],
            "catalog": [],
        }
        if token.of_project:
            described["project"] = {"id": self._settings.project_id, "name": "cn-north-4"}
        return described

    def _check_token(self, text: str) -> None:
        token = self._tokens.get(text)
        if token is None or self._settings.clock() >= token.expires_at:
            raise Refused(error("APIG.0301", f"{_UNAUTHORIZED}decrypt token fail", 401))
        if not token.of_project:
            raise Refused(error("AIS.0026", "The token must be one of a project."))

    def _check_signature(self, call: Call) -> None:
        match = _AUTHORIZATION.fullmatch(call.headers.get("authorization", ""))
        if match is None:
            raise Refused(error("APIG.0301", f"{_UNAUTHORIZED}no token and no signature", 401))
        key_id, names, signature = match.groups()
        secret = self._secret(key_id, call.headers.get("x-security-token"))
        self._check_date(call.headers.get("x-sdk-date", ""))
        if len(call.body) > _MAX_SIGNED_BYTES:
            raise Refused(error("APIG.0201", "Request entity too large", 413))
        signed = names.split(";")
        if signed != sorted(signed) or not {"host", "x-sdk-date"} <= set(signed):
            raise Refused(error("APIG.0301", f"{_UNAUTHORIZED}verify aksk signature fail", 401))
        expected = hmac.new(secret.encode(), string_to_sign(call, signed).encode(), hashlib.sha256)
        if not is_same(expected.hexdigest(), signature):
            raise Refused(error("APIG.0301", f"{_UNAUTHORIZED}verify aksk signature fail", 401))

    def _secret(self, key_id: str, token: str | None) -> str:
        if token is None and key_id in self._settings.keys:
            return self._settings.keys[key_id]
        secret, known_token = self._settings.temporary_keys.get(key_id, ("", None))
        if known_token is None or token != known_token:
            message = f"{_UNAUTHORIZED}Get secretKey failed,ak:{key_id},err:ak not exist"
            raise Refused(error("APIG.0301", message, 401))
        return secret

    def _check_date(self, text: str) -> None:
        try:
            date = datetime.datetime.strptime(f"{text}+0000", "%Y%m%dT%H%M%SZ%z")
        except ValueError as cause:
            message = f"{_UNAUTHORIZED}x-sdk-date is malformed"
            raise Refused(error("APIG.0301", message, 401)) from cause
        if abs(date.timestamp() - self._settings.clock()) > self._settings.clock_skew_s:
            raise Refused(error("APIG.0301", f"{_UNAUTHORIZED}x-sdk-date is expired", 401))


def string_to_sign(call: Call, signed: list[str]) -> str:
    """What a signature SDK-HMAC-SHA256 is over, of the headers in that order."""
    segments = urllib.parse.unquote(call.path).split("/")
    path = "/".join(urllib.parse.quote(segment, safe="~") for segment in segments)
    query = "&".join(
        f"{urllib.parse.quote(name, safe='~')}={urllib.parse.quote(value, safe='~')}"
        for name, value in sorted(call.query)
    )
    values = (f"{name}:{call.headers.get(name, '').strip()}\n" for name in signed)
    canonical = (
        f"{call.method}\n{path if path.endswith('/') else path + '/'}\n{query}\n"
        f"{''.join(values)}\n{';'.join(signed)}\n{_payload_hash(call)}"
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"SDK-HMAC-SHA256\n{call.headers['x-sdk-date']}\n{digest}"


def _payload_hash(call: Call) -> str:
    """The body's own hash; a body that is not JSON may go unsigned."""
    media_type = call.headers.get("content-type", "application/json")
    word = call.headers.get("x-sdk-content-sha256")
    if word == "UNSIGNED-PAYLOAD" and not media_type.startswith("application/json"):
        return word
    return hashlib.sha256(call.body).hexdigest()


def _read_token_request(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user and the scope of a request for a token."""
    try:
        auth = json.loads(body)["auth"]
        user, methods = auth["identity"]["password"]["user"], auth["identity"]["methods"]
    except (ValueError, KeyError, TypeError) as cause:
        raise Refused(_iam_error(400, "The request body is invalid.")) from cause
    if methods != ["password"] or not user.get("domain", {}).get("name"):
        raise Refused(_iam_error(400, "The request body is invalid."))
    return user, auth.get("scope", {})


def _iam_time(seconds: float) -> str:
    time = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _iam_error(status: int, message: str) -> Reply:
    title = {400: "Bad Request", 401: "Unauthorized"}[status]
    document = {"error": {"code": status, "message": message, "title": title}}
    return json_reply(document, status, error_code=f"IAM.{status}")


def error(code: str, message: str, status: int = 400) -> Reply:
    """An error of the service or of the gateway before it."""
    request_id = new_request_id()
    document = {"error_code": code, "error_msg": message, "request_id": request_id}
    reply = json_reply(document, status, error_code=code)
    return dataclasses.replace(reply, headers={"X-Request-Id": request_id})
