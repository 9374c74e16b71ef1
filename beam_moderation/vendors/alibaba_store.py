"""The object store that Alibaba lends for images that come as bytes.

Help page 50191; the requests are those of aliyun-python-sdk-green 3.4.1 with oss2 2.19.1.
"""

import dataclasses
import hashlib
import ipaddress
import re
import uuid
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import pydantic

from beam_moderation import errors
from beam_moderation.vendors import alibaba_signatures, answers, protocol

_CODES: Mapping[str, answers.Kind] = {
    "InvalidAccessKeyId": errors.VendorRefusedLogin,
    "SecurityTokenExpired": errors.VendorRefusedLogin,
    "InvalidSecurityToken": errors.VendorRefusedLogin,
    "EntityTooLarge": errors.VendorRefusedInput,
}
"""What a code means where the HTTP status says something else, or less."""


class _Lent(answers.Fields):
    """What the vendor lends, and where."""

    accessKeyId: str  # noqa: N815
    accessKeySecret: str  # noqa: N815
    securityToken: str  # noqa: N815
    expiredTime: float  # noqa: N815
    ossEndpoint: str  # noqa: N815
    uploadBucket: str = pydantic.Field(pattern=r"^[a-z0-9-]{3,63}$")  # noqa: N815
    uploadFolder: str  # noqa: N815


def grant(data: object, *, any_host: bool) -> protocol.Grant:
    """What the answer to the call for credentials lends.

    Args:
      any_host: whether the store may be elsewhere than at the vendor's.

    Raises:
      VendorAnswerMalformed: it lends nothing, or a store to which no image should go.
    """
    lent = answers.parse(_Lent, data)
    endpoint = urlsplit(lent.ossEndpoint)
    if not any_host and not re.fullmatch(r"[a-z0-9.-]+\.aliyuncs\.com", endpoint.netloc):
        raise errors.VendorAnswerMalformed("alibaba lends a store that is not its own")
    return protocol.Grant(
        protocol.Credentials(lent.accessKeyId, lent.accessKeySecret, lent.securityToken),
        lent.expiredTime / 1000,
        {"endpoint": lent.ossEndpoint, "bucket": lent.uploadBucket, "folder": lent.uploadFolder},
    )


def put(
    item: protocol.Item, grant: protocol.Grant, now: float
) -> tuple[protocol.Request, protocol.Item]:
    """The request that stores an item's bytes, and the item with the `oss://` address it stores at.

    The name is a hash of the bytes, so that a repeated upload overwrites itself; it ends in `.jpg`
    whatever they are, as the SDK's does.
    """
    assert item.content is not None
    bucket, credentials = grant.place["bucket"], grant.credentials
    digest = hashlib.blake2b(item.content, digest_size=16).digest()
    key = f"{grant.place['folder']}/images/{uuid.UUID(bytes=digest)}.jpg"
    headers = {"Content-Type": "image/jpeg", "Date": alibaba_signatures.http_date(now)}
    if credentials.security_token:
        headers["x-oss-security-token"] = credentials.security_token
    headers["Authorization"] = alibaba_signatures.oss("PUT", bucket, key, headers, credentials)
    url = f"{_address(grant.place['endpoint'], bucket)}/{quote(key, safe='')}"
    stored = dataclasses.replace(item, stored=f"oss://{bucket}/{key}")
    return protocol.Request("PUT", url, headers, item.content), stored


def check(response: protocol.Response) -> None:
    """Raises a `VendorError` unless the store took an object."""
    if response.status == 200:
        return
    match = re.search(rb"<Code>(\w{1,64})</Code>", response.body[:4096])
    code = match[1].decode() if match else ""
    kind = _CODES.get(code) or answers.kind_of_status(response.status)
    raise answers.failure(kind, f"alibaba's store: HTTP {response.status}", code, response.headers)


def _address(endpoint: str, bucket: str) -> str:
    """Where a bucket is: at a host of its own, or in a path where the store has but a number."""
    parts = urlsplit(endpoint)
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return f"https://{bucket}.{parts.netloc}"
    return f"{parts.scheme}://{parts.netloc}/{bucket}"
