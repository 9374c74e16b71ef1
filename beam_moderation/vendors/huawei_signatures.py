"""The requests of Huawei Cloud, signed by access key and secret key or sent with a token."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode, urlsplit

from beam_moderation.vendors import protocol


def sdk_date(now: float) -> str:
    """A time, in seconds since 1970, as Huawei's header `X-Sdk-Date` gives it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def sdk_hmac(
    method: str,
    path: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    credentials: protocol.Credentials,
) -> str:
    """The `Authorization` of Huawei Cloud, as huaweicloudsdkcore 3.1.219 computes it.

    Args:
      path: percent-encoded or not.
      headers: those to sign, `Host` and `X-Sdk-Date` among them; others may be sent.
    """
    pairs = sorted((name.lower(), value.strip()) for name, value in headers.items())
    signed = ";".join(name for name, _ in pairs)
    canonical = "\n".join(
        [
            method.upper(),
            # It ends with a slash here, though the request goes out without one.
            quote(unquote(path).rstrip("/") + "/", safe="/~"),
            "&".join(sorted(f"{quote(k, '~')}={quote(v, '~')}" for k, v in parameters.items())),
            *(f"{name}:{value}" for name, value in pairs),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    string_to_sign = f"SDK-HMAC-SHA256\n{dict(pairs)['x-sdk-date']}\n{digest}"
    key = credentials.key_secret.encode()
    signature = hmac.new(key, string_to_sign.encode(), "sha256").hexdigest()
    return (
        f"SDK-HMAC-SHA256 Access={credentials.key_id}, SignedHeaders={signed}, "
        f"Signature={signature}"
    )


def signed(
    method: str,
    base: str,
    path: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    credentials: protocol.Credentials,
    now: float,
) -> protocol.Request:
    """A request of JSON to a server, by the token that the credentials have or by their keys.

    Args:
      base: the server's address.
      now: seconds since 1970.
    """
    query = "?" + urlencode(parameters, quote_via=quote) if parameters else ""
    url = base.rstrip("/") + path + query
    sent = {"Content-Type": "application/json", "Host": urlsplit(base).netloc, **headers}
    if credentials.login_token:
        sent["X-Auth-Token"] = credentials.login_token
        return protocol.Request(method, url, sent, body)
    sent["X-Sdk-Date"] = sdk_date(now)
    if credentials.security_token:
        sent["X-Security-Token"] = credentials.security_token
    sent["Authorization"] = sdk_hmac(method, path, parameters, sent, body, credentials)
    return protocol.Request(method, url, sent, body)
