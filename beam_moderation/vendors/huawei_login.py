"""The login of Huawei's IAM: a user's name and password for a token that is good for a while."""

import json
from urllib.parse import urlsplit

import pydantic

from beam_moderation import errors
from beam_moderation.vendors import answers, huawei_answers, protocol


class _Token(answers.Fields):
    expires_at: pydantic.AwareDatetime


def request(base: str, project: str, credentials: protocol.Credentials) -> protocol.Request:
    """The request for a token of a project, which is named as its region is."""
    user = {
        "domain": {"name": credentials.domain},
        "name": credentials.key_id,
        "password": credentials.key_secret,
    }
    identity = {"methods": ["password"], "password": {"user": user}}
    auth = {"identity": identity, "scope": {"project": {"name": project}}}
    headers = {"Content-Type": "application/json", "Host": urlsplit(base).netloc}
    body = json.dumps({"auth": auth}).encode()
    return protocol.Request("POST", base.rstrip("/") + "/v3/auth/tokens", headers, body)


def read_token(response: protocol.Response) -> tuple[str, float]:
    """The token that a login was answered with, and when it ends, in seconds since 1970.

    Raises:
      VendorError: there is none.
    """
    token = answers.parse(_Token, huawei_answers.read(response).get("token"))
    value = response.headers.get("x-subject-token")
    if not value:
        raise errors.VendorAnswerMalformed("huawei: a login without a token")
    return value, token.expires_at.timestamp()
