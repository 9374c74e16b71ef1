"""The vendors' own SDKs against the emulator: this is why the emulator is trusted."""

import time
from typing import Any

import pytest
from official_sdks import URLS, drive, image, outcomes_of

from beam_moderation import emulator

pytestmark = pytest.mark.integration

ANSWERED = {
    "aliyun": [
        "scan",
        "scan_with_client_info",
        "scan_with_json_content_type",
        "scan_later",
        "feedback",
        "uploadcredentials",
        "temporary_key",
        "asyncscan_with_callback",
    ],
    "aliyun_upload": ["upload_bytes", "upload_file"],
    "cos": [
        "batch",
        "batch_of_every_kind",
        "batch_with_detect_type",
        "batch_without_signed_host",
        "batch_of_a_hundred",
        "audit_later",
        "feedback",
        "temporary_key",
    ],
    "huawei_v1": [
        "batch",
        "batch_by_default",
        "batch_with_threshold",
        "batch_of_a_unicode_url",
        "image_by_content",
        "image_by_url",
        "judge_later",
        "feedback",
        "temporary_key",
    ],
    "huawei_v3": [
        "batch",
        "batch_by_biz_type",
        "batch_with_glossaries",
        "batch_of_a_region",
        "batch_with_token",
        "image_by_content",
        "image_by_url",
        "token",
        "temporary_key",
    ],
}
ANSWERED["huawei_v2"] = ANSWERED["huawei_v1"]

UNKNOWN = "Unknown"
"""What cos-python-sdk-v5 makes of every error of CI: its parser insists on a node `Resource`."""


def refusals(operations: str, faults: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """The cases of `with_bad_keys`: operations by their names, and what each fault leads to."""
    return {
        f"{operation}_with_{fault}": refusal
        for operation in operations.split()
        for fault, refusal in faults.items()
    }


ALIYUN_KEYS = {
    "wrong_secret": (400, "SignatureDoesNotMatch"),
    "wrong_key": (404, "InvalidAccessKeyId.NotFound"),
}
ALIYUN_TOKEN = {"wrong_token": (400, "InvalidSecurityToken.Malformed")}
COS_KEYS = {
    "wrong_secret": (403, "SignatureDoesNotMatch"),
    "wrong_key": (403, "InvalidAccessKeyId"),
    "wrong_token": (403, "AccessDenied"),
}
HUAWEI_KEYS = dict.fromkeys(["wrong_secret", "wrong_key", "wrong_token"], (401, "APIG.0301"))

REFUSED = {
    "aliyun": {
        "wrong_secret": (400, "SignatureDoesNotMatch"),
        "wrong_key": (404, "InvalidAccessKeyId.NotFound"),
        **refusals("asyncscan results feedback uploadcredentials", ALIYUN_KEYS | ALIYUN_TOKEN),
        **refusals("scan", ALIYUN_TOKEN),
    },
    "aliyun_2017": {
        "scan": (400, "InvalidAction.NotFound"),
        "asyncscan": (400, "InvalidAction.NotFound"),
        "results": (400, "InvalidAction.NotFound"),
    },
    "cos": {
        "wrong_secret": (403, "SignatureDoesNotMatch"),
        "wrong_key": (403, "InvalidAccessKeyId"),
        "wrong_temporary_token": (403, "AccessDenied"),
        "too_many_inputs": (400, UNKNOWN),
        "unknown_job": (404, UNKNOWN),
        **refusals("query feedback", COS_KEYS),
    },
    "huawei_v1": {
        "wrong_secret": (401, "APIG.0301"),
        "wrong_key": (401, "APIG.0301"),
        "wrong_temporary_token": (401, "APIG.0301"),
        "too_many_urls": (400, "AIS.0012"),
        "unknown_job": (400, "AIS.0030"),
        **refusals("image submit result jobs feedback", HUAWEI_KEYS),
    },
    "huawei_v3": {
        **refusals("batch image", HUAWEI_KEYS),
        "wrong_password": (401, 401),
        "too_many_urls": (400, "AIS.0011"),
    },
}
REFUSED["huawei_v2"] = REFUSED["huawei_v1"]


def cases(table: dict[str, Any]) -> list[tuple[str, str]]:
    return [(sdk, case) for sdk, names in table.items() for case in names]


def answer_of(sdk: str, case: str) -> Any:
    outcome = outcomes_of(sdk)[case]
    assert "answer" in outcome, outcome
    return outcome["answer"]


@pytest.mark.parametrize(("sdk", "case"), cases(ANSWERED))
def test_operation_of_the_sdk_is_answered(sdk: str, case: str) -> None:
    assert answer_of(sdk, case)


@pytest.mark.parametrize(("sdk", "case"), cases(REFUSED))
def test_call_of_the_sdk_is_refused(sdk: str, case: str) -> None:
    error = outcomes_of(sdk)[case]["error"]
    assert (error["status"], error["code"]) == REFUSED[sdk][case]


def test_aliyun_reads_the_verdicts() -> None:
    items = answer_of("aliyun", "scan")["data"]
    assert [item["code"] for item in items] == [200, 200, 404]
    for url, item in zip(URLS, items[:2], strict=False):
        for result in item["results"]:
            true = emulator.truth("alibaba", url, result["scene"])
            assert (result["suggestion"], result["label"]) == (true.suggestion, true.label)
            assert result["rate"] == pytest.approx(true.score * 100)


def test_aliyun_reads_the_scenes_of_a_policy_which_beats_those_of_the_request() -> None:
    settings = emulator.Settings(biz_types={"policy_1": ["ad", "logo"]})
    outcomes = drive("aliyun", settings)
    results = outcomes["scan_by_biz_type"]["answer"]["data"][0]["results"]
    assert [result["scene"] for result in results] == ["ad", "logo"]


def test_aliyun_asks_for_a_callback_with_a_seed_alone() -> None:
    assert answer_of("aliyun", "asyncscan_with_callback")["data"][0]["taskId"]
    assert answer_of("aliyun", "callback_without_seed")["code"] == 400


def test_aliyun_reads_the_results_of_tasks() -> None:
    later, now = answer_of("aliyun", "scan_later"), answer_of("aliyun", "scan")
    assert {item["code"] for item in later["first"]["data"]} == {280}
    assert [item["code"] for item in later["last"]["data"]] == [200, 200, 404]
    results = [[item.get("results") for item in part["data"]] for part in (later["last"], now)]
    assert results[0] == results[1]


def test_aliyun_and_the_emulator_sign_the_same_string() -> None:
    strings = answer_of("aliyun", "string_to_sign_of_a_bad_secret")
    assert strings["theirs"].endswith(f"is:{strings['ours']}")


def test_aliyun_reads_an_error_of_the_service_as_an_answer() -> None:
    assert answer_of("aliyun", "no_scene")["code"] == 400
    assert answer_of("aliyun", "unknown_task")["data"][0]["code"] == 404


@pytest.mark.parametrize("case", ["upload_bytes", "upload_file"])
def test_uploaded_image_is_judged_by_its_bytes(case: str) -> None:
    answer = answer_of("aliyun_upload", case)
    assert answer["url"].startswith("oss://")
    for result in answer["data"][0]["results"]:
        true = emulator.truth("alibaba", image(), result["scene"])
        assert (result["suggestion"], result["label"]) == (true.suggestion, true.label)


def test_upload_with_a_wrong_secret_or_no_image_is_refused() -> None:
    outcomes = outcomes_of("aliyun_upload")
    assert outcomes["wrong_lent_secret"]["error"]["type"] == "SignatureDoesNotMatch"
    assert outcomes["no_image"]["answer"]["data"][0]["code"] == 590
    assert outcomes["never_uploaded"]["answer"]["data"][0]["code"] == 404


def test_requests_of_2017_are_answered_where_the_account_still_has_that_version() -> None:
    settings = emulator.Settings(versions=frozenset({"2017-01-12"}))
    outcomes = drive("aliyun_2017", settings)
    assert outcomes["scan"]["answer"]["data"][0]["results"][0]["suggestion"] == "block"
    assert "taskId" in outcomes["asyncscan"]["answer"]["data"][0]
    assert outcomes["results"]["answer"]["data"][0]["code"] == 404
    for case, refusal in refusals("scan asyncscan results", ALIYUN_KEYS).items():
        error = outcomes[case]["error"]
        assert (error["status"], error["code"]) == refusal


def test_cos_reads_the_verdicts() -> None:
    jobs = answer_of("cos", "batch")["JobsDetail"]
    assert jobs[2]["Code"] == emulator.failure("tencent", URLS[2])
    for url, job in zip(URLS, jobs[:2], strict=False):
        true = emulator.truth("tencent", url, "porn")
        hit = {"pass": "0", "block": "1", "review": "2"}[true.suggestion]
        assert (job["PornInfo"]["HitFlag"], job["PornInfo"]["Code"]) == (hit, "0")
        assert job["PornInfo"]["Score"] == str(round(true.score * 100))


def test_cos_reads_inputs_of_every_kind() -> None:
    by_object, by_content, illegal = answer_of("cos", "batch_of_every_kind")["JobsDetail"]
    assert (by_object["Object"], by_object["ForbidState"]) == ("ad-block/a&b.png", "1")
    assert len(by_object["AdsInfo"]["OcrResults"]) == 2
    assert by_object["UserInfo"] == {"TokenId": "tok", "Nickname": "张三"}
    true = emulator.truth("tencent", image(), "porn")
    assert by_content["PornInfo"]["Score"] == str(round(true.score * 100))
    assert (illegal["DataId"], illegal["Code"]) == ("illegal", "InvalidArgument")


def test_cos_reads_the_results_of_jobs() -> None:
    later = answer_of("cos", "audit_later")
    assert {job["State"] for job in later["submitted"]["JobsDetail"]} == {"Submitted"}
    assert later["first"]["JobsDetail"]["State"] == "Auditing"
    states = [answer["JobsDetail"]["State"] for answer in later["last"]]
    assert states == ["Success", "Success", "Failed"]


def test_cos_leaves_async_out_when_it_is_asked_for() -> None:
    jobs = answer_of("cos", "async_is_dropped_by_the_sdk")["JobsDetail"]
    assert jobs[0]["State"] == "Success"


@pytest.mark.parametrize("sdk", ["huawei_v1", "huawei_v2"])
def test_huawei_reads_the_verdicts(sdk: str) -> None:
    items = answer_of(sdk, "batch")["result"]
    assert items[2]["suggestion"] is None
    for url, item in zip(URLS, items[:2], strict=False):
        true = emulator.truth("huawei", url, "porn")
        assert item["category_suggestions"]["porn"] == true.suggestion
        assert (true.label, true.score) in {
            (entry["label"], entry["confidence"]) for entry in item["detail"]["porn"]
        }


@pytest.mark.parametrize("sdk", ["huawei_v1", "huawei_v2"])
def test_huawei_reads_the_result_of_a_job(sdk: str) -> None:
    later = answer_of(sdk, "judge_later")
    assert later["first"]["result"]["status"] == "running"
    suggestions = [item["suggestion"] for item in later["last"]["result"]["items"]]
    assert suggestions[0] == "block"
    assert suggestions[2] is None
    assert later["submitted"]["result"]["job_id"] in {
        job["job_id"] for job in later["jobs"]["result"]
    }


def test_huawei_v3_reads_the_verdicts() -> None:
    items = answer_of("huawei_v3", "batch")["results"]
    assert [item["data_id"] for item in items] == ["d_0", "d_1", "d_2"]
    assert items[2]["error_code"] == emulator.failure("huawei", URLS[2])
    for url, item in zip(URLS, items[:2], strict=False):
        for detail in item["details"]:
            true = emulator.truth("huawei", url, detail["category"])
            found = (detail["suggestion"], detail["label"], detail["confidence"])
            assert found == (true.suggestion, true.label, true.score)


def test_huawei_v3_reads_the_list_that_a_text_is_in() -> None:
    (item,) = answer_of("huawei_v3", "batch_with_glossaries")["results"]
    (detail,) = item["details"]
    assert (detail["category"], detail["suggestion"]) == ("image_text", "block")
    assert [segment["glossary_name"] for segment in detail["segments"]] == ["spam_words"]


def test_token_of_the_iam_sdk_opens_the_service() -> None:
    assert answer_of("huawei_v3", "token")["status"] == 201
    assert answer_of("huawei_v3", "batch_with_token")["result"][0]["suggestion"] == "block"


@pytest.mark.parametrize(
    ("sdk", "case", "code"),
    [
        ("aliyun", "scan", "InvalidTimeStamp.Expired"),
        ("cos", "batch", "AccessDenied"),
        ("huawei_v1", "batch", "APIG.0301"),
    ],
)
def test_sdk_whose_clock_is_a_day_late_is_refused(sdk: str, case: str, code: str) -> None:
    outcomes = drive(sdk, emulator.Settings(clock=lambda: time.time() + 86_400))
    assert outcomes[case]["error"]["code"] == code


@pytest.mark.parametrize(
    ("sdk", "case", "refusal"),
    [
        ("aliyun", "scan", (400, "Throttling.User")),
        ("cos", "batch", (503, UNKNOWN)),
        ("huawei_v1", "batch", (429, "APIG.0308")),
    ],
)
def test_sdk_over_quota_is_refused(sdk: str, case: str, refusal: tuple[int, str]) -> None:
    error = drive(sdk, emulator.Settings(calls_per_second=0))[case]["error"]
    assert (error["status"], error["code"]) == refusal
