"""Whom the emulated vendors let in."""

import base64
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import emulator_calls as calls
import pytest
from emulator_calls import BLOCKED, Emulate, Urls

from beam_moderation import emulator

pytest_plugins = ["beam_moderation.emulator.pytest_plugin", "emulator_accounts"]


VECTORS = pathlib.Path(__file__).parent / "vectors"


def recorded_requests(*unsigned: str) -> Iterator[Any]:
    """Every recorded request of an official SDK to an operation that the emulator has."""
    for path in sorted(VECTORS.glob("*.json")):
        vector = json.loads(path.read_text(encoding="utf-8"))
        known = vector["vendor"] in emulator.VENDORS and "frozen" in vector
        recorded = vector["origin"].startswith("recorded") and "request" in vector
        if known and recorded and vector["operation"] not in {"single", *unsigned}:
            yield pytest.param(vector, id=path.stem)


def replay(vector: dict[str, Any], secret: str | None = None) -> calls.Answer:
    """Hands a recorded request to an emulator whose clock stands where the recorder's stood."""
    keys = vector["credentials"]
    names = (("access_key_id", "access_key_secret"), ("secret_id", "secret_key"), ("ak", "sk"))
    key_id, known = next((keys[name], keys[other]) for name, other in names if name in keys)
    user = vector["inputs"].get("user")
    settings = emulator.Settings(
        keys={user: vector["inputs"]["password"]} if user else {key_id: secret or known},
        temporary_keys={
            key_id: (secret or known, keys.get("token") or keys.get("security_token", ""))
        },
        versions=frozenset({"2018-05-09", "2017-01-12"}),
        clock=lambda: vector["frozen"]["epoch"],
        project_id=keys.get("project_id", ""),
    )
    return calls.pass_on(emulator.app(vector["vendor"], settings), vector["request"])


AUTHENTICATION_CODES = ("Signature", "AccessKeyId", "APIG.03", "AccessDenied", "TimeStamp", "MD5")


@pytest.mark.parametrize("vector", list(recorded_requests()))
def test_recorded_request_of_an_official_sdk_is_let_in(vector: dict[str, Any]) -> None:
    answer = replay(vector)
    assert not any(code in answer.text for code in AUTHENTICATION_CODES), answer.text


@pytest.mark.parametrize("vector", list(recorded_requests("iam_token")))
def test_recorded_request_is_refused_by_an_account_with_another_secret(
    vector: dict[str, Any],
) -> None:
    answer = replay(vector, secret="other")
    assert answer.status >= 400
    assert any(code in answer.text for code in AUTHENTICATION_CODES)


def test_alibaba_refuses_a_date_beyond_the_skew(urls: Urls) -> None:
    answer = calls.alibaba(urls["alibaba"], "scan", {}, date="Thu, 09 May 2024 08:30:15 GMT")
    assert (answer.status, answer.json["Code"]) == (400, "InvalidTimeStamp.Expired")


def test_alibaba_refuses_a_digest_of_another_body(urls: Urls) -> None:
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    answer = calls.alibaba(urls["alibaba"], "scan", {}, content_md5=other)
    assert answer.json["Code"] == "ContentMD5NotMatched"


def test_alibaba_refuses_a_nonce_that_was_used(urls: Urls) -> None:
    url = urls["alibaba"]
    answers = [calls.alibaba(url, "scan", {}, x_acs_signature_nonce="n1") for _ in range(2)]
    assert answers[0].json["code"] == 400
    assert answers[1].json["Code"] == "SignatureNonceUsed"


def test_alibaba_refuses_a_temporary_key_without_its_token(urls: Urls) -> None:
    answer = calls.alibaba(urls["alibaba"], "scan", {}, key=("tempid", "tempsecret"))
    assert answer.json["Code"] == "InvalidSecurityToken.Malformed"


def test_alibaba_answers_an_old_version_only_where_the_account_has_it(emulate: Emulate) -> None:
    old = {"x_acs_version": "2017-01-12"}
    answer = calls.alibaba(emulate("alibaba").url, "scan", {}, **old)
    assert (answer.status, answer.json["Code"]) == (400, "InvalidAction.NotFound")
    url = emulate("alibaba", versions=frozenset({"2017-01-12"})).url
    assert calls.alibaba(url, "scan", {}, **old).json["code"] == 400


@pytest.mark.parametrize(
    ("window", "code"),
    [((0, 1), "AccessDenied"), ((2**33, 2**33 + 1), "RequestTimeTooSkewed")],
    ids=["past", "future"],
)
def test_tencent_refuses_a_signature_outside_its_time(
    urls: Urls, window: tuple[int, int], code: str
) -> None:
    answer = calls.tencent(urls["tencent"], "GET", "/image/auditing/j", window=window)
    assert answer.status == 403
    assert f"<Code>{code}</Code>" in answer.text


def test_huawei_refuses_a_date_beyond_the_skew(urls: Urls) -> None:
    answer = calls.huawei(
        urls["huawei"], "GET", "/v1.0/moderation/image/batch", date="20210102T030405Z"
    )
    assert (answer.status, answer.json["error_code"]) == (401, "APIG.0301")


def test_huawei_takes_a_token_until_it_expires(emulate: Emulate) -> None:
    now = [1_000_000_000.0]
    url = emulate("huawei", clock=lambda: now[0], token_life_s=60).url
    answer = calls.token(url)
    assert answer.status == 201
    headers = {"X-Auth-Token": answer.headers["x-subject-token"]}
    body = json.dumps({"urls": [BLOCKED]}).encode()
    path = "/v1.0/moderation/image/batch"
    assert calls.send(url, "POST", path, headers, body).status == 200
    now[0] += 60
    refused = calls.send(url, "POST", path, headers, body)
    assert (refused.status, refused.json["error_code"]) == (401, "APIG.0301")


def test_huawei_refuses_a_wrong_password_and_a_token_of_no_project(urls: Urls) -> None:
    url = urls["huawei"]
    assert calls.token(url, password="wrong").status == 401
    headers = {"X-Auth-Token": calls.token(url, scope={}).headers["x-subject-token"]}
    answer = calls.send(url, "POST", "/v1.0/moderation/image/batch", headers, b"{}")
    assert answer.json["error_code"] == "AIS.0026"


def test_huawei_refuses_a_signature_that_leaves_the_date_out(emulate: Emulate) -> None:
    headers = {
        "authorization": f"SDK-HMAC-SHA256 Access=testid, SignedHeaders=host, Signature={'0' * 64}"
    }
    headers["x-sdk-date"] = "20210102T030405Z"
    url = emulate("huawei", clock=lambda: 1609556645.0).url
    answer = calls.send(url, "GET", "/v1.0/moderation/image/batch", headers)
    assert answer.json["error_msg"].endswith("verify aksk signature fail")
