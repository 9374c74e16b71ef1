"""The signature of Tencent COS and CI."""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

from beam_moderation.vendors import protocol


def cos(
    method: str,
    path: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    credentials: protocol.Credentials,
    window: tuple[int, int],
) -> str:
    """The `Authorization` of Tencent COS and CI, as cos-python-sdk-v5 1.9.44 computes it.

    Args:
      path: not percent-encoded.
      headers: those to sign; others may be sent.
      window: when the signature is valid, from and to, in seconds since 1970.
    """
    lifetime = f"{window[0]};{window[1]}"
    sign_key = _hex_hmac(credentials.key_secret, lifetime)
    parameter_names, parameter_pairs = _cos_pairs(parameters)
    header_names, header_pairs = _cos_pairs(headers)
    http_string = f"{method.lower()}\n{path}\n{parameter_pairs}\n{header_pairs}\n"
    digest = hashlib.sha1(http_string.encode(), usedforsecurity=False).hexdigest()
    signature = _hex_hmac(sign_key, f"sha1\n{lifetime}\n{digest}\n")
    return (
        f"q-sign-algorithm=sha1&q-ak={credentials.key_id}&q-sign-time={lifetime}"
        f"&q-key-time={lifetime}&q-header-list={header_names}"
        f"&q-url-param-list={parameter_names}&q-signature={signature}"
    )


def _cos_pairs(fields: Mapping[str, str]) -> tuple[str, str]:
    """The sorted names of some fields, and the fields as the signature has them."""
    pairs = sorted((quote(name.lower(), ""), quote(value, "")) for name, value in fields.items())
    return ";".join(name for name, _ in pairs), "&".join(f"{name}={value}" for name, value in pairs)


def _hex_hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), "sha1").hexdigest()
