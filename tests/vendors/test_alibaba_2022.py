"""The recordings of Alibaba's API of 2022-03-02, which no vendor of the package speaks.

It takes one image a call, so that a vendor of its own would be made for it. Until then its
recordings are held against its documented signature, ACS3-HMAC-SHA256, and its form, by the steps
below: a signer that is made from them one day begins with an oracle that is known to be right.
"""

import hashlib
import hmac
import json
from urllib.parse import parse_qsl, quote

import pytest
import recordings

from beam_moderation import errors, vendors

RECORDINGS = recordings.of("alibaba2022")


def parametrized():
    return pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS.keys())


def acs3(request, key_id, key_secret, names):
    """The `Authorization` of a request over the headers of these names."""
    headers = {name.lower(): value for name, value in request["headers"].items()}
    query = "&".join(f"{quote(k, '~')}={quote(v, '~')}" for k, v in sorted(request["query_params"]))
    lines = [f"{name}:{headers[name].strip()}\n" for name in names]
    signed = ";".join(names)
    body = hashlib.sha256(request["body"].encode()).hexdigest()
    canonical = "\n".join([request["method"], "/", query, "".join(lines), signed, body])
    text = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(key_secret.encode(), text.encode(), "sha256").hex()
    return f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={signed},Signature={signature}"


@parametrized()
def test_a_recorded_signature_follows_from_its_headers(recording):
    request, keys = recording["request"], recording["credentials"]
    recorded = request["headers"]["Authorization"]
    names = recorded.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert acs3(request, keys["access_key_id"], keys["access_key_secret"], names) == recorded
    assert {"host", "x-acs-action", "x-acs-date", "x-acs-content-sha256"} <= {*names}


@parametrized()
def test_what_was_asked_stands_in_the_form_or_in_the_query(recording):
    inputs, request = recording["inputs"], recording["request"]
    told = {**dict(request["query_params"]), **dict(parse_qsl(request["body"]))}
    if "service_parameters" in inputs:
        assert json.loads(told["ServiceParameters"]) == inputs["service_parameters"]
        assert told["Service"] == inputs["service"]
    elif recording["operation"] == "result":
        assert [*told] == ["ReqId"]
    else:
        assert (recording["operation"], told) == ("upload_token", {})


def test_every_recording_is_used_and_no_vendor_claims_its_api():
    assert len(RECORDINGS) == 7
    assert {recording["api_version"] for recording in RECORDINGS.values()} == {"2022-03-02"}
    with pytest.raises(errors.ConfigurationError):
        vendors.Alibaba(version="2022-03-02")
