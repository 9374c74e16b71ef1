"""The signatures of Alibaba: of its API gateway and of its object store."""

import base64
import email.utils
import hashlib
import hmac
from collections.abc import Mapping

from beam_moderation.vendors import protocol


def http_date(now: float) -> str:
    """A time, in seconds since 1970, as the header `Date` has it, in English everywhere."""
    return email.utils.formatdate(now, usegmt=True)


def content_md5(body: bytes) -> str:
    """The header `Content-MD5` of a body."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def acs(
    method: str,
    path: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    credentials: protocol.Credentials,
) -> str:
    """The `Authorization` of a request to an API of the ROA style, signature version 1.0.

    As help page 53413 and aliyun-python-sdk-core 2.16.1 have it. Other headers may be sent.

    Args:
      parameters: of the query, not percent-encoded.
      headers: Accept, Content-MD5, Content-Type, Date and all that begin with `x-acs-`.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    first = [fields.get(name, "") for name in ("accept", "content-md5", "content-type", "date")]
    query = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))
    resource = f"{path}?{query}" if query else path
    string_to_sign = "\n".join([method, *first, *_canonical(fields, "x-acs-"), resource])
    return f"acs {credentials.key_id}:{_hmac_sha1(credentials.key_secret, string_to_sign)}"


def oss(
    method: str,
    bucket: str,
    key: str,
    headers: Mapping[str, str],
    credentials: protocol.Credentials,
) -> str:
    """The `Authorization` of a request to the object store, signature version 1, as oss2 2.19.1.

    Args:
      key: of the object, not percent-encoded.
      headers: Content-MD5, Content-Type, Date and all that begin with `x-oss-`.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    first = [fields.get(name, "") for name in ("content-md5", "content-type", "date")]
    resource = f"/{bucket}/{key}"
    string_to_sign = "\n".join([method, *first, *_canonical(fields, "x-oss-"), resource])
    return f"OSS {credentials.key_id}:{_hmac_sha1(credentials.key_secret, string_to_sign)}"


def _canonical(fields: Mapping[str, str], prefix: str) -> list[str]:
    """The vendor's own headers, sorted, one a line."""
    return [f"{name}:{fields[name]}" for name in sorted(fields) if name.startswith(prefix)]


def _hmac_sha1(secret: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()
